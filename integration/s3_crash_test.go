//go:build integration

package integration

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The two processes of a mounted profile.
const (
	supervisor = "supervisor" // keeps the FUSE device
	serving    = "worker"     // serves it, and saves
)

// mountProcess finds a process that serves a user's profile.
func (r *rig) mountProcess(user, kind string) int {
	r.t.Helper()
	found := 0
	eventually(r.t, kind+" of "+user, 10*time.Second, func() (err error) {
		found, err = r.processWith("\x00mount\x00--settings\x00", "_desktop_"+user+"-", func(env []byte) bool {
			return bytes.Contains(env, []byte("VALISE_MOUNT_WORKER=")) == (kind == serving)
		})
		return err
	})
	return found
}

// processWith finds a process of the rig by words of its arguments and what its
// environment has to be like.
func (r *rig) processWith(verb, profile string, fits ...func(env []byte) bool) (int, error) {
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, path := range lines {
		args, _ := os.ReadFile(path) // it may have ended
		if !bytes.Contains(args, []byte(verb)) || !bytes.Contains(args, []byte(cmp.Or(r.settings.prefix, r.name)+profile)) {
			continue
		}
		env, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "environ"))
		if len(env) > 0 && !slices.ContainsFunc(fits, func(fit func([]byte) bool) bool { return !fit(env) }) {
			return strconv.Atoi(filepath.Base(filepath.Dir(path)))
		}
	}
	return 0, fmt.Errorf("there is none")
}

// killProcess ends a process as a crash does, and waits for its end.
func killProcess(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, fmt.Sprintf("the end of process %d", pid), 10*time.Second, func() error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && !bytes.Contains(stat, []byte(") Z ")) {
			return fmt.Errorf("it is there")
		}
		return nil
	})
}

// driverProcess is the driver's own: in a managed plugin a child of the first process.
func (r *rig) driverProcess() int {
	r.t.Helper()
	pid := r.driverPID()
	if r.form == plain {
		return pid
	}
	found := 0
	eventually(r.t, "the driver's process", 10*time.Second, func() error {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
		if err != nil {
			return err
		}
		for _, task := range tasks {
			children, _ := os.ReadFile(task)
			for _, child := range strings.Fields(string(children)) {
				found, err = strconv.Atoi(child)
				return err
			}
		}
		return fmt.Errorf("%d has no child", pid)
	})
	return found
}

// goesOn tells a worker to append word and wants it in both of its files, one open since
// its start and one found by its working directory; it reads what lies on S3 as well.
func (r *rig) goesOn(worker, word string) {
	r.t.Helper()
	r.docker("exec", worker, "sh", "-c", "echo "+word+" >/tmp/orders").must()
	for _, file := range []string{"held", "relative"} {
		eventually(r.t, word+" in "+file, 20*time.Second, func() error {
			return wantText(r.docker("exec", worker, "sh", "-c", "tail -n 1 "+file).run().stdout, word+"\n")
		})
	}
}

// stored makes a user's home with content that has to be read from S3, and returns the
// digest of all of it.
func (r *rig) stored(user string) string {
	r.t.Helper()
	digest := r.shell(user, `mkdir -p many && i=0 && while [ $i -lt 200 ]; do echo $i >many/$i; i=$((i+1)); done
		head -c 9000000 /dev/urandom >big; cat many/* big | md5sum`).must()
	r.awaitSaved()
	return digest
}

// Sessions notice nothing when the processes are killed that serve them: the driver, the
// two of a mount, the first of the managed plugin. Nothing is lost.
func TestS3ProcessesKilled(t *testing.T) {
	bothForms(t, onS3(newStore(t), ""), func(t *testing.T, r *rig) {
		digest := r.stored("alice")
		alice, bob := r.worker("alice"), r.worker("bob")
		volume := r.volumeAt(alice, home)
		read := func() { r.t.Helper(); equal(t, "what lies on S3", r.in(alice, "cat many/* big | md5sum"), digest) }

		killProcess(t, r.driverProcess())
		r.goesOn(alice, "without-driver")
		r.reviveDriver()
		r.goesOn(alice, "new-driver")
		r.awaitStatus(volume, "mounts", "1")

		killProcess(t, r.mountProcess("alice", serving))
		r.goesOn(alice, "new-worker")
		read()
		killProcess(t, r.mountProcess("alice", supervisor))
		r.goesOn(alice, "no-supervisor")
		r.goesOn(bob, "undisturbed")
		if r.form == managed {
			r.killDriver()
			r.goesOn(alice, "no-plugin")
			r.reviveDriver()
			r.goesOn(alice, "new-plugin")
			r.goesOn(bob, "new-plugin")
			read()
		}
		r.awaitStatus(volume, "state", "mounted")
		equal(t, "a second session", r.shell("alice", "tail -n 1 held").must(), r.in(alice, "tail -n 1 relative"))
		want := r.in(alice, "cat held relative | md5sum")
		r.end(alice)
		r.end(bob)
		r.awaitSaved()
		equal(t, "alice's next session", r.shell("alice", "cat held relative | md5sum; cat many/* big | md5sum").must(), want+"\n"+digest)
		contains(t, "bob's next session", r.shell("bob", "cat held").must(), "undisturbed")
		r.awaitSaved()
	})
}

