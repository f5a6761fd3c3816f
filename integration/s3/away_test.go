//go:build integration

package s3_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"valise/store/storetest/server"
)

// remote is a host that reaches the store by way of a proxy, and what a cold home there
// holds.
type remote struct {
	*host
	path    *server.Path
	content map[string]string
}

// newRemote mounts a home with some files of which the host has no content yet.
func newRemote(t *testing.T, flags ...string) (*remote, *mount) {
	t.Helper()
	p := newProfile(t)
	a := p.host("a")
	m := a.mount()
	r := &remote{content: map[string]string{}, path: server.Proxy(t, suite.minio.Endpoint)}
	for i := range 8 {
		// Of several packs, so that reading one file does not bring the next.
		name := fmt.Sprint("file", i)
		r.content[name] = noise(4 << 20)
		write(t, a.path(name), r.content[name])
		a.sync()
	}
	m.end()
	r.host = p.at(r.path.Endpoint).host("b")
	return r, r.mount(append([]string{"--prefetch", "off", "--patience", "3s"}, flags...)...)
}

// absences are the ways in which a store may be away.
var absences = []struct {
	name string
	set  func(*server.Path, testing.TB)
}{
	{"down", (*server.Path).Down},
	{"silent", (*server.Path).Silence},
	{"resetting", (*server.Path).Reset},
}

// TestStoreAway: without the store all goes on that does not need it, what does fails in
// time and can be killed, and all is well when it is back.
func TestStoreAway(t *testing.T) {
	for _, absence := range absences {
		t.Run(absence.name, func(t *testing.T) {
			t.Parallel()
			r, m := newRemote(t)
			wantFile(t, r.host.path("file0"), r.content["file0"])
			absence.set(r.path, t)

			// What is here can be read, what is new written, and all can be listed.
			wantFile(t, r.host.path("file0"), r.content["file0"])
			write(t, r.host.path("new"), "new")
			must(t, os.Mkdir(r.host.path("dir"), 0o755), os.Rename(r.host.path("file1"), r.host.path("dir/moved")))
			wantNames(t, r.dir, "dir", "file0", "file2", "file3", "file4", "file5", "file6", "file7", "new")

			// A read of the rest ends with EIO, and stops no other meanwhile.
			began, failed := time.Now(), make(chan error, 1)
			go func() {
				_, err := os.ReadFile(r.host.path("file2"))
				failed <- err
			}()
			victim := startCommand(t, exec.Command("cat", r.host.path("file3")))
			for range 20 {
				wantFile(t, r.host.path("file0"), r.content["file0"])
				write(t, r.host.path("new"), "newer")
			}
			killed := time.Now()
			victim.kill()
			if took := time.Since(killed); took > time.Second {
				t.Errorf("a reader that was killed ended after %s", took)
			}
			if err := <-failed; !errors.Is(err, unix.EIO) {
				t.Errorf("read what is not here: got %v, want %v", err, unix.EIO)
			}
			if took := time.Since(began); took < 2*time.Second || took > 15*time.Second {
				t.Errorf("it failed after %s, want about the patience of 3s", took)
			}

			saving := start(t, r.env, "sync", r.dir)
			if absence.name != "silent" { // a silence takes long to be noticed
				if code := saving.wait(t, time.Minute); code != 3 {
					t.Errorf("sync: got exit code %d, want 3: %s", code, saving.output())
				}
				if st := r.status(); st.Error == "" {
					t.Error("status does not tell the error of the last save")
				}
				r.host.run("status", r.dir).wants(t, 0, "not saved")
			}

			r.path.Clean(t)
			saving.wait(t, time.Minute)
			wantFile(t, r.host.path("file2"), r.content["file2"])
			wantFile(t, r.host.path("dir/moved"), r.content["file1"])
			r.sync()
			if st := r.status(); st.Error != "" {
				t.Errorf("status after a sync: got error %q", st.Error)
			}
			m.end()
			wantFile(t, r.restore("")+"/new", "newer")
		})
	}
}

// TestStoreSlow: latency costs time and nothing else.
func TestStoreSlow(t *testing.T) {
	t.Parallel()
	r, m := newRemote(t)
	r.path.Latency(t, 300*time.Millisecond, 100*time.Millisecond)
	for name, want := range r.content {
		wantFile(t, r.host.path(name), want)
	}
	write(t, r.host.path("new"), noise(3<<20))
	want := list(t, r.dir)
	r.sync()
	m.end()
	r.path.Clean(t)
	same(t, "restored", list(t, r.restore("")), want)
}

// TestStoreCuts: connections that break in the middle, of requests and of answers, are
// made again.
func TestStoreCuts(t *testing.T) {
	t.Parallel()
	r, m := newRemote(t)
	r.path.CutAfter(t, 3<<20)
	r.path.CutRequestsAfter(t, 3<<20)
	wantFile(t, r.host.path("file5"), r.content["file5"])
	write(t, r.host.path("new"), noise(1<<20))
	r.sync()
	r.path.Clean(t)
	want := list(t, r.dir)
	m.end()
	same(t, "restored", list(t, r.restore("")), want)
	r.check()
}

// TestStoreAwayAtTheEnd: what cannot be saved stays on this host, as the exit code says,
// until it can.
func TestStoreAwayAtTheEnd(t *testing.T) {
	for _, later := range []string{"sync", "mount"} {
		t.Run("saved by "+later, func(t *testing.T) {
			t.Parallel()
			r, m := newRemote(t)
			write(t, r.host.path("unsaved"), "precious")
			must(t, os.Remove(r.host.path("file7")))
			want := list(t, r.dir)
			r.path.Down(t)
			if later == "sync" {
				r.host.run("unmount", r.dir).wants(t, 3, "unsaved changes remain")
			} else {
				m.signal(unix.SIGTERM)
			}
			m.wants(3)
			if r.mounted() {
				t.Error("the home is still mounted")
			}
			r.host.run("status", "--state-dir", r.state, r.dir).wants(t, 0, "pending")
			r.finish().wants(t, 3, "unsaved changes remain")
			r.path.Up(t)
			if later == "sync" {
				r.finish().wants(t, 0)
			} else {
				m = r.host.mount()
				same(t, "mounted again", list(t, r.dir), want)
				m.end()
			}
			same(t, "restored", list(t, r.restore("")), want)
			r.host.run("status", "--state-dir", r.state, r.dir).wants(t, 1, "no profile is mounted there")
		})
	}
}

// TestWorkerKilledWhileStoreAway: whatever is not content is answered at once again. If
// it were not, a file that is being copied up would hold the lock of all renames on the
// file system where the state is.
func TestWorkerKilledWhileStoreAway(t *testing.T) {
	t.Parallel()
	r, m := newRemote(t)
	wantFile(t, r.host.path("file0"), r.content["file0"])
	write(t, r.host.path("new"), "new")
	r.path.Down(t)
	m.killWorker()
	must(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0o200))
	copied := make(chan error, 1)
	go func() { copied <- os.Chmod(r.host.path("file5"), 0o600) }()
	select {
	case err := <-copied:
		must(t, err)
	case <-time.After(20 * time.Second):
		r.path.Up(t)
		t.Fatalf("chmod of a file of the snapshot waited for the store: %v", <-copied)
	}
	wantNames(t, r.dir, append(slices.Sorted(maps.Keys(r.content)), "new")...)
	write(t, r.host.path("new"), "newer")
	wantFile(t, r.host.path("new"), "newer")
	r.path.Up(t)
	wantFile(t, r.host.path("file4"), r.content["file4"])
	r.host.sync()
	wantFile(t, r.restore("")+"/new", "newer")
	m.end()
}
