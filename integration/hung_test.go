//go:build integration

package integration

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// deaf is a file system whose server never answers, as a dead NFS server's.
type deaf struct {
	fuse.RawFileSystem
	hung chan struct{} // one element for each request that hangs
	over chan struct{} // closed when the test ends
}

func (d *deaf) hang() fuse.Status {
	select {
	case d.hung <- struct{}{}:
	default:
	}
	<-d.over
	return fuse.EIO
}

func (d *deaf) Lookup(<-chan struct{}, *fuse.InHeader, string, *fuse.EntryOut) fuse.Status {
	return d.hang()
}

func (d *deaf) GetAttr(<-chan struct{}, *fuse.GetAttrIn, *fuse.AttrOut) fuse.Status { return d.hang() }

func (d *deaf) StatFs(<-chan struct{}, *fuse.InHeader, *fuse.StatfsOut) fuse.Status { return d.hang() }

// mountDeaf mounts such a file system until the test ends.
func mountDeaf(t *testing.T, at string) *deaf {
	t.Helper()
	d := &deaf{fuse.NewDefaultRawFileSystem(), make(chan struct{}, 1000), make(chan struct{})}
	server, err := fuse.NewServer(d, mkdir(t, at), &fuse.MountOptions{
		DirectMountStrict: true, AllowOther: true, FsName: "deaf", MaxBackground: 1000,
	})
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve()
	t.Cleanup(func() {
		close(d.over)
		if err := server.Unmount(); err != nil {
			unmountBelow(t, at)
		}
		server.Wait()
	})
	return d
}

const hungTables = desktop + `
[workspaces.required]
[workspaces.required.volume_mappings."@mnt/deaf/{username}"]
bind = "/required"
timeout = 2
[workspaces.optional]
[workspaces.optional.volume_mappings."@mnt/deaf"]
bind = "/optional"
required = false
timeout = 2
[workspaces.patient]
[workspaces.patient.volume_mappings."@mnt/deaf/slow"]
bind = "/slow"
timeout = 32
[workspaces.unchecked]
[workspaces.unchecked.volume_mappings."@mnt/deaf/unchecked"]
bind = "/unchecked"
skip_check = true
timeout = 2
`

// A source that does not answer costs those who need it their mapping's timeout, and
// nobody else anything.
func TestHungSource(t *testing.T) {
	bothForms(t, settings{tables: hungTables}, func(t *testing.T, r *rig) {
		mountDeaf(t, r.path("deaf"))
		session := r.session("alice")
		for _, w := range []string{"required", "unchecked"} {
			took := stopwatch()
			r.shell("alice", "true", "--label", "valise.workspace="+w).refused(r.seen+"/deaf/", `workspace "`+w+`"`, "did not answer within 2")
			within(t, w, took(), 1900*time.Millisecond, 15*time.Second)
		}
		took := stopwatch()
		o := r.shell("alice", "ls -d /optional; true", "--label", "valise.workspace=optional").run()
		within(t, "optional", took(), 1900*time.Millisecond, 15*time.Second)
		equal(t, "exit code without the optional", o.code, 0)
		equal(t, "in the container", o.stdout, "")
		contains(t, "warning", o.stderr, "the container starts without /optional", r.seen+"/deaf", "did not answer")

		took = stopwatch()
		equal(t, "a session that was there", r.in(session, "echo x >f; cat f"), "x")
		equal(t, "a new one", r.shell("bob", "echo y >f; cat f").must(), "y")
		r.direct("volume", "inspect", r.volumeAt(session, home)).must()
		within(t, "the others", took(), 0, 10*time.Second)
	})
}

