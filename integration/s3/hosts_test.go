//go:build integration

package s3_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// takenOver is a lease so short that tests can wait for its end.
const takenOver = "--lease=5s"

// TestSecondHost: while one host has the profile, another one is told, or waits, or sees
// it read-only.
func TestSecondHost(t *testing.T) {
	p := newProfile(t)
	a := p.host("first-host")
	m := a.mount()
	fill(t, a.path("saved"))
	a.sync()
	saved := list(t, a.dir)

	b := p.host("second-host")
	b.run("mount", "--state-dir", b.state, "--host", b.name, p.url, b.dir).wants(t, 4, `in use on host "first-host"`)

	ro := b.mount("--on-second-host", "readonly")
	same(t, "read-only", list(t, b.dir), saved)
	if err := os.WriteFile(b.path("x"), nil, 0o600); err == nil {
		t.Error("writing to the second host's mount succeeded")
	}
	ro.end()

	waiting := b.start("--on-second-host", "wait")
	eventually(t, 30*time.Second, "word that it waits", func() bool { return strings.Contains(waiting.output(), `in use on host \"first-host\"`) })
	fill(t, a.path("last"))
	all := list(t, a.dir)
	m.end()
	waiting.ready()
	same(t, "after the wait", list(t, b.dir), all)
	fill(t, b.path("from the second"))
	waiting.end()

	m = a.mount()
	wantNames(t, a.dir, "from the second", "last", "saved")
	m.end()

	// One that waits can be told not to.
	m = a.mount()
	waiting = b.start("--on-second-host", "wait")
	eventually(t, 30*time.Second, "word that it waits", func() bool { return strings.Contains(waiting.output(), "first-host") })
	waiting.signal(unix.SIGTERM)
	waiting.wants(4)
	m.end()
}

// TestSameHostTakesUp: a host whose mount was killed goes on at once, whatever its lease.
func TestSameHostTakesUp(t *testing.T) {
	p := newProfile(t)
	a := p.host("a")
	m := a.mount("--lease", "10m")
	write(t, a.path("unsaved"), "x")
	m.killAll()
	began := time.Now()
	m = a.mount("--lease", "10m")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	wantFile(t, a.path("unsaved"), "x")
	m.end()
}

// conflictOf is the one snapshot beside the main line.
func (p *profile) conflictOf(host string) snapshot {
	p.t.Helper()
	var found []snapshot
	for _, s := range p.snapshots() {
		if s.Conflict {
			found = append(found, s)
		}
	}
	if len(found) != 1 || found[0].Host != host || !strings.Contains(found[0].Name, "-") {
		p.t.Fatalf("snapshots beside the main line: got %+v, want one of host %s", found, host)
	}
	return found[0]
}

// TestDeadHost: another host takes over from one that has died. What the dead one had
// not saved is kept beside the main line when it comes back.
func TestDeadHost(t *testing.T) {
	for _, back := range []string{"mount", "sync"} {
		t.Run("back by "+back, func(t *testing.T) {
			t.Parallel()
			p := newProfile(t)
			a, b := p.host("a"), p.host("b")
			m := a.mount(takenOver)
			write(t, a.path("file"), "saved by a")
			a.sync()
			write(t, a.path("file"), "unsaved on a")
			late := list(t, a.dir)
			m.killAll()

			n := b.start(takenOver, "--on-second-host", "wait")
			n.ready()
			wantFile(t, b.path("file"), "saved by a")
			write(t, b.path("file"), "saved by b")
			b.sync()

			if back == "sync" {
				// It cannot have the profile while b has, but what it holds stays.
				a.finish().wants(t, 3, `in use on host "b"`)
				n.end()
				a.finish().wants(t, 0)
			} else {
				m = a.start(takenOver, "--on-second-host", "wait")
				n.end()
				m.ready()
				wantFile(t, a.path("file"), "saved by b")
				m.end()
			}
			c := p.conflictOf("a")
			same(t, "the conflict", list(t, p.restore(c.Name)), late)
			wantFile(t, p.restore("")+"/file", "saved by b")
			p.run("snapshots", p.url).wants(t, 0, c.Name, "conflict")
			p.check()
			// It goes when it is named, and not before.
			p.run("prune", "--keep-last", "1", p.url).wants(t, 0)
			p.conflictOf("a")
			p.run("prune", "--forget", c.Name, p.url).wants(t, 0)
			if got := p.snapshots(); len(got) != 1 {
				t.Errorf("after --forget: got %+v", got)
			}
		})
	}
}

// TestStoppedHost: a host that stands still beyond its lease finds, when it goes on, that
// it has lost the profile. Its work is kept beside the main line, and it says so.
func TestStoppedHost(t *testing.T) {
	t.Parallel()
	p := newProfile(t)
	a, b := p.host("a"), p.host("b")
	m := a.mount(takenOver)
	write(t, a.path("file"), "saved by a")
	a.sync()
	processes := []int{m.cmd.Process.Pid, m.worker()}
	signal := func(s unix.Signal) {
		for _, pid := range processes {
			must(t, unix.Kill(pid, s))
		}
	}
	write(t, a.path("file"), "unsaved on a")
	signal(unix.SIGSTOP)
	n := b.start(takenOver, "--on-second-host", "wait")
	n.ready()
	write(t, b.path("file"), "saved by b")
	b.sync()
	signal(unix.SIGCONT)

	eventually(t, 30*time.Second, "word of the conflict", func() bool { return a.status().Conflict })
	a.sync()
	c := p.conflictOf("a")
	wantFile(t, p.restore(c.Name)+"/file", "unsaved on a")
	a.run("status", a.dir).wants(t, 0, "conflict, saved aside")
	// It goes on, aside, to the end.
	write(t, a.path("later"), "also on a")
	m.end()
	var names []string
	for _, s := range p.snapshots() {
		if s.Conflict {
			names = append(names, s.Name)
		}
	}
	if len(names) == 0 {
		t.Fatal("no snapshot beside the main line")
	}
	found := false
	for _, name := range names {
		if _, err := os.Lstat(p.restore(name) + "/later"); err == nil {
			found = true
		}
	}
	if !found {
		t.Errorf("what was written after the conflict is in none of the snapshots %q", names)
	}
	wantFile(t, b.path("file"), "saved by b")
	n.end()
	wantFile(t, p.restore("")+"/file", "saved by b")
	p.check()
}

// TestHostsInTurn: a home that goes from host to host is the same on each.
func TestHostsInTurn(t *testing.T) {
	p := newProfile(t)
	w := newTwin(p.host("a"))
	hosts := []*host{w.host, p.host("b")}
	for i := range 6 {
		w.host = hosts[i%2]
		m := w.host.mount()
		if i > 0 {
			w.compare(fmt.Sprint("turn ", i))
		}
		w.both(func(dir string) {
			fill(t, dir+fmt.Sprint("/", i))
			if i > 1 {
				must(t, os.RemoveAll(dir+fmt.Sprint("/", i-2)))
			}
		})
		w.adopt()
		m.end()
	}
}
