package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// image is the small one of scripts/image.sh, a busybox.
const image = "valise-bench/desktop"

// startEngine starts a private Docker Engine, unless it runs.
func (b *bench) startEngine(ctx context.Context) error {
	if b.engine != "" {
		return nil
	}
	b.say("engine %s", b.kind)
	if err := b.command(ctx, "scripts/engine.sh", "install", b.kind).Run(); err != nil {
		return fmt.Errorf("install a Docker Engine: %w", err)
	}
	out, err := b.command(ctx, "scripts/engine.sh", "start", b.kind, b.engineDir()).Output()
	if err != nil {
		return fmt.Errorf("start a Docker Engine: %w", err)
	}
	b.engine = strings.TrimSpace(string(out))
	return b.command(ctx, "scripts/image.sh", b.engine, image).Run()
}

func (b *bench) engineDir() string { return filepath.Join(b.dirs.work, "engine") }

// stopEngine leaves nothing of it.
func (b *bench) stopEngine() error {
	if b.engine == "" {
		return nil
	}
	b.engine = ""
	return b.command(context.Background(), "scripts/engine.sh", "stop", b.engineDir()).Run()
}

// host is a driver and a proxy on the engine, a host of its own to others: it has a name
// and a state directory. Its workspaces are those below, and its profiles on S3 lie in one
// bucket.
type host struct {
	b      *bench
	name   string // and the driver's
	dir    string
	bucket string
	way    *link // to the bucket
	turn   int   // of its state directory
	calls  *callRecorder
	driver *daemon
	proxy  *daemon
	direct *http.Client // to the engine
	api    string       // the proxy's socket
}

// The workspaces of a host.
const (
	inDirectory = "directory"
	onS3        = "s3"
)

// newHost starts a host; it ends with the row.
func (b *bench) newHost(ctx context.Context, bucket string, way *link) (*host, error) {
	if err := b.startEngine(ctx); err != nil {
		return nil, err
	}
	b.made++
	h := &host{b: b, name: fmt.Sprintf("valise-bench-%d-%d", os.Getpid(), b.made), bucket: bucket, way: way}
	h.dir = filepath.Join(b.dirs.work, fmt.Sprintf("h%03d", b.made))
	h.api, h.direct = filepath.Join(h.dir, "docker.sock"), unixClient(strings.TrimPrefix(b.engine, "unix://"))
	b.hosts = append(b.hosts, h)
	if err := os.MkdirAll(filepath.Join(h.dir, "homes"), 0o755); err != nil {
		return nil, err
	}
	var err error
	if h.calls, err = recordCalls("/run/docker/plugins/"+h.name+".sock", h.socket()); err != nil {
		return nil, err
	}
	if err := h.startDriver(ctx); err != nil {
		return nil, err
	}
	h.proxy, err = b.startDaemon(ctx, h.dir+"-proxy.log", h.api, "proxy", "--config", h.config())
	return h, err
}

func (h *host) config() string   { return filepath.Join(h.dir, "config.toml") }
func (h *host) socket() string   { return filepath.Join(h.dir, "driver.sock") }
func (h *host) stateDir() string { return filepath.Join(h.dir, fmt.Sprintf("state%d", h.turn)) }

const hostConfig = `
state_dir = "@state"
host = "@name-@turn"
[plugin]
socket = "@dir/driver.sock"
admin = "unix://@dir/admin.sock"
[proxy]
upstream = "@engine"
driver = "@name"
[[proxy.listen]]
address = "unix://@dir/docker.sock"
policy = "trusted"
identity = ["valise"]
[roots."@dir/homes"]
[s3.upkeep]
enabled = false
[workspaces.directory]
profile = "@dir/homes/{username}"
[workspaces.s3]
profile = "s3://@store/{username}/"
`

