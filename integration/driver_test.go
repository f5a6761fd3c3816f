//go:build integration

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// socket is where the driver answers the volume protocol, on the host.
func (r *rig) socket() string {
	if r.form == plain {
		return "/run/docker/plugins/" + r.name + ".sock"
	}
	return "/run/docker/plugins/valise.sock" // as the plugin sees it
}

// startDriver starts the plain driver.
func (r *rig) startDriver() {
	r.t.Helper()
	if r.settings.activated {
		r.driver = startActivated(r.t, r.listening(), "plugin", "--config", r.configFile())
	} else {
		cmd := exec.Command(binary(r.t), "plugin", "--config", r.configFile())
		cmd.Env = append(os.Environ(), r.settings.env...)
		r.driver = startCommand(r.t, cmd)
	}
	if !r.settings.faulty {
		r.driver.awaits(r.t, "msg=restored")
	}
}

// listening is the socket that outlives the driver, as one of systemd's does.
func (r *rig) listening() *os.File {
	r.t.Helper()
	if r.handed != nil {
		return r.handed
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: r.socket(), Net: "unix"})
	if err != nil {
		r.t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if r.handed, err = l.File(); err != nil {
		r.t.Fatal(err)
	}
	l.Close()
	r.t.Cleanup(func() { r.handed.Close() })
	return r.handed
}

// stage copies the staged plugin and makes it one of its own: Docker 20.10 refuses a
// second plugin with the content of a first.
func (r *rig) stage() string {
	r.t.Helper()
	dir := filepath.Join(r.dir, "plugin")
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	command{t: r.t, name: "cp", args: []string{"-a", environment(r.t, "VALISE_PLUGIN_DIR"), dir}}.must()
	write(r.t, filepath.Join(dir, "rootfs/tmp/rig"), r.name)
	return dir
}

// script is the command line of scripts/plugin.sh for the rig's plugin.
func (r *rig) script(verb string, env ...string) command {
	return command{t: r.t, name: script(r.t, "plugin.sh"), args: []string{verb}, env: append([]string{
		"DOCKER_HOST=" + r.engine.host, "PLUGIN_NAME=" + r.name, "PLUGIN_DIR=" + r.stage(),
		"PROFILES=" + r.mnt, "CONFIG=" + filepath.Join(r.dir, "etc"),
		"STATE=" + filepath.Join(r.dir, "lib"), "RUN=" + filepath.Join(r.dir, "run"),
		"SETTINGS=" + strings.Join(r.settings.env, " "),
	}, env...)}
}

// install installs the managed plugin.
func (r *rig) install() {
	r.t.Helper()
	if r.settings.faulty {
		r.script("install").refused("refuses everything until", r.configFile())
		return
	}
	r.script("install").must()
	r.awaitHealth()
}

// awaitHealth waits until the driver serves.
func (r *rig) awaitHealth() {
	r.t.Helper()
	eventually(r.t, "the driver is healthy", 20*time.Second, func() error {
		a, err := request(r.admin, "GET", "/healthz", nil)
		if err == nil && a.status != 200 {
			err = errors.New(a.body)
		}
		return err
	})
}

// removeDriver ends the driver in whatever state it is.
func (r *rig) removeDriver() {
	if r.form == plain {
		if r.driver.running() {
			r.driver.stop(r.t, terminate)
			if state := r.driver.cmd.ProcessState; !r.driver.running() && !state.Success() {
				r.t.Errorf("driver: %s after SIGTERM\n%s", state, r.driver.output())
			}
		}
		if err := retired.answer(r.socket()); err != nil {
			r.t.Error(err)
		}
		return
	}
	if o := r.direct("plugin", "inspect", r.name).run(); o.code != 0 {
		return
	}
	_ = r.direct("plugin", "disable", "-f", r.name).run() // it may be disabled
	if o := r.direct("plugin", "rm", "-f", r.name).run(); o.code != 0 {
		r.t.Errorf("remove plugin %s: %s", r.name, o.stderr)
	}
}

// killDriver ends the driver as a crash does.
func (r *rig) killDriver() {
	r.t.Helper()
	if r.form == plain {
		r.driver.stop(r.t, kill)
		return
	}
	pid := r.driverPID()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		r.t.Fatal(err)
	}
	eventually(r.t, "the plugin's process ends", 10*time.Second, func() error {
		if unix.Kill(pid, 0) == nil {
			return fmt.Errorf("%d is there", pid)
		}
		return nil
	})
}

// reviveDriver brings the killed driver back: Docker restarts a managed plugin itself.
func (r *rig) reviveDriver() {
	r.t.Helper()
	if r.form == plain {
		r.startDriver()
		return
	}
	r.awaitHealth()
}

// pluginID is the managed plugin's.
func (r *rig) pluginID() string {
	r.t.Helper()
	return r.direct("plugin", "inspect", "-f", "{{.Id}}", r.name).must()
}

// driverPID finds the driver's process. A managed plugin's is the child of the shim
// that has the plugin's id among its arguments.
func (r *rig) driverPID() int {
	r.t.Helper()
	if r.form == plain {
		return r.driver.cmd.Process.Pid
	}
	id := r.pluginID()
	found := 0
	eventually(r.t, "the plugin's process", 20*time.Second, func() error {
		shims, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			return err
		}
		for _, path := range shims {
			args, _ := os.ReadFile(path) // it may have ended
			if !bytes.Contains(args, []byte("-id\x00"+id+"\x00")) {
				continue
			}
			tasks, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "task/*/children"))
			for _, task := range tasks {
				children, _ := os.ReadFile(task)
				for _, child := range strings.Fields(string(children)) {
					found, err = strconv.Atoi(child)
					return err
				}
			}
		}
		return fmt.Errorf("none of plugin %s", id)
	})
	return found
}

// driverLog is what the driver said; a managed plugin speaks in its daemon's log.
func (r *rig) driverLog() string {
	if r.form == plain {
		if r.driver == nil {
			return ""
		}
		return r.driver.output()
	}
	o := r.direct("plugin", "inspect", "-f", "{{.Id}}", r.name).run()
	id := strings.TrimSpace(o.stdout)
	data, err := os.ReadFile(filepath.Join(r.engine.dir, "dockerd.log"))
	if err != nil || id == "" {
		return fmt.Sprint(o.stderr, err)
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, id) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// propagate makes dir a mount point that shares what is mounted below it with its
// copies, or does not, until the test ends.
func propagate(t *testing.T, dir string, shared bool) {
	t.Helper()
	bind(t, dir, dir)
	how := uintptr(unix.MS_PRIVATE)
	if shared {
		how = unix.MS_SHARED
	}
	if err := unix.Mount("", dir, "", how, ""); err != nil {
		t.Fatalf("propagation of %s: %v", dir, err)
	}
}
