//go:build integration

package s3_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// somewhere is a random moment of the next ones.
func somewhere(within time.Duration) { time.Sleep(rand.N(within)) }

// TestWorkerKilled kills the process that serves the mount, under heavy writing and at
// random moments of saves. Whoever uses the mount goes on, and what a sync had
// acknowledged is there.
func TestWorkerKilled(t *testing.T) {
	p := newProfile(t)
	h := p.host("a")
	m := h.mount()
	lower := map[string]string{}
	for i := range 20 {
		name := fmt.Sprint("lower", i)
		lower[name] = noise(1 << 20)
		write(t, h.path(name), lower[name])
	}
	m.end()

	const mountsWanted, killsEach = 5, 4 // a fifth kill in a minute would end the mount
	for round := range mountsWanted {
		m = h.mount("--prefetch", "off")
		inside := exec.Command("sh", "-c", `while echo in; do cat lower7 >copy; done`)
		inside.Dir = h.dir // relative paths, from its working directory
		shell := startCommand(t, inside)
		open, err := os.Open(h.path("lower3"))
		must(t, err)
		w := startWriter(t, h.dir)
		acknowledged := int64(0)
		for range killsEach {
			before := w.written.Load()
			saving := start(t, h.env, "sync", h.dir)
			somewhere(150 * time.Millisecond)
			m.killWorker()
			if saving.wait(t, time.Minute) == 0 {
				acknowledged = before
			}
			before = w.written.Load()
			h.sync()
			acknowledged = max(acknowledged, before)
			wantNumbers(t, "restored after a kill", p.restore(""), acknowledged)
		}
		// All who were there are there.
		if shell.ended() {
			t.Fatalf("round %d: the shell in the mount has ended:\n%s", round, tail(shell.output()))
		}
		shell.kill()
		if out := shell.output(); strings.Contains(strings.ReplaceAll(out, "in\n", ""), "lower7") {
			t.Errorf("the shell in the mount said: %s", tail(out))
		}
		must(t, os.Remove(h.path("copy")))
		if n, err := open.ReadAt(make([]byte, 1<<20), 0); err != nil {
			t.Errorf("read a file that was open all the time: got %d bytes, %v", n, err)
		}
		must(t, open.Close())
		w.end()
		for name, want := range lower {
			if got := read(t, h.path(name)); got != want {
				t.Errorf("round %d: %s: got %d bytes that differ, want %d", round, name, len(got), len(want))
			}
		}
		m.end()
		p.check()
		wantNumbers(t, "restored after the end", p.restore(""), w.written.Load())
	}
}

// TestSyncUnderWriting: what was written before a sync is in the snapshot, whatever is
// written, and moved over it, meanwhile.
func TestSyncUnderWriting(t *testing.T) {
	p := newProfile(t)
	h := p.host("a")
	for range 2 { // on an empty lower, and on one that has the same names
		m := h.mount()
		w := startWriter(t, h.dir)
		for range 8 {
			eventually(t, time.Minute, "writing", func() bool { return w.written.Load() > w.begun+numberFiles })
			before := w.written.Load()
			h.sync()
			wantNumbers(t, "restored", p.restore(""), before)
		}
		w.end()
		m.end()
	}
}

// TestEverythingKilled kills all processes of a mount under heavy writing. The next
// mount has all that was written.
func TestEverythingKilled(t *testing.T) {
	p := newProfile(t)
	h := p.host("a")
	for round := range 6 {
		m := h.mount("--sync-interval", "1s")
		w := startWriter(t, h.dir)
		saving := start(t, h.env, "sync", h.dir)
		somewhere(300 * time.Millisecond)
		m.killAll()
		saving.wait(t, time.Minute)
		_ = w.halt() // it cannot go on
		if round >= 2 {
			h.tearBase(round%2 == 0)
		}
		m = h.mount()
		wantNumbers(t, "mounted again", h.dir, w.written.Load())
		p.check()
		if round%2 == 0 {
			m.end()
			wantNumbers(t, "restored", p.restore(""), w.written.Load())
		} else {
			m.killAll()
		}
	}
	h.finish().wants(t, 0)
	wantNumbers(t, "finished", p.restore(""), last(t, p.restore("")))
}

