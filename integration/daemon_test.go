//go:build integration

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newEngine starts one more engine of the kind under test.
func newEngine(t *testing.T) engine {
	t.Helper()
	first := theEngine(t)
	e := engine{kind: first.kind, dir: tempDir(t, first), flags: []string{"--live-restore"}}
	t.Cleanup(func() {
		command{t: t, name: script(t, "engine.sh"), args: []string{"stop", e.dir}}.must()
	})
	e.start(t)
	command{t: t, name: script(t, "image.sh"), args: []string{e.host}}.must()
	return e
}

// start starts the engine, anew after it was killed. Containers live on without it.
func (e *engine) start(t *testing.T) {
	t.Helper()
	e.host = command{t: t, name: script(t, "engine.sh"), args: append([]string{"start", e.kind, e.dir, "--"}, e.flags...)}.must()
}

// kill ends dockerd as a crash does.
func (e *engine) kill(t *testing.T) {
	t.Helper()
	e.end(t, unix.SIGKILL)
}

// end ends dockerd by a signal and waits for its end.
func (e *engine) end(t *testing.T, signal unix.Signal) {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(read(t, filepath.Join(e.dir, "docker.pid"))))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, signal); err != nil {
		t.Fatal(err)
	}
	eventually(t, "dockerd ends", 60*time.Second, func() error {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && !strings.Contains(string(data), ") Z ") {
			return fmt.Errorf("%d is there", pid)
		}
		return nil
	})
}

// dockerd is killed and comes back, on an engine of its own beside the others'. Its
// containers live through it, their files too, and what ends afterwards is unmounted.
func TestDaemonKilled(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	t.Run("rigs", func(t *testing.T) {
		rigs := []*rig{newRig(t, e, plain, settings{}), newRig(t, e, managed, settings{})}
		workers, volumes := make([]string, len(rigs)), make([]string, len(rigs))
		for i, r := range rigs {
			workers[i] = r.worker("alice")
			volumes[i] = r.volumeAt(workers[i], home)
			r.shell("bob", "echo mine >notes").must()
		}
		e.kill(t)
		e.start(t)
		for i, r := range rigs {
			r.awaitHealth()
			equal(t, string(r.form)+": containers after the restart", r.direct("ps", "-q", "--no-trunc", "--filter", "label=rig="+r.name).must(), workers[i])
			r.works(workers[i], "alice", "revived")
			r.awaitStatus(volumes[i], "mounts", "1")
			equal(t, string(r.form)+": volumes after the restart", len(r.volumes()), 2)
			equal(t, string(r.form)+": a session after the restart", r.shell("alice", "tail -n 1 held").must(), "revived")
			equal(t, string(r.form)+": bob's home", r.shell("bob", "cat notes").must(), "mine")
			r.end(workers[i])
			r.awaitStatus(volumes[i], "mounts", "0")
		}
	})
}
