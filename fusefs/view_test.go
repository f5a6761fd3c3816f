package fusefs

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"valise/tree"
)

// variety is a tree with every kind of thing that a home can hold.
func variety() *plan {
	p := newPlan()
	p.file(0, "small", 5)
	p.file(0, "empty", 0)
	p.file(0, "blocks", 3*mib+12345)
	p.file(0, strings.Repeat("n", 255), 10)
	p.file(0, "bytes \xff\xfe\n\x01 ü", 3)
	d := p.dir(0, "dir")
	deep := p.dir(d, "deep")
	p.dir(deep, "empty")
	p.file(deep, "f", 100)
	linked := p.entry(d, "first name", syscall.S_IFREG|0o600, func(e *tree.Entry) { p.extent(e, 0, 77) })
	p.Link(deep, []byte("second name"), linked)
	p.Link(0, []byte("a third name"), linked)
	p.entry(0, "link", syscall.S_IFLNK|0o777, func(e *tree.Entry) { e.Symlink = []byte("dir/deep/f") })
	p.entry(0, "dangling", syscall.S_IFLNK|0o777, func(e *tree.Entry) { e.Symlink = []byte(strings.Repeat("x", 4000)) })
	p.entry(0, "fifo", syscall.S_IFIFO|0o622, nil)
	p.entry(0, "setuid", syscall.S_IFREG|0o4755, func(e *tree.Entry) { p.extent(e, 0, 9); e.UID, e.GID = 0, 4e9 })
	p.entry(0, "sticky", syscall.S_IFDIR|0o1777, nil)
	p.entry(0, "old", syscall.S_IFREG|0o644, func(e *tree.Entry) { e.Mtime, e.Ctime = -1, -1.5e9 })
	p.entry(0, "sparse", syscall.S_IFREG|0o644, func(e *tree.Entry) {
		p.extent(e, 8192, 4096)
		p.extent(e, mib+4096, 300000)
		p.extent(e, mib+4096+300000, 1000)
		e.Size = 4 * mib
	})
	p.entry(0, "huge", syscall.S_IFREG|0o644, func(e *tree.Entry) {
		p.extent(e, 5<<30, 4096)
		p.extent(e, 20<<30, mib)
		e.Size = 30 << 30
	})
	p.entry(0, "xattrs", syscall.S_IFREG|0o644, func(e *tree.Entry) {
		e.Xattrs = []tree.Xattr{
			{Name: "user.empty", Value: nil},
			{Name: "user.big", Value: pattern(1, 3000)},
			{Name: "security.capability", Value: capability},
		}
	})
	p.entry(d, "xattrs", syscall.S_IFDIR|0o755, func(e *tree.Entry) {
		e.Xattrs = []tree.Xattr{{Name: "user.dir", Value: []byte("value")}}
	})
	many := p.dir(0, "many")
	for i := range 3000 {
		p.entry(many, strings.Repeat(string(rune('a'+i%26)), 1+i%200)+string(rune('0'+i/1000))+string(rune('0'+i/100%10))+string(rune('0'+i%100)), syscall.S_IFREG|0o644, nil)
	}
	return p
}

// capability is cap_net_raw+ep as the kernel stores it (VFS_CAP_REVISION_2).
var capability = []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// seen is all that a system call tells of a file.
type seen struct {
	Mode, UID, GID, Nlink uint32
	Ino                   uint64
	Size, Blocks          int64
	Atime, Mtime, Ctime   syscall.Timespec
	Symlink, Xattrs       string
}

func timespec(ns int64) syscall.Timespec {
	sec, nsec := split(ns)
	return syscall.Timespec{Sec: int64(sec), Nsec: int64(nsec)}
}

// expected is what tr says of n.
func expected(tr *tree.Tree, n tree.Node) seen {
	a := tr.Attr(n)
	s := seen{
		Mode: a.Mode, UID: a.UID, GID: a.GID, Nlink: a.Nlink, Ino: a.Ino, Size: a.Size,
		Atime: timespec(a.Mtime), Mtime: timespec(a.Mtime), Ctime: timespec(a.Ctime),
		Symlink: string(tr.Symlink(n)),
	}
	for e := range tr.Extents(n) {
		s.Blocks += (int64(e.Blob.Raw) + 4095) / 4096 * 8
	}
	if a.IsDir() {
		s.Blocks = 8
	}
	for name, value := range tr.Xattrs(n) {
		s.Xattrs += string(name) + "=" + string(value) + "\n"
	}
	return s
}