// All processes of a mount die at once under a session: what it goes on writing is saved,
// and after a restart of the container all is there.
func TestS3MountKilled(t *testing.T) {
	bothForms(t, onS3(newStore(t), ""), func(t *testing.T, r *rig) {
		digest := r.stored("alice")
		session, other := r.session("alice"), r.worker("bob")
		r.in(session, "echo before >notes")
		for _, kind := range []string{supervisor, serving} {
			killProcess(t, r.mountProcess("alice", kind))
		}
		r.in(session, "echo after >>notes")
		r.goesOn(other, "undisturbed")
		volume := r.volumeAt(session, home)
		r.awaitStatus(volume, "state", "mounted")
		r.in(session, "echo later >>notes")
		r.docker("restart", "-t", "0", session).must()
		equal(t, "after a restart", r.in(session, "cat notes; cat many/* big | md5sum"), "before\nafter\nlater\n"+digest)
		r.end(session)
		r.end(other)
		r.awaitSaved()
		equal(t, "the next session", r.shell("alice", "cat notes").must(), "before\nafter\nlater")
		r.awaitSaved()
	})
}

// freeze stops a process as a machine that hangs does, or lets it go on.
func freeze(t *testing.T, pid int, stop bool) {
	t.Helper()
	s := unix.SIGCONT
	if stop {
		s = unix.SIGSTOP
	}
	if err := unix.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}

// Disabling the plugin takes the home out of its sessions, as documented, for Docker
// unmounts it. What they write by the files and directories that they hold is saved all
// the same, and a new session waits for their end.
func TestS3PluginReenabled(t *testing.T) {
	t.Parallel()
	r := newRig(t, theEngine(t), managed, onS3(newStore(t), ""))
	r.stored("alice")
	worker := r.worker("alice")
	volume := r.volumeAt(worker, home)
	r.direct("plugin", "disable", "-f", r.name).must()
	r.docker("exec", worker, "sh", "-c", "echo disabled >/tmp/orders").must()
	r.direct("plugin", "enable", r.name).must()
	r.awaitHealth()
	r.docker("exec", worker, "sh", "-c", "echo enabled >/tmp/orders").must()
	r.awaitStatus(volume, "mounts", "1")
	r.shell("alice", "true").refused("before the driver was disabled")
	r.end(worker)
	r.awaitSaved()
	equal(t, "the next session", r.shell("alice", "cat held; cat relative").must(), "ready\ndisabled\nenabled\ndisabled\nenabled")
	r.awaitSaved()
}

func TestS3PluginReinstalled(t *testing.T) {
	t.Parallel()
	r := newRig(t, theEngine(t), managed, onS3(newStore(t), ""))
	session := r.session("alice")
	r.in(session, "echo mine >notes")
	r.script("install").refused("running containers", "FORCE=1")
	r.end(session)
	r.script("install").must()
	r.awaitHealth()
	equal(t, "after reinstalling", r.shell("alice", "cat notes; echo again >>notes").must(), "mine")
	r.script("remove").must()
	r.script("install").must()
	r.awaitHealth()
	r.awaitSaved()
	equal(t, "after removing and installing", r.shell("alice", "cat notes").must(), "mine\nagain")
	r.awaitSaved()
}

