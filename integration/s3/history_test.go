//go:build integration

package s3_test

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// histories are what is done to a home, session by session: each session begins on
// another host, so that all that the one before did is in the read-only lower.
var histories = []struct {
	name     string
	sessions []func(t *testing.T, dir string)
}{
	{"a directory replaces a file and back", []func(*testing.T, string){
		func(t *testing.T, d string) { write(t, d+"/x", "file") },
		func(t *testing.T, d string) {
			must(t, os.Remove(d+"/x"), os.Mkdir(d+"/x", 0o755))
			write(t, d+"/x/in", "in")
		},
		func(t *testing.T, d string) { must(t, os.RemoveAll(d+"/x")); write(t, d+"/x", "file again") },
		func(t *testing.T, d string) { must(t, os.Remove(d+"/x"), os.Symlink("y", d+"/x")) },
	}},
	{"a directory is removed and made anew", []func(*testing.T, string){
		func(t *testing.T, d string) { fill(t, d+"/x") },
		func(t *testing.T, d string) {
			must(t, os.RemoveAll(d+"/x"), os.Mkdir(d+"/x", 0o711))
			write(t, d+"/x/b", "another b")
		},
		func(t *testing.T, d string) { write(t, d+"/x/c", "c") },
		func(t *testing.T, d string) { must(t, os.RemoveAll(d+"/x")) },
		func(t *testing.T, d string) { fill(t, d+"/x") },
	}},
	{"a directory moves on and on", []func(*testing.T, string){
		func(t *testing.T, d string) { fill(t, d+"/x") },
		func(t *testing.T, d string) { must(t, os.Rename(d+"/x", d+"/y")) },
		func(t *testing.T, d string) {
			must(t, os.Mkdir(d+"/in", 0o755), os.Rename(d+"/y", d+"/in/z"))
			write(t, d+"/in/z/new", "new")
		},
		func(t *testing.T, d string) {
			must(t, os.Rename(d+"/in/z/sub", d+"/up"), os.Rename(d+"/in", d+"/up/in"), os.Remove(d+"/up/in/z/a"))
		},
		func(t *testing.T, d string) { fill(t, d+"/x"); must(t, os.Rename(d+"/up", d+"/x/up")) },
	}},
	{"two directories change places", []func(*testing.T, string){
		func(t *testing.T, d string) {
			fill(t, d+"/x")
			must(t, os.Mkdir(d+"/y", 0o700))
			write(t, d+"/y/a", "y's")
		},
		exchange, exchange, exchange,
	}},
	{"a new directory takes the name of one that moved", []func(*testing.T, string){
		func(t *testing.T, d string) { fill(t, d+"/x") },
		func(t *testing.T, d string) {
			must(t, os.Rename(d+"/x", d+"/y"), os.Mkdir(d+"/x", 0o755))
			write(t, d+"/x/a", "new a")
		},
		func(t *testing.T, d string) { must(t, os.Rename(d+"/x", d+"/z"), os.Rename(d+"/y", d+"/x")) },
		func(t *testing.T, d string) { must(t, os.Rename(d+"/z", d+"/x/z")) },
	}},
	{"names are removed and come again", []func(*testing.T, string){
		func(t *testing.T, d string) { fill(t, d+"/x") },
		func(t *testing.T, d string) { must(t, os.Remove(d+"/x/a"), os.Remove(d+"/x/sub/deep")) },
		func(t *testing.T, d string) { write(t, d+"/x/a", "a once more") },
		func(t *testing.T, d string) {
			must(t, os.Remove(d+"/x/a"), os.Rename(d+"/x/b", d+"/x/a"), os.Rename(d+"/x/a", d+"/x/b"))
		},
	}},
	{"attributes alone change", []func(*testing.T, string){
		func(t *testing.T, d string) { fill(t, d+"/x"); write(t, d+"/large", strings.Repeat("large ", 600_000)) },
		func(t *testing.T, d string) {
			must(t, os.Chmod(d+"/large", 0o4711), os.Lchown(d+"/x", 5, 6), os.Chmod(d+"/x/sub", 0o700))
			stamp(t, d+"/x/a", 77, 77)
		},
		func(t *testing.T, d string) {
			must(t, unix.Lsetxattr(d+"/large", "user.a", []byte("1"), 0), unix.Lsetxattr(d+"/x", "user.b", []byte("2"), 0))
		},
		func(t *testing.T, d string) {
			must(t, unix.Lremovexattr(d+"/large", "user.a"), unix.Lremovexattr(d+"/x", "user.b"), os.Rename(d+"/large", d+"/x/large"))
		},
	}},
	{"content changes in place", []func(*testing.T, string){
		func(t *testing.T, d string) { sparse(t, d+"/f", 5<<20, 0, 1<<20, 3<<20) },
		func(t *testing.T, d string) { patch(t, d+"/f", 2<<20-3, "over a border") },
		func(t *testing.T, d string) { must(t, os.Truncate(d+"/f", 3<<20+4)) },
		func(t *testing.T, d string) { must(t, os.Truncate(d+"/f", 6<<20)) },
		func(t *testing.T, d string) { punch(t, d+"/f", 1<<20, 1<<20) },
		func(t *testing.T, d string) { must(t, os.Truncate(d+"/f", 0)) },
	}},
	{"hard links", []func(*testing.T, string){
		func(t *testing.T, d string) {
			write(t, d+"/a", "x")
			must(t, os.Link(d+"/a", d+"/b"), os.Link(d+"/a", d+"/c"))
		},
		func(t *testing.T, d string) { must(t, os.Remove(d+"/b")) },
		func(t *testing.T, d string) { must(t, os.Mkdir(d+"/in", 0o755)); write(t, d+"/in/f", "y") },
		func(t *testing.T, d string) { must(t, os.Remove(d+"/a")) },
		func(t *testing.T, d string) { must(t, os.Link(d+"/c", d+"/in/c")) },
	}},
	{"nothing remains", []func(*testing.T, string){
		func(t *testing.T, d string) { fill(t, d+"/x") },
		func(t *testing.T, d string) { must(t, os.RemoveAll(d+"/x")) },
		func(*testing.T, string) {},
	}},
}