// found is what the mounted file system says of path.
func found(t *testing.T, path string) seen {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	s := seen{
		Mode: st.Mode, UID: st.Uid, GID: st.Gid, Nlink: uint32(st.Nlink), Ino: st.Ino, Size: st.Size, Blocks: st.Blocks,
		Atime: st.Atim, Mtime: st.Mtim, Ctime: st.Ctim,
	}
	if st.Mode&syscall.S_IFMT == syscall.S_IFLNK {
		s.Symlink, _ = os.Readlink(path)
	}
	buf := make([]byte, 1<<16)
	n, err := unix.Llistxattr(path, buf)
	if err != nil && err != unix.EOPNOTSUPP {
		t.Fatal(path, err)
	}
	for name := range bytes.SplitSeq(buf[:max(n, 0)], []byte{0}) {
		if len(name) == 0 {
			continue
		}
		value := make([]byte, 1<<16)
		n, err := unix.Lgetxattr(path, string(name), value)
		if err != nil {
			t.Fatal(path, string(name), err)
		}
		s.Xattrs += string(name) + "=" + string(value[:n]) + "\n"
	}
	return s
}

// content is what file n holds at offset.
func (p *plan) at(tr *tree.Tree, n tree.Node, offset int64, size int) []byte {
	out := make([]byte, min(int64(size), max(0, tr.Attr(n).Size-offset)))
	for e := range tr.Extents(n) {
		data := p.content.blocks[e.Blob.Hash]
		switch {
		case e.Offset >= offset+int64(len(out)) || e.End() <= offset:
		case e.Offset < offset:
			copy(out, data[offset-e.Offset:])
		default:
			copy(out[e.Offset-offset:], data)
		}
	}
	return out
}