// A host that is drained says what is saved and what is not; the store is away for a while.
func TestS3Drain(t *testing.T) {
	s := onS3(newStore(t), "")
	s.s3 = `sync_interval = "1h"`
	bothForms(t, s, func(t *testing.T, r *rig) {
		alice, bob := r.session("alice"), r.session("bob")
		r.in(alice, "echo mine >notes")
		r.in(bob, "echo his >notes")
		volume := r.volumeAt(alice, home)
		r.end(bob)
		drain := r.valise("drain")
		o := drain.run()
		equal(t, "exit code while a session is up", o.code, 3)
		contains(t, "drain", o.stdout, "/desktop/alice/: saved up to now, and still in use")
		equal(t, "alice's is saved", r.inspect(volume).Status["snapshot"], any("1"))
		r.shell("carol", "true").refused("being drained")
		r.end(alice)
		r.awaitSaved()
		equal(t, "drain of a host with nothing", drain.must(), "")
		r.valise("drain", "--undo").must()
		equal(t, "alice's next session", r.shell("alice", "cat notes").must(), "mine")
		r.awaitSaved()
	})
}

// The power fails under sessions: all processes of an engine, the driver and the mounts
// die at once. What was written is saved when the host is up again, without anybody's
// login, and restarted containers have it.
func TestS3PowerCut(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	for _, f := range []form{plain, managed} {
		t.Run(string(f), func(t *testing.T) {
			e := newEngine(t)
			r := newRig(t, e, f, onS3(store, ""))
			digest := r.stored("alice")
			again := r.session("alice", "--restart", "always")
			once := r.session("bob")
			for _, c := range []string{again, once} {
				r.in(c, "echo written >notes; sync")
			}
			var pids []int
			for _, c := range []string{again, once} {
				pid, err := strconv.Atoi(r.direct("inspect", "-f", "{{.State.Pid}}", c).must())
				if err != nil {
					t.Fatal(err)
				}
				pids = append(pids, pid)
			}
			for _, user := range []string{"alice", "bob"} {
				pids = append(pids, r.mountProcess(user, supervisor), r.mountProcess(user, serving))
			}
			if f == managed {
				pids = append(pids, r.driverProcess())
			}
			pids = append(pids, r.driverPID())
			e.kill(t)
			for _, pid := range pids {
				_ = unix.Kill(pid, unix.SIGKILL) // another's end may have been its own
			}
			if f == plain {
				<-r.driver.done
				r.startDriver()
			}
			e.start(t)
			r.awaitHealth()
			eventually(t, "alice's container runs again", 60*time.Second, func() error {
				return wantText(r.direct("inspect", "-f", "{{.State.Running}}", again).run().stdout, "true\n")
			})
			equal(t, "alice's home", r.in(again, "cat notes; cat many/* big | md5sum"), "written\n"+digest)
			equal(t, "bob's next session", r.shell("bob", "cat notes").must(), "written")
			// Docker takes a mount of before back when its container ran again.
			r.direct("start", once).must()
			r.end(again)
			r.end(once)
			r.awaitSaved()
		})
	}
}

// dockerd dies or restarts, with live-restore under sessions that go on, and without it
// with sessions that it ends and starts again.
func TestS3DaemonRestarts(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	for _, f := range []form{plain, managed} {
		t.Run(string(f), func(t *testing.T) {
			e := newEngine(t)
			r := newRig(t, e, f, onS3(store, ""))
			digest := r.stored("alice")
			worker := r.worker("alice")
			volume := r.volumeAt(worker, home)
			for i, signal := range []unix.Signal{unix.SIGKILL, unix.SIGTERM} {
				e.end(t, signal)
				e.start(t)
				r.awaitHealth()
				r.goesOn(worker, fmt.Sprintf("again-%d", i))
				equal(t, "what lies on S3", r.in(worker, "cat many/* big | md5sum"), digest)
				r.awaitStatus(volume, "mounts", "1")
			}
			equal(t, "a second session", r.shell("alice", "tail -n 1 held").must(), "again-1")
			r.end(worker)
			r.awaitSaved()

			e.flags = nil
			e.end(t, unix.SIGTERM)
			e.start(t)
			r.awaitHealth()
			session := r.session("alice", "--restart", "always")
			r.in(session, "echo written >notes")
			e.end(t, unix.SIGTERM)
			e.start(t)
			r.awaitHealth()
			eventually(t, "the session runs again", 60*time.Second, func() error {
				return wantText(r.direct("inspect", "-f", "{{.State.Running}}", session).run().stdout, "true\n")
			})
			equal(t, "its home", r.in(session, "cat notes; cat many/* big | md5sum"), "written\n"+digest)
			r.end(session)
			r.awaitSaved()
		})
	}
}
