//go:build integration

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// worker is a container that holds a file open and its home as working directory, and
// appends what it is told through a FIFO to the file: each by what it held before.
func (r *rig) worker(user string) string {
	r.t.Helper()
	id := r.create("run", user, "-d", image, "sh", "-c",
		"mkfifo /tmp/orders; exec 3<>/tmp/orders 4>>held; echo ready >&4; while read -r line <&3; do echo $line >&4; echo $line >>relative; done").must()
	eventually(r.t, "the worker is ready", 10*time.Second, func() error {
		o := r.docker("exec", id, "cat", "held").run()
		return wantText(o.stdout, "ready\n")
	})
	return id
}

// works tells a worker to append word and wants it in both files of the user's home.
func (r *rig) works(worker, user, word string) {
	r.t.Helper()
	r.docker("exec", worker, "sh", "-c", "echo "+word+" >/tmp/orders").must()
	for _, file := range []string{"held", "relative"} {
		eventually(r.t, word+" in "+file, 10*time.Second, func() error {
			got, err := os.ReadFile(r.path("desktop", user, file))
			if err == nil && !strings.HasSuffix(string(got), word+"\n") {
				err = fmt.Errorf("it holds %q", got)
			}
			return err
		})
	}
}

func TestDriverKilled(t *testing.T) {
	bothForms(t, settings{}, func(t *testing.T, r *rig) {
		worker := r.worker("alice")
		volume := r.volumeAt(worker, home)
		r.volume(r.name+"-idle", "workspace=desktop", "username=bob").must()
		before := r.inspect(volume)
		listed := r.volumes()

		r.killDriver()
		r.works(worker, "alice", "without")
		r.reviveDriver()
		r.works(worker, "alice", "revived")
		after := r.inspect(volume)
		equal(t, "mounts after the restart", fmt.Sprint(after.Status["mounts"]), "1")
		equal(t, "path after the restart", after.Status["path"], before.Status["path"])
		if got := r.volumes(); !slices.Equal(got, listed) {
			t.Errorf("volumes after the restart: got %v, want %v", got, listed)
		}
		r.shell("alice", "true", "--label", "valise.profile=reset").refused("is in use")

		second := r.session("alice")
		equal(t, "a session after the restart", r.in(second, "tail -n 1 held"), "revived")
		r.awaitStatus(volume, "mounts", "2")
		r.works(worker, "alice", "both")
		equal(t, "the second session", r.in(second, "tail -n 1 held"), "both")
		r.end(worker)
		r.awaitStatus(volume, "mounts", "1")
		r.end(second)
		r.awaitStatus(volume, "mounts", "0")
		if r.form == plain {
			eventually(t, "the mount goes", 30*time.Second, func() error {
				return wantText(mountsBelow(t, filepath.Join(r.dir, "lib")), "[]")
			})
		}
		equal(t, "alice's next session", r.shell("alice", "tail -n 1 held").must(), "both")
		equal(t, "a reset when unused", r.shell("alice", "ls -A", "--label", "valise.profile=reset").must(), "")
	})
}

// What the driver had promised before it was killed in the middle holds.
func TestDriverKilledWhileResetting(t *testing.T) {
	bothForms(t, settings{}, func(t *testing.T, r *rig) {
		r.shell("alice", "i=0; while [ $i -lt 3000 ]; do : >f$i; i=$((i+1)); done").must()
		r.api("POST", "/containers/create", r.container(map[string]string{"valise.user": "alice", "valise.profile": "reset"})).created(t, "reset")
		r.killDriver()
		r.reviveDriver()
		equal(t, "the home", r.shell("alice", "ls -A").must(), "")
		eventually(t, "the old home is deleted", 20*time.Second, func() error {
			return wantText(names(t, r.path("desktop")), "alice")
		})
	})
}