// Threads that hang in a dead file system can't be ended, so their number is bounded,
// whatever the number of users.
func TestHungSourceHoldsFewThreads(t *testing.T) {
	bothForms(t, settings{tables: hungTables}, func(t *testing.T, r *rig) {
		d := mountDeaf(t, r.path("deaf"))
		pid := r.driverPID()
		r.shell("bob", "true").must()
		before := threads(t, pid)
		const users = 60
		var all sync.WaitGroup
		took := stopwatch()
		for i := range users {
			all.Go(func() {
				user := fmt.Sprintf("user%d", i)
				a, err := request(r.proxy, "POST", "/containers/create",
					r.container(map[string]string{"valise.user": user, "valise.workspace": "required"}))
				if err != nil {
					t.Error(err)
					return
				}
				if a.status < 400 || !strings.Contains(a.body, "answer") {
					t.Errorf("create for %s: got %d %s", user, a.status, a.body)
				}
			})
		}
		<-d.hung
		equal(t, "another user meanwhile", r.shell("bob", "echo y").must(), "y")
		all.Wait()
		within(t, "60 creates", took(), 1900*time.Millisecond, 30*time.Second)
		// 16 calls at most hang below one root; the runtime has some threads of its own.
		if after := threads(t, pid); after > before+16+12 {
			t.Errorf("threads of the driver: %d, and %d while %d creates hung", before, after, users)
		}
		equal(t, "another user afterwards", r.shell("bob", "echo z").must(), "z")
		equal(t, "containers", r.direct("ps", "-aq", "--filter", "label=rig="+r.name).must(), "")
	})
}

// docker plugin enable gives a managed plugin's calls 30 s unless it is told otherwise.
func TestLongTimeout(t *testing.T) {
	bothForms(t, settings{tables: hungTables}, func(t *testing.T, r *rig) {
		mountDeaf(t, r.path("deaf"))
		took := stopwatch()
		r.shell("alice", "true", "--label", "valise.workspace=patient").refused(r.seen+"/deaf/slow", "did not answer within 32")
		within(t, "the create", took(), 31*time.Second, 45*time.Second)
	})
}

// A killed process can't end while a thread of it hangs, and keeps its sockets; its
// successor comes up none the less. (Docker's next call may be lost on a connection to
// the dead one, for a minute: so the successor is asked here, and not Docker.)
func TestDriverKilledWhileHung(t *testing.T) {
	r := plainForm(t, settings{tables: hungTables})
	mountDeaf(t, r.path("deaf"))
	session := r.session("alice")
	r.shell("bob", "true", "--label", "valise.workspace=required").refused("did not answer")
	stuck := r.driver
	stuck.signal(kill)
	r.startDriver()
	if !stuck.running() {
		t.Error("the killed driver has ended: nothing was hung")
	}
	equal(t, "mount of a volume that was there", r.call("Mount", body{"Name": r.volumeAt(session, home), "ID": "1"}), "")
	list := r.profiles("ls")
	equal(t, "profiles", len(list), 1)
	equal(t, "mounts", list[0].Mounts, 2)
	equal(t, "unmount", r.call("Unmount", body{"Name": r.volumeAt(session, home), "ID": "1"}), "")
}

// What a home would hold but does not answer is left out, the home is there.
func TestHungMappingBesideProfile(t *testing.T) {
	tables := desktop + `
[workspaces.desktop.volume_mappings."@mnt/deaf"]
bind = "/home/kasm-user/remote"
required = false
timeout = 1
`
	r := plainForm(t, settings{tables: tables})
	mountDeaf(t, r.path("deaf"))
	o := r.shell("alice", "ls -A; touch kept").run()
	equal(t, "in the container", o.stdout, "")
	contains(t, "warning", o.stderr, "the container starts without "+home+"/remote")
	if _, err := os.Stat(r.path("desktop/alice/kept")); err != nil {
		t.Error(err)
	}
}

// stopwatch starts one and returns its reading.
func stopwatch() func() time.Duration {
	started := time.Now()
	return func() time.Duration { return time.Since(started) }
}

func within(t *testing.T, what string, took, least, most time.Duration) {
	t.Helper()
	if took < least || took > most {
		t.Errorf("%s: took %s, want %s to %s", what, took, least, most)
	}
}
