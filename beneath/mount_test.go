package beneath

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBind(t *testing.T) {
	dir, root := tree(t)
	target := t.TempDir()
	t.Cleanup(func() { Unbind(target) })
	d, err := root.Open("d")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	// What is bound is what was opened, wherever its name leads by now.
	if err := os.Rename(filepath.Join(dir, "d"), filepath.Join(dir, "moved")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(dir, "d")); err != nil {
		t.Fatal(err)
	}
	if err := d.Bind(target, false); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(target, "f")); err != nil || string(data) != "data" {
		t.Errorf("f through the mount: got %q, %v", data, err)
	}
	if err := os.WriteFile(filepath.Join(target, "new"), nil, 0o600); err != nil {
		t.Errorf("write through the mount: %v", err)
	}
	if err := Unbind(target); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(target, "f")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Unbind: got %v", err)
	}
	if err := Unbind(target); err != nil {
		t.Errorf("Unbind of what is not mounted: %v", err)
	}
}

func TestBindReadOnlyReachesSubmounts(t *testing.T) {
	dir, root := tree(t)
	sub := filepath.Join(dir, "d/sub")
	if err := unix.Mount("valise-test", sub, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(sub, unix.MNT_DETACH) })
	// A shared source is the dangerous one: unmounting a copy must not reach it.
	if err := unix.Mount("", sub, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	target := t.TempDir()
	t.Cleanup(func() { Unbind(target) })
	d, err := root.Open("d")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Bind(target, true); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"x", "sub/x"} {
		if err := os.WriteFile(filepath.Join(target, at), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("write %s: got %v, want EROFS", at, err)
		}
	}
	if err := Unbind(target); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(sub, "still-mounted"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := (Root{Path: sub, RequireMount: true}).Open(); err != nil {
		t.Errorf("the source was unmounted with its copy: %v", err)
	} else {
		n.Close()
	}
}

func TestBindFile(t *testing.T) {
	_, root := tree(t)
	target := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Unbind(target) })
	f, err := root.Open("d/f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Bind(target, false); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(target); err != nil || string(data) != "data" {
		t.Errorf("got %q, %v", data, err)
	}
}