// A container stopped and started again has the same volume and files.
func TestContainerRestart(t *testing.T) {
	bothForms(t, settings{}, func(t *testing.T, r *rig) {
		session := r.session("alice")
		volume := r.volumeAt(session, home)
		r.in(session, "echo mine >notes")
		r.docker("stop", "-t", "0", session).must()
		r.awaitStatus(volume, "mounts", "0")
		r.docker("start", session).must()
		equal(t, "after stop and start", r.in(session, "cat notes"), "mine")
		r.docker("restart", "-t", "0", session).must()
		equal(t, "after restart", r.in(session, "cat notes"), "mine")
		r.docker("kill", session).must()
		r.awaitStatus(volume, "mounts", "0")
	})
}

func TestPluginReenabled(t *testing.T) {
	t.Parallel()
	r := newRig(t, theEngine(t), managed, settings{})
	worker := r.worker("alice")
	volume := r.volumeAt(worker, home)
	r.direct("plugin", "disable", "-f", r.name).must()
	r.works(worker, "alice", "disabled")
	r.direct("plugin", "enable", r.name).must()
	r.awaitHealth()
	r.works(worker, "alice", "enabled")
	r.awaitStatus(volume, "mounts", "1")
	equal(t, "a session after it", r.shell("alice", "tail -n 1 held").must(), "enabled")
	r.end(worker)
	r.awaitStatus(volume, "mounts", "0")
}

func TestPluginReinstalled(t *testing.T) {
	t.Parallel()
	r := newRig(t, theEngine(t), managed, settings{})
	r.shell("alice", "echo mine >notes").must()
	session := r.session("bob")
	r.script("install").refused("running containers", "FORCE=1")
	r.script("remove").refused("running containers", "FORCE=1")
	r.in(session, "echo undisturbed >notes")
	r.end(session)
	listed := r.volumes()

	r.script("install").must()
	r.awaitHealth()
	if got := r.volumes(); !slices.Equal(got, listed) || len(got) != 2 {
		t.Errorf("volumes after reinstalling: got %v, want %v", got, listed)
	}
	equal(t, "alice's home after reinstalling", r.shell("alice", "cat notes").must(), "mine")
	contains(t, "profiles after reinstalling", r.valise("profile", "ls").must(), "/mnt/desktop/alice", "/mnt/desktop/bob")

	r.script("remove").must()
	r.direct("plugin", "inspect", r.name).refused("o such plugin")
	equal(t, "alice's notes after remove", read(t, r.path("desktop/alice/notes")), "mine\n")
	r.script("remove").must()
	r.script("install").must()
	r.awaitHealth()
	equal(t, "alice's home after remove and install", r.shell("alice", "cat notes").must(), "mine")
	for _, v := range listed {
		equal(t, "kind of "+v, r.inspect(v).Status["kind"], any("profile"))
	}
}

// With a socket that systemd holds, Docker's calls wait for a driver that is away.
func TestSocketActivation(t *testing.T) {
	r := plainForm(t, settings{activated: true})
	worker := r.worker("alice")
	volume := r.volumeAt(worker, home)
	r.driver.stop(t, kill)
	run := r.shell("bob", "echo came").follow()
	r.works(worker, "alice", "without")
	r.startDriver()
	run.next("came")
	r.awaitStatus(volume, "mounts", "1")
	r.end(worker)
	r.awaitStatus(volume, "mounts", "0")
	r.driver.stop(t, terminate)
	if _, err := os.Stat(r.socket()); err != nil {
		t.Errorf("systemd's socket after the driver's end: %v", err)
	}
	r.startDriver()
}

// Where the host's mounts do not propagate, the operator is told.
func TestPrivatePropagation(t *testing.T) {
	t.Parallel()
	told := "mount propagation is private"
	private := newRig(t, theEngine(t), managed, settings{private: true, noProxy: true})
	eventually(t, "the driver says so", 10*time.Second, func() error {
		if !strings.Contains(private.driverLog(), told) {
			return fmt.Errorf("it says %s", private.driverLog())
		}
		return nil
	})
	shared := newRig(t, theEngine(t), managed, settings{noProxy: true})
	if strings.Contains(shared.driverLog(), told) {
		t.Errorf("told with shared mounts too: %s", shared.driverLog())
	}
}
