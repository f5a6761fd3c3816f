package beneath

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tree makes a root with a directory "d", a file "d/f", and links that lead out.
func tree(t *testing.T) (dir string, root *Node) {
	t.Helper()
	dir = t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "d/sub"), 0o755),
		os.WriteFile(filepath.Join(dir, "d/f"), []byte("data"), 0o644),
		os.Mkdir(secret, 0o755),
		os.Symlink(secret, filepath.Join(dir, "out")),
		os.Symlink("d", filepath.Join(dir, "in")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := Root{Path: dir}.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(root.Close)
	return dir, root
}

func TestOpenNeverLeaves(t *testing.T) {
	_, root := tree(t)
	for rel, want := range map[string]error{
		"out": ErrSymlink, "out/x": ErrSymlink, "in": ErrSymlink, "in/f": ErrSymlink,
		"missing": fs.ErrNotExist, "d/f/x": unix.ENOTDIR,
	} {
		if n, err := root.Open(rel); !errors.Is(err, want) {
			t.Errorf("Open(%q): got %v, %v, want %v", rel, n, err, want)
		}
	}
	for _, rel := range []string{"..", "d/../..", "/etc", "../x"} {
		if n, err := root.Open(rel); err == nil || !strings.Contains(err.Error(), "leads out") {
			t.Errorf("Open(%q): got %v, %v, want that it leads out", rel, n, err)
		}
	}
	n, err := root.Open("d/f")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if st, err := n.Stat(); err != nil || st.IsDir() {
		t.Errorf("d/f: got %+v, %v, want a file", st, err)
	}
}

func TestMakeDirs(t *testing.T) {
	dir, root := tree(t)
	n, err := root.MakeDirs("a/b/c", 0o750, 12, 34)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for _, rel := range []string{"a", "a/b", "a/b/c"} {
		fi, err := os.Stat(filepath.Join(dir, rel))
		if err != nil {
			t.Fatal(err)
		}
		st := mustStat(t, root, rel)
		if st.UID != 12 || st.GID != 34 || fi.Mode().Perm() != 0o750 {
			t.Errorf("%s: got %d:%d %s", rel, st.UID, st.GID, fi.Mode())
		}
	}
	if st := mustStat(t, root, "d"); st.UID != os.Getuid() {
		t.Errorf("d existed, but its owner changed to %d", st.UID)
	}
	for rel, want := range map[string]error{"out/x": ErrSymlink, "d/f": ErrNotDirectory, "in/x": ErrSymlink} {
		if _, err := root.MakeDirs(rel, 0o755, 1, 1); !errors.Is(err, want) {
			t.Errorf("MakeDirs(%q): got %v, want %v", rel, err, want)
		}
	}
}

func TestMakeFile(t *testing.T) {
	_, root := tree(t)
	if err := root.MakeFile("new", 0o640, 12, 34); err != nil {
		t.Fatal(err)
	}
	if st := mustStat(t, root, "new"); st.UID != 12 || st.GID != 34 {
		t.Errorf("new: got %+v", st)
	}
	if err := root.MakeFile("new", 0o640, 1, 1); err != nil {
		t.Errorf("an existing file is no mount point: %v", err)
	}
	if err := root.MakeFile("out", 0o640, 1, 1); !errors.Is(err, ErrSymlink) {
		t.Errorf("a link: got %v, want ErrSymlink", err)
	}
	if err := root.MakeFile("d", 0o640, 1, 1); err == nil || !strings.Contains(err.Error(), "directory is in the way") {
		t.Errorf("a directory: got %v", err)
	}
}

func TestOwnAndChmod(t *testing.T) {
	dir, root := tree(t)
	d, err := root.Open("d")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	// The directory moves, and something else takes its place: it must stay untouched.
	if err := os.Rename(filepath.Join(dir, "d"), filepath.Join(dir, "moved")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o711); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Own(7, 8), d.Chmod(0o700)); err != nil {
		t.Fatal(err)
	}
	if st := mustStat(t, root, "moved"); st.UID != 7 || st.GID != 8 || st.Mode&0o777 != 0o700 {
		t.Errorf("moved: got %+v", st)
	}
	if st := mustStat(t, root, "d"); st.UID == 7 || st.Mode&0o777 != 0o711 {
		t.Errorf("the new d was changed: %+v", st)
	}
}

func TestRename(t *testing.T) {
	_, root := tree(t)
	for _, name := range []string{"new", "empty", "full/x"} {
		n, err := root.MakeDirs(name, 0o755, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		n.Close()
	}
	if err := root.Rename("new", root, "full"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("onto a full directory: got %v, want ErrExist", err)
	}
	if err := root.Rename("new", root, "empty"); err != nil {
		t.Errorf("onto an empty directory: %v", err)
	}
	if err := root.Sync(); err != nil {
		t.Error(err)
	}
}

func TestRootChecks(t *testing.T) {
	dir := t.TempDir()
	open := func(r Root) error {
		n, err := r.Open()
		if err == nil {
			n.Close()
		}
		return err
	}
	if err := open(Root{Path: filepath.Join(dir, "gone")}); !errors.Is(err, ErrRootMissing) {
		t.Errorf("missing root: got %v", err)
	}
	if err := open(Root{Path: dir, Marker: ".here"}); !errors.Is(err, ErrNoMarker) {
		t.Errorf("missing marker: got %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".here"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(Root{Path: dir, Marker: ".here"}); err != nil {
		t.Errorf("with its marker: %v", err)
	}
	if err := open(Root{Path: dir, RequireMount: true}); !errors.Is(err, ErrNotMounted) {
		t.Errorf("not mounted: got %v", err)
	}
	if err := unix.Mount("valise-test", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	if err := open(Root{Path: dir, RequireMount: true}); err != nil {
		t.Errorf("mounted: %v", err)
	}
}

func mustStat(t *testing.T, root *Node, rel string) Info {
	t.Helper()
	n, err := root.Open(rel)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	st, err := n.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return st
}
