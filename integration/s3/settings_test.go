//go:build integration

package s3_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFilter: what is filtered stays on its host. The mount keeps it; neither a
// snapshot nor any later mount has it.
func TestFilter(t *testing.T) {
	const secret = "this must never leave the host"
	for _, c := range []struct {
		filter                string // "-" is the default
		gone, stay, emptyDirs []string
	}{
		{
			filter: "-", gone: []string{".cache/x", ".cache/deep/y", ".vnc/passwd", "Downloads/big", "Uploads/z"},
			stay: []string{"x/.cache/kept", "cache", "Downloads2/kept"}, emptyDirs: []string{".cache", ".vnc", "Downloads", "Uploads"},
		},
		{
			filter: "**.docx,tmp/*,a/**/b,only/", gone: []string{"x.docx", "deep/er/y.docx", "tmp/f", "a/1/2/b/f"},
			stay: []string{"x.doc", "tmp2/f", "b/f", "deep/only", "a/1/c"}, emptyDirs: []string{"tmp", "a/1/2/b"},
		},
		{filter: "", stay: []string{".cache/x", "Downloads/y"}},
	} {
		t.Run(c.filter, func(t *testing.T) {
			p := newProfile(t)
			h := p.host("a")
			var flags []string
			if c.filter != "-" {
				flags = []string{"--filter", c.filter}
			}
			m := h.mount(flags...)
			for _, name := range append(c.gone, c.stay...) {
				must(t, os.MkdirAll(dirOf(h.path(name)), 0o755))
				write(t, h.path(name), secret)
			}
			h.sync()
			for _, name := range c.gone {
				wantFile(t, h.path(name), secret) // here it is still
			}
			m.end()
			b := p.host("b")
			cold := b.mount(flags...)
			for _, dir := range []string{b.dir, p.restore("")} {
				for name, want := range wanted(c.stay, c.gone) {
					if _, err := os.Lstat(dir + "/" + name); (err == nil) != want {
						t.Errorf("%s on another host: got %v, want it to be there: %t", name, err, want)
					}
				}
				for _, name := range c.emptyDirs {
					wantNames(t, dir+"/"+name)
				}
			}
			cold.end()
		})
	}
}

func dirOf(path string) string { return path[:strings.LastIndexByte(path, '/')] }

// wanted maps names to whether they should be there.
func wanted(there, gone []string) map[string]bool {
	out := map[string]bool{}
	for _, name := range there {
		out[name] = true
	}
	for _, name := range gone {
		out[name] = false
	}
	return out
}

// TestSizeLimit: a home over its limit is not saved, and says so; nothing is dropped,
// and all is saved once it fits.
func TestSizeLimit(t *testing.T) {
	p := newProfile(t)
	h := p.host("a")
	limit := []string{"--size-limit", "4m"}
	m := h.mount(limit...)
	write(t, h.path("small"), "small")
	h.sync()
	write(t, h.path("large"), noise(5<<20))
	h.run("sync", h.dir).wants(t, 3, "exceeds its size limit")
	if st := h.status(); !st.OverLimit || st.Size < 5<<20 || st.Snapshot != "1" {
		t.Errorf("status over the limit: got over_limit %t, size %d, snapshot %s", st.OverLimit, st.Size, st.Snapshot)
	}
	h.run("status", h.dir).wants(t, 0, "over limit, not saved")
	m.signal(unix.SIGTERM)
	m.wants(3)

	// The same host goes on with it.
	h.run("status", "--state-dir", h.state, h.dir).wants(t, 0, "pending")
	m = h.mount(limit...)
	want := list(t, h.dir)
	if want["large"].Size != 5<<20 {
		t.Fatalf("after another mount: got %d bytes of the large file, want all", want["large"].Size)
	}
	must(t, os.Truncate(h.path("large"), 1<<20))
	want = list(t, h.dir)
	h.sync()
	if st := h.status(); st.OverLimit || st.Error != "" {
		t.Errorf("status under the limit again: got over_limit %t, error %q", st.OverLimit, st.Error)
	}
	m.end()
	same(t, "restored", list(t, p.restore("")), want)
}

// TestReadOnly: a read-only mount shows a snapshot, refuses writing, takes no lease and
// leaves nothing behind.
func TestReadOnly(t *testing.T) {
	p := newProfile(t)
	h := p.host("a")
	m := h.mount()
	var states []tree
	for i := range 2 {
		fill(t, h.path(fmt.Sprint(i)))
		h.sync()
		states = append(states, list(t, h.dir))
	}
	// The writer is mounted all the while.
	for _, c := range []struct {
		flags []string
		want  tree
	}{{nil, states[1]}, {[]string{"--snapshot", "1"}, states[0]}, {[]string{"--snapshot", "2"}, states[1]}} {
		r := p.host("reader")
		ro := r.mount(append([]string{"--read-only"}, c.flags...)...)
		same(t, fmt.Sprint("read-only ", c.flags), list(t, r.dir), c.want)
		for what, err := range map[string]error{
			"write":  os.WriteFile(r.path("0/a"), nil, 0o600),
			"create": os.Mkdir(r.path("new"), 0o700),
			"remove": os.Remove(r.path("0/a")),
			"chmod":  os.Chmod(r.path("0/a"), 0o600),
		} {
			if !errors.Is(err, unix.EROFS) {
				t.Errorf("%s in a read-only mount: got %v, want %v", what, err, unix.EROFS)
			}
		}
		if st := r.status(); !st.ReadOnly {
			t.Error("status of a read-only mount does not say so")
		}
		r.sync() // there is nothing to do
		ro.end()
	}
	write(t, h.path("more"), "x")
	m.end()
	p.run("mount", "--read-only", "--snapshot", "77", p.url, h.mkdir("none")).wants(t, 1, "77")
}

// TestSavesByItself: changes are saved every --sync-interval without being asked for,
// and nothing is when nothing has changed.
func TestSavesByItself(t *testing.T) {
	p := newProfile(t)
	h := p.host("a")
	m := h.mount("--sync-interval", "1s")
	for i := range 2 {
		write(t, h.path("file"), fmt.Sprint(i))
		began := time.Now()
		eventually(t, 20*time.Second, "save", func() bool { return h.status().LastSave.After(began) })
		wantFile(t, p.restore("")+"/file", fmt.Sprint(i))
	}
	before := h.status()
	eventually(t, 20*time.Second, "next try", func() bool { return h.status().LastTry.After(before.LastTry) })
	if now := h.status(); now.Snapshot != before.Snapshot {
		t.Errorf("nothing has changed: got snapshot %s after %s", now.Snapshot, before.Snapshot)
	}
	m.end()
}

// TestBusyAtTheEnd: a home that is in use when it is to be unmounted is detached and
// saved, but not forgotten: the exit code says so, and the next mount goes on with it.
func TestBusyAtTheEnd(t *testing.T) {
	t.Parallel()
	p := newProfile(t)
	h := p.host("a")
	m := h.mount()
	f, err := os.Create(h.path("open"))
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("before the end, ")
	must(t, err)
	m.signal(unix.SIGTERM)
	m.wants(3)
	wantFile(t, p.restore("")+"/open", "before the end, ")
	_, err = f.WriteString("after it")
	must(t, err, f.Close())
	m = h.mount()
	wantFile(t, h.path("open"), "before the end, after it")
	m.end()
	wantFile(t, p.restore("")+"/open", "before the end, after it")
}
