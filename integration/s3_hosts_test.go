//go:build integration

package integration

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// twoHosts are rigs on two engines that have one bucket, with a workspace for each value
// of on_second_host.
func twoHosts(t *testing.T, f form) (one, two *rig) {
	t.Helper()
	store, prefix := newStore(t), unique("hosts-")
	s := onS3(store, `
[workspaces.desktop]
images  = ["valise-demo/desktop"]
profile = "@s3/desktop/{username}/"
[workspaces.waiting]
profile = "@s3/waiting/{username}/"
on_second_host = "wait"
[workspaces.readonly]
profile = "@s3/readonly/{username}/"
on_second_host = "readonly"
`)
	s.prefix, s.s3 = prefix, "lease = \"5s\"\nsync_interval = \"1s\""
	s.general = `host = "host-one"`
	one = newRig(t, theEngine(t), f, s)
	s.general = `host = "host-two"`
	return one, newRig(t, newEngine(t), f, s)
}

func TestS3Hosts(t *testing.T) {
	t.Parallel()
	for _, f := range []form{plain, managed} {
		t.Run(string(f), func(t *testing.T) {
			one, two := twoHosts(t, f)
			session := one.session("alice")
			one.in(session, "mkdir -p docs && echo first >docs/notes && mkfifo pipe && ln -s docs/notes link")
			// While it is up, a second login is refused, waits, or sees it read-only.
			two.shell("alice", "true").refused("host-one")
			one.end(session)
			equal(t, "the next login, elsewhere", two.shell("alice", "cat link; stat -c %F pipe; echo second >>docs/notes").must(), "first\nfifo")
			equal(t, "and back", one.shell("alice", "cat docs/notes").must(), "first\nsecond")

			session = one.session("bob", "--label", "valise.workspace=readonly")
			one.in(session, "echo his >notes")
			eventually(t, "a read-only session sees what is saved", 30*time.Second, func() error {
				o := two.shell("bob", "cat notes; touch x 2>&1", "--label", "valise.workspace=readonly").run()
				if !strings.Contains(o.stdout, "his") || !strings.Contains(o.stdout, "Read-only file system") {
					return fmt.Errorf("%s%s", o.stdout, o.stderr)
				}
				return nil
			})
			one.end(session)

			session = one.session("carol", "--label", "valise.workspace=waiting")
			one.in(session, "echo hers >notes")
			waiting := two.shell("carol", "cat notes", "--label", "valise.workspace=waiting").follow()
			eventually(t, "the second host waits", 20*time.Second, func() error {
				if !strings.Contains(two.driverLog(), "waiting: ") {
					return errors.New("it has not said so")
				}
				return nil
			})
			one.end(session)
			waiting.next("hers")
			one.awaitSaved()
			two.awaitSaved()
		})
	}
}

// A host that dies is taken over after its lease; what it saves later is kept beside the
// main line, and its sessions end well.
func TestS3DeadHost(t *testing.T) {
	t.Parallel()
	for _, f := range []form{plain, managed} {
		t.Run(string(f), func(t *testing.T) {
			one, two := twoHosts(t, f)
			session := one.session("alice")
			one.in(session, "echo saved >notes")
			volume := one.volumeAt(session, home)
			eventually(t, "a save", 20*time.Second, func() error {
				if one.inspect(volume).Status["snapshot"] != "1" {
					return errors.New("there is none yet")
				}
				return nil
			})
			// A host that hangs is as good as dead to others.
			frozen := []int{one.mountProcess("alice", serving), one.mountProcess("alice", supervisor)}
			one.in(session, "echo late >late")
			for _, pid := range frozen {
				freeze(t, pid, true)
			}
			eventually(t, "the other host takes over", 40*time.Second, func() error {
				o := two.shell("alice", "cat notes; echo other >other").run()
				if o.code != 0 {
					return errors.New(o.stderr)
				}
				return wantText(o.stdout, "saved\n")
			})
			two.awaitSaved()
			for _, pid := range frozen {
				freeze(t, pid, false)
			}
			eventually(t, "the late work is kept aside", 30*time.Second, func() error {
				return wantText(fmt.Sprint(one.inspect(volume).Status["conflict"]), "true")
			})
			one.end(session)
			one.awaitSaved()
			list := one.snapshots("desktop/alice/")
			contains(t, "the snapshots", list, "conflict")
			equal(t, "the next session", one.shell("alice", "cat notes other; ls").must(), "saved\nother\nnotes\nother")
			one.awaitSaved()
		})
	}
}
