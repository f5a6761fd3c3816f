package extract

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"valise/tree"
)

func TestOverwrite(t *testing.T) {
	h := newHome(t)
	d := h.dir(0, "d", 0o755)
	h.dir(0, "wasfile", 0o700)
	h.text(d, "a", "new")
	f := h.text(0, "f", "new")
	h.link(0, "g", f)
	h.symlink(0, "s", "d")
	h.text(0, "wasdir", "new")
	cfg, dir := h.config(), t.TempDir()
	cfg.Overwrite = true

	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "d/kept"), 0o700),
		os.Mkdir(filepath.Join(dir, "wasdir"), 0o700),
		os.Mkdir(filepath.Join(dir, "s"), 0o700),
		unix.Setxattr(filepath.Join(dir, "d"), "user.stale", []byte("1"), 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"d/a", "d/other", "f", "wasfile"} {
		mustWrite(t, filepath.Join(dir, name), "old")
	}
	if err := os.Link(filepath.Join(dir, "f"), filepath.Join(dir, "of-f")); err != nil {
		t.Fatal(err)
	}
	open, err := os.Open(filepath.Join(dir, "d/a"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()

	for range 2 { // the second time all of it is there
		if _, err := ToDir(t.Context(), cfg, "", dir); err != nil {
			t.Fatal(err)
		}
		wantNames(t, dir, "d", "d/a", "d/kept", "d/other", "f", "g", "of-f", "s", "wasdir", "wasfile")
	}
	old := make([]byte, 3)
	if _, err := open.Read(old); err != nil || string(old) != "old" {
		t.Errorf("a file was written to, not replaced: %q, %v", old, err)
	}
	if p, err := os.ReadFile(filepath.Join(dir, "of-f")); err != nil || string(p) != "old" {
		t.Errorf("another name of a replaced file: %q, %v", p, err)
	}
	for _, name := range []string{"d/other", "d/kept", "of-f"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	restamp(t, cfg, dir)
	check(t, cfg, "", dir, false)
}

// restamp sets the times of the directories that a test changed.
func restamp(t *testing.T, cfg Config, dir string) {
	t.Helper()
	for _, name := range []string{"", "d"} {
		n, _ := cfg.Tree.LookupPath([]byte(name))
		times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(cfg.Tree.Attr(n).Mtime)}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, name), times, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOverwriteKeepsAFullDirectory(t *testing.T) {
	h := newHome(t)
	h.text(0, "f", "new")
	cfg, dir := h.config(), t.TempDir()
	cfg.Overwrite = true
	if err := os.Mkdir(filepath.Join(dir, "f"), 0o700); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, filepath.Join(dir, "f/in"), "old")
	_, err := ToDir(t.Context(), cfg, "", dir)
	if !errors.Is(err, unix.ENOTEMPTY) || !strings.Contains(err.Error(), `write "f": replace the directory in its way`) {
		t.Errorf("got %v", err)
	}
	wantNames(t, dir, "f", "f/in")
}

// TestLinksInTheWay has symbolic links out of the destination at every kind of name.
func TestLinksInTheWay(t *testing.T) {
	h := newHome(t)
	d := h.dir(0, "d", 0o711)
	f := h.text(d, "file", "new")
	h.link(d, "link", f)
	h.fifo(d, "fifo")
	h.symlink(d, "symlink", "x")
	h.dir(d, "sub", 0o700)
	h.dir(0, "toplevel", 0o700)
	cfg, dir, outside := h.config(), t.TempDir(), t.TempDir()
	cfg.Overwrite = true

	victim := filepath.Join(outside, "victim")
	mustWrite(t, victim, "secret")
	for name, target := range map[string]string{
		"file": victim, "link": victim, "fifo": victim, "symlink": victim, "sub": outside,
	} {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, "d"), 0o755), os.Symlink(target, filepath.Join(dir, "d", name))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(dir, "toplevel")); err != nil {
		t.Fatal(err)
	}
	before := mustStat(t, victim)
	if _, err := ToDir(t.Context(), cfg, "", dir); err != nil {
		t.Fatal(err)
	}
	check(t, cfg, "", dir, false)
	if d := cmp.Diff(before, mustStat(t, victim)); d != "" {
		t.Errorf("the file outside changed:\n%s", d)
	}
	wantNames(t, outside, "victim")
}

// TestALinkAppears has somebody replace a directory by a link while files are read.
func TestALinkAppears(t *testing.T) {
	h := newHome(t)
	h.text(0, "a", "first")
	d := h.dir(0, "d", 0o700)
	h.text(d, "b", "second")
	cfg, dir, outside := h.config(), filepath.Join(t.TempDir(), "new"), t.TempDir()
	cfg.Progress = func(p Progress) {
		if p.Files > 0 || os.Rename(filepath.Join(dir, "d"), filepath.Join(dir, "moved")) != nil {
			return
		}
		if err := os.Symlink(outside, filepath.Join(dir, "d")); err != nil {
			t.Error(err)
		}
	}
	if _, err := ToDir(t.Context(), cfg, "", dir); !errors.Is(err, unix.ENOTDIR) || !strings.Contains(err.Error(), `open directory "d"`) {
		t.Errorf("got %v, want that d is no directory", err)
	}
	wantNames(t, outside)
}

func TestACollisionIsAnError(t *testing.T) {
	h := newHome(t)
	h.text(0, "a", "ours")
	cfg, dir := h.config(), filepath.Join(t.TempDir(), "new")
	h.source.before = func(context.Context, tree.Blob) error {
		return os.WriteFile(filepath.Join(dir, "a"), []byte("theirs"), 0o644)
	}
	if _, err := ToDir(t.Context(), cfg, "", dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want ErrExist", err)
	}
	if p, err := os.ReadFile(filepath.Join(dir, "a")); err != nil || string(p) != "theirs" {
		t.Errorf("got %q, %v", p, err)
	}
	wantNames(t, dir, "a")
}

func mustStat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	st.Atim = unix.Timespec{}
	return st
}
