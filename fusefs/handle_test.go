package fusefs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// twice mounts the same snapshot two times, one after the other, for first and second.
func twice(t *testing.T, first, second func(dir string)) {
	t.Helper()
	p, dir := variety(), t.TempDir()
	cfg := Config{Tree: p.finish(t), Content: p.content, Generation: 7}
	for _, use := range []func(string){first, second} {
		s, err := Mount(cfg, dir)
		if err != nil {
			t.Fatal(err)
		}
		use(dir)
		unmountServer(t, s)
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return st.Ino
}

// Every file is found by its handle in another mount of the snapshot, of which the kernel
// knows nothing yet.
func TestHandles(t *testing.T) {
	handles, inodes := map[string]unix.FileHandle{}, map[string]uint64{}
	twice(t, func(dir string) {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			handles[path], _, err = unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
			inodes[path] = inode(t, path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}, func(dir string) {
		root, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(root)
		for path, h := range handles {
			fd, err := unix.OpenByHandleAt(root, h, unix.O_PATH)
			if err != nil {
				t.Errorf("%s: %v", path, err)
				continue
			}
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil || st.Ino != inodes[path] {
				t.Errorf("%s: got inode %d, %v, want %d", path, st.Ino, err, inodes[path])
			}
			_ = unix.Close(fd)
		}
	})
	if len(handles) < 3000 {
		t.Errorf("got %d handles", len(handles))
	}
}

// A file of the snapshot that got a second name in an overlay is one file in the next
// mount of that overlay, too, and has the inode number it had at first.
func TestLinksInALaterOverlay(t *testing.T) {
	upper, work, before := t.TempDir(), t.TempDir(), uint64(0)
	merge := func(lower string, use func(merged string)) {
		merged := t.TempDir()
		options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,redirect_dir=on,index=off,metacopy=on,xino=auto", lower, upper, work)
		if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
			t.Fatal(err)
		}
		use(merged)
		if err := unix.Unmount(merged, 0); err != nil {
			t.Fatal(err)
		}
	}
	twice(t, func(lower string) {
		merge(lower, func(merged string) {
			before = inode(t, merged+"/dir/deep/f")
			err := errors.Join(os.Link(merged+"/dir/deep/f", merged+"/another"), os.WriteFile(merged+"/another", []byte("new"), 0))
			if err != nil {
				t.Fatal(err)
			}
		})
	}, func(lower string) {
		merge(lower, func(merged string) {
			// The name that the lower has not comes first.
			if a, f := inode(t, merged+"/another"), inode(t, merged+"/dir/deep/f"); a != before || f != before {
				t.Errorf("got inodes %d and %d, want %d", a, f, before)
			}
		})
	})
}