// startDriver starts the driver with the state directory of this turn.
func (h *host) startDriver(ctx context.Context) (err error) {
	text := strings.NewReplacer("@dir", h.dir, "@state", h.stateDir(), "@turn", strconv.Itoa(h.turn), "@name", h.name,
		"@engine", h.b.engine, "@store", h.bucket+"@"+h.way.endpoint()).Replace(hostConfig)
	if err := os.WriteFile(h.config(), []byte(text), 0o600); err != nil {
		return err
	}
	h.driver, err = h.b.startDaemon(ctx, h.dir+"-driver.log", h.socket(), "plugin", "--config", h.config())
	return err
}

// renew makes the host a new one, which knows nothing of any profile. There are no
// sessions on it.
func (h *host) renew(ctx context.Context) error {
	if err := h.clear(ctx); err != nil {
		return err
	}
	if err := h.driver.end(); err != nil {
		return err
	}
	h.calls.client.CloseIdleConnections()
	if err := os.RemoveAll(h.stateDir()); err != nil {
		return err
	}
	h.turn++
	if err := h.startDriver(ctx); err != nil {
		return err
	}
	return dropCaches()
}

// clear waits until all profiles are saved, and has the engine forget the volumes.
func (h *host) clear(ctx context.Context) error {
	if err := h.saved(ctx); err != nil {
		return err
	}
	filters := url.QueryEscape(fmt.Sprintf(`{"driver":[%q]}`, h.name))
	var list struct{ Volumes []struct{ Name string } }
	if err := call(ctx, h.direct, http.MethodGet, "http://docker/volumes?filters="+filters, nil, &list); err != nil {
		return err
	}
	for _, v := range list.Volumes {
		if err := call(ctx, h.direct, http.MethodDelete, "http://docker/volumes/"+v.Name+"?force=1", nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// saved waits until no process serves a profile of this host any more.
func (h *host) saved(ctx context.Context) error {
	for range 6000 {
		pids, err := h.servers()
		if err != nil || len(pids) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Errorf("profiles of %s are not saved%s", h.name, tail(h.driver.log))
}

// servers are the processes that serve profiles of this host.
func (h *host) servers() ([]int, error) {
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, path := range all {
		args, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		if strings.Contains(string(args), "\x00mount\x00--settings\x00"+h.dir+"/") {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil {
				return nil, err
			}
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// close ends a host, with whatever is left of sessions.
func (h *host) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var errs []error
	if h.driver != nil && h.proxy != nil {
		errs = append(errs, h.removeSessions(ctx), h.clear(ctx))
	}
	errs = append(errs, h.proxy.end(), h.driver.end())
	pids, err := h.servers()
	errs = append(errs, err)
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	errs = append(errs, unmountBelow(h.dir))
	if h.calls != nil {
		errs = append(errs, h.calls.close())
	}
	return errors.Join(append(errs, os.RemoveAll(h.dir))...)
}

// daemon is a process of valise that serves until it is ended.
type daemon struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
}

// startDaemon returns when the process listens at a socket.
func (b *bench) startDaemon(ctx context.Context, log, socket string, args ...string) (*daemon, error) {
	d := &daemon{cmd: exec.Command(b.dirs.valise, args...), log: log, ended: make(chan struct{})}
	d.cmd.Env = os.Environ()
	if err := b.spawnLogged(d.cmd, log); err != nil {
		return nil, err
	}
	go func() {
		_ = d.cmd.Wait() // what it says is in the log
		close(d.ended)
	}()
	for {
		if conn, err := unixDialer(socket)(ctx, "", ""); err == nil {
			return d, conn.Close()
		}
		select {
		case <-d.ended:
			return nil, fmt.Errorf("valise %s ended%s", args[0], tail(log))
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), d.end())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (d *daemon) end() error {
	if d == nil {
		return nil
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-d.ended:
		return nil
	case <-time.After(killedWithin):
	}
	_ = d.cmd.Process.Signal(syscall.SIGKILL)
	<-d.ended
	return fmt.Errorf("%s does not end", d.cmd)
}