func exchange(t *testing.T, d string) {
	must(t, unix.Renameat2(unix.AT_FDCWD, d+"/x", unix.AT_FDCWD, d+"/y", unix.RENAME_EXCHANGE))
}

// fill makes a small directory tree.
func fill(t *testing.T, dir string) {
	t.Helper()
	must(t, os.MkdirAll(dir+"/sub/empty", 0o755))
	for _, name := range []string{"/a", "/b", "/sub/deep"} {
		write(t, dir+name, "content of "+name)
	}
}

func patch(t *testing.T, path string, at int64, data string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte(data), at)
	must(t, err, f.Close())
}

func punch(t *testing.T, path string, from, n int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, n), f.Close())
}

// TestHistories does all of them at once, each in a directory of its own: every session
// on a new host, saved in the middle and at the end, and taken up once by the same host.
func TestHistories(t *testing.T) {
	p := newProfile(t)
	w := newTwin(p.host("first"))
	longest := 0
	for _, h := range histories {
		longest = max(longest, len(h.sessions))
	}
	session := func(n int) {
		for _, h := range histories {
			w.both(func(dir string) {
				dir += "/" + h.name
				if n == 0 {
					must(t, os.Mkdir(dir, 0o755))
				}
				if n < len(h.sessions) {
					h.sessions[n](t, dir)
				}
			})
		}
	}
	for n := range longest {
		w.host = p.host("host")
		m := w.host.mount()
		if n > 0 {
			w.compare("on a new host")
		}
		session(n)
		w.adopt()
		w.compare("after the changes")
		w.host.sync()
		w.compare("after a save")
		m.end()
		w.compare("restored", p.restore(""))
	}
	p.check()
	if got := len(p.snapshots()); got != longest {
		t.Errorf("got %d snapshots, want one for each of %d sessions", got, longest)
	}
}

// TestNamesOfALowerFileSeparate: the documented departure. Writing to one name of a file
// that had several names in the snapshot separates it from the others; it is saved so.
func TestNamesOfALowerFileSeparate(t *testing.T) {
	p := newProfile(t)
	a := p.host("a")
	m := a.mount()
	write(t, a.path("one"), "old")
	must(t, os.Link(a.path("one"), a.path("two")), os.Link(a.path("one"), a.path("three")))
	m.end()

	b := p.host("b")
	m = b.mount()
	write(t, b.path("two"), "new")
	m.end()

	c := p.host("c")
	m = c.mount()
	got := list(t, c.dir)
	for name, want := range map[string]string{"one": "old", "two": "new", "three": "old"} {
		wantFile(t, c.path(name), want)
		if separate := got[name].Names == nil; separate != (name == "two") {
			t.Errorf("names of the file at %s: got %q", name, got[name].Names)
		}
	}
	m.end()
}