// tearBase leaves of the tree that a mount lay on what a power cut may leave of it.
func (h *host) tearBase(something bool) {
	h.t.Helper()
	found, err := filepath.Glob(filepath.Join(h.state, "s3/*/base.tree"))
	if err != nil || len(found) != 1 {
		h.t.Fatalf("base.tree: got %q, %v, want one", found, err)
	}
	if err = os.Remove(found[0]); err == nil && something {
		err = os.WriteFile(found[0], make([]byte, 4096), 0o600)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// TestKilledAtTheEnd kills processes while they do the last save.
func TestKilledAtTheEnd(t *testing.T) {
	for _, everything := range []bool{false, true} {
		t.Run(fmt.Sprint("everything=", everything), func(t *testing.T) {
			p := newProfile(t)
			h := p.host("a")
			want := int64(0)
			for range 4 {
				m := h.mount()
				w := startWriter(t, h.dir)
				eventually(t, time.Minute, "writing", func() bool { return w.written.Load() > w.begun+500 })
				w.end()
				want = w.written.Load()
				worker := m.worker()
				m.signal(unix.SIGTERM)
				somewhere(200 * time.Millisecond)
				if everything {
					m.signal(unix.SIGKILL) // first: it would start another worker
				}
				_ = unix.Kill(worker, unix.SIGKILL) // unless it was faster
				m.gone(worker)
				if !everything {
					m.wants(0)
				} else if r := h.finish(); r.code != 0 {
					r.wants(t, 1, "no changes of an earlier mount")
				}
				wantNumbers(t, "restored", p.restore(""), want)
				p.check()
			}
		})
	}
}

// killWorkerIfAny kills the worker, which may have ended by itself.
func (m *mount) killWorkerIfAny() {
	if pid := childOf(m.cmd.Process.Pid); pid != 0 {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// TestSupervisorKilled: the worker goes on alone, and ends in good order.
func TestSupervisorKilled(t *testing.T) {
	p := newProfile(t)
	h := p.host("a")
	m := h.mount()
	write(t, h.path("before"), "x")
	worker := m.killSupervisor()
	write(t, h.path("after"), "x")
	h.sync()
	wantNames(t, p.restore(""), "after", "before")
	write(t, h.path("last"), "x")
	h.run("unmount", h.dir).wants(t, 0)
	m.gone(worker)
	wantNames(t, p.restore(""), "after", "before", "last")
	if h.mounted() {
		t.Error("the home is still mounted")
	}
}

// TestWorkerDiesAgainAndAgain: the supervisor gives up, and the next mount goes on.
func TestWorkerDiesAgainAndAgain(t *testing.T) {
	p := newProfile(t)
	h := p.host("a")
	m := h.mount()
	write(t, h.path("file"), "x")
	for !m.ended() {
		m.killWorkerIfAny()
		time.Sleep(time.Millisecond)
	}
	m.wants(1)
	if !strings.Contains(m.output(), "dies again and again") {
		t.Errorf("got %q, want it to say why it gave up", tail(m.output()))
	}
	m = h.mount()
	wantFile(t, h.path("file"), "x")
	m.end()
}

// TestReadOnlyWorkerKilled: a read-only mount goes on with the snapshot it shows, though
// there is a newer one.
func TestReadOnlyWorkerKilled(t *testing.T) {
	p := newProfile(t)
	h := p.host("a")
	m := h.mount()
	fill(t, h.path("old"))
	h.sync()
	want := list(t, h.dir)
	r := p.host("reader")
	ro := r.mount("--read-only", "--prefetch", "off")
	same(t, "read-only", list(t, r.dir), want)
	fill(t, h.path("a new one that sorts first"))
	m.end()
	ro.killWorker()
	must(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0o200))
	same(t, "read-only after a kill", list(t, r.dir), want)
	r.status()
	ro.end()
}