// compare walks all of the mounted tree.
func compare(t *testing.T, p *plan, tr *tree.Tree, dir string, fields func(tree.Node, *seen)) {
	t.Helper()
	visited := 0
	var walk func(n tree.Node, path string)
	walk = func(n tree.Node, path string) {
		visited++
		want, got := expected(tr, n), found(t, path)
		if fields != nil {
			fields(n, &want)
			fields(n, &got)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: want -, got +:\n%s", path, diff)
		}
		switch a := tr.Attr(n); {
		case a.IsDir():
			var names, there []string
			first, count := tr.Children(n)
			for i := range count {
				names = append(names, string(tr.Name(first+tree.Node(i))))
			}
			list, err := os.ReadDir(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range list {
				there = append(there, e.Name())
			}
			if diff := cmp.Diff(names, there); diff != "" {
				t.Fatalf("%q: names: want -, got +:\n%s", path, diff)
			}
			for i := range count {
				walk(first+tree.Node(i), path+"/"+names[i])
			}
		case a.IsRegular():
			compareContent(t, p, tr, n, path)
		}
	}
	walk(tree.Root, dir)
	if visited != tr.Len() {
		t.Errorf("%d of %d rows were seen", visited, tr.Len())
	}
}

func compareContent(t *testing.T, p *plan, tr *tree.Tree, n tree.Node, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size := tr.Attr(n).Size
	offsets := []int64{0}
	if size > 8*mib {
		offsets = []int64{0, 4<<30 - 100, 5<<30 - 2*mib, 20<<30 - mib, size - 100}
	}
	for _, offset := range offsets {
		buf := make([]byte, min(8*mib, size+1))
		got, err := f.ReadAt(buf, offset)
		if err != nil && got == 0 && offset < size {
			t.Fatal(path, err)
		}
		if want := p.at(tr, n, offset, len(buf)); !bytes.Equal(want, buf[:got]) {
			t.Errorf("%q at %d: %d bytes that are not the %d wanted", path, offset, got, len(want))
		}
	}
}

func TestTheMountIsTheTree(t *testing.T) {
	p := variety()
	dir, tr, s := mountPlan(t, p, nil)
	compare(t, p, tr, dir, nil)
	compare(t, p, tr, dir, nil)
	t.Log(s.Requests())

	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Files != uint64(tr.Len()) || st.Namelen != 255 || st.Flags&(unix.ST_NODEV|unix.ST_NOSUID|unix.ST_RDONLY) != unix.ST_NODEV|unix.ST_NOSUID|unix.ST_RDONLY {
		t.Errorf("statfs: %+v, %v", st, err)
	}
	if err := os.WriteFile(dir+"/new", nil, 0o644); err == nil {
		t.Error("a file was made in a read-only view")
	}
	if _, err := os.Lstat(dir + "/" + strings.Repeat("n", 256)); !os.IsNotExist(err) && !strings.Contains(err.Error(), "too long") {
		t.Error(err)
	}
}

func TestTheOverlayIsTheTree(t *testing.T) {
	p := variety()
	lower, tr, s := mountPlan(t, p, nil)
	merged, upper := overlay(t, lower)
	compare(t, p, tr, merged, func(n tree.Node, s *seen) {
		if n == tree.Root {
			*s = seen{} // the upper directory's
		}
		if s.Mode&syscall.S_IFMT == syscall.S_IFDIR {
			s.Nlink, s.Ino = 0, 0 // the overlay's own
		}
		s.Ino &^= 1 << 63 // xino: the number of the layer in the highest bits
	})
	t.Log(s.Requests())

	// Overlayfs copies up what is written to, with all it has.
	for _, name := range []string{"blocks", "sparse", "xattrs", "setuid", "a third name"} {
		f, err := os.OpenFile(filepath.Join(merged, name), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("more"); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		n, _ := tr.LookupPath([]byte(name))
		got, err := os.ReadFile(filepath.Join(upper, name))
		if want := append(p.at(tr, n, 0, 8*mib), "more"...); err != nil || !bytes.Equal(want, got) {
			t.Errorf("%s: %d bytes that are not the %d wanted, %v", name, len(got), len(want), err)
		}
	}
	value := make([]byte, 1<<16)
	if n, err := unix.Lgetxattr(upper+"/xattrs", "user.big", value); err != nil || !bytes.Equal(value[:n], pattern(1, 3000)) {
		t.Error("copied attribute:", n, err)
	}
}

func TestAnOverlayOnTheOverlay(t *testing.T) {
	p := newPlan()
	p.file(p.dir(0, "d"), "f", 10)
	lower, tr, _ := mountPlan(t, p, nil)
	first, _ := overlay(t, lower)
	second, _ := overlay(t, first)
	n, _ := tr.LookupPath([]byte("d/f"))
	got, err := os.ReadFile(second + "/d/f")
	if err != nil || !bytes.Equal(got, p.at(tr, n, 0, 10)) {
		t.Error(got, err)
	}
}

// A program that takes its owner's rights does so under the overlay, whose flags say
// so, and not where the view itself is mounted.
func TestASetuidProgram(t *testing.T) {
	id, err := os.ReadFile("/usr/bin/id")
	if err != nil {
		t.Skip(err)
	}
	p := newPlan()
	p.entry(0, "id", syscall.S_IFREG|0o4755, func(e *tree.Entry) {
		e.UID, e.GID, e.Size = 0, 0, int64(len(id))
		e.Extents = []tree.Extent{{Blob: p.content.add(id)}}
	})
	lower, _, _ := mountPlan(t, p, nil)
	merged, upper := overlay(t, lower)
	for dir, want := range map[string]string{lower: "3000\n", merged: "0\n"} {
		open(t, dir, upper)
		// A shell between, as this process serves what is executed; see the package comment.
		cmd := exec.CommandContext(t.Context(), "sh", "-c", `"$1" -u; true`, "sh", dir+"/id")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 3000, Gid: 3000}}
		if out, err := cmd.Output(); err != nil || string(out) != want {
			t.Errorf("%s: user %q, %v, want %q", dir, out, err, want)
		}
	}
}

// open lets every user pass through directories and those they lie in.
func open(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		for ; dir != filepath.Clean(os.TempDir()); dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil && !errors.Is(err, unix.EROFS) {
				t.Fatal(err)
			}
		}
	}
}
