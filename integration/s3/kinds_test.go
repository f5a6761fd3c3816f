//go:build integration

package s3_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// kinds make one of each kind of file that a home may hold.
var kinds = []struct {
	name string
	make func(t *testing.T, dir string)
}{
	{"empty file", func(t *testing.T, dir string) { write(t, dir+"/empty", "") }},
	{"small file", func(t *testing.T, dir string) { write(t, dir+"/small", "hello\n") }},
	{"file of several blocks", func(t *testing.T, dir string) {
		write(t, dir+"/large", noise(5<<20+1))
		write(t, dir+"/exact", noise(2<<20))
	}},
	{"directories", func(t *testing.T, dir string) {
		must(t, os.MkdirAll(dir+"/a/b/c", 0o750), os.Mkdir(dir+"/empty", 0o711), os.Mkdir(dir+"/sticky", 0o755))
		must(t, unix.Chmod(dir+"/sticky", 0o1777))
		write(t, dir+"/a/b/c/file", "x")
	}},
	{"symlinks", func(t *testing.T, dir string) {
		must(t, os.Symlink("nowhere", dir+"/dangling"), os.Symlink("/etc", dir+"/absolute"),
			os.Symlink(strings.Repeat("x/", 2000), dir+"/long"), os.Lchown(dir+"/dangling", 7, 8))
		stamp(t, dir+"/dangling", 1_000_000_000, 123_456_789)
	}},
	{"hard links", func(t *testing.T, dir string) {
		write(t, dir+"/one", "shared")
		must(t, os.Mkdir(dir+"/sub", 0o755), os.Link(dir+"/one", dir+"/two"), os.Link(dir+"/one", dir+"/sub/three"),
			os.Symlink("x", dir+"/link"), os.Link(dir+"/link", dir+"/link2"))
	}},
	{"FIFO", func(t *testing.T, dir string) { must(t, unix.Mkfifo(dir+"/fifo", 0o620)) }},
	{"modes", func(t *testing.T, dir string) {
		for _, mode := range []uint32{0, 0o400, 0o755, 0o4755, 0o2755, 0o6711, 0o1644, 0o7777} {
			name := fmt.Sprintf("%s/%04o", dir, mode)
			write(t, name, "x")
			must(t, unix.Chmod(name, mode))
		}
	}},
	{"owners", func(t *testing.T, dir string) {
		for _, id := range []int{0, 1, 1000, 65534, 1<<32 - 2} {
			name := fmt.Sprint(dir, "/", id)
			write(t, name, "x")
			must(t, os.Lchown(name, id, id))
		}
	}},
	{"times", func(t *testing.T, dir string) {
		for i, sec := range []int64{0, 1, 1_700_000_000, 4_000_000_000, -1_000_000} {
			name := fmt.Sprint(dir, "/", i)
			write(t, name, "x")
			stamp(t, name, sec, 987_654_321)
		}
		must(t, os.Mkdir(dir+"/dir", 0o755))
		stamp(t, dir+"/dir", 5, 5)
	}},
	{"extended attributes", func(t *testing.T, dir string) {
		write(t, dir+"/file", "x")
		must(t, os.Mkdir(dir+"/dir", 0o755))
		for _, name := range []string{dir + "/file", dir + "/dir"} {
			must(t, unix.Lsetxattr(name, "user.text", []byte("value"), 0), unix.Lsetxattr(name, "user.empty", nil, 0),
				unix.Lsetxattr(name, "user.bytes", []byte{0, 255, 10, 0}, 0))
		}
		must(t, unix.Lsetxattr(dir+"/file", "user.large", bytes.Repeat([]byte("v"), 3000), 0))
	}},
	{"ACLs", func(t *testing.T, dir string) {
		write(t, dir+"/file", "x")
		must(t, os.Mkdir(dir+"/dir", 0o755))
		must(t, unix.Lsetxattr(dir+"/file", "system.posix_acl_access", acl(1234), 0),
			unix.Lsetxattr(dir+"/dir", "system.posix_acl_default", acl(77), 0))
		write(t, dir+"/dir/inherits", "x")
	}},
	{"capabilities", func(t *testing.T, dir string) {
		write(t, dir+"/ping", "x")
		value := binary.LittleEndian.AppendUint32(nil, 0x02000001) // version 2, effective
		value = binary.LittleEndian.AppendUint32(value, 1<<13)     // permitted: net_raw
		must(t, unix.Lsetxattr(dir+"/ping", "security.capability", append(value, make([]byte, 12)...), 0))
	}},
	{"sparse files", func(t *testing.T, dir string) {
		sparse(t, dir+"/middle", 20<<20, 0, 10<<20+5)
		sparse(t, dir+"/end", 8<<20, 0)
		sparse(t, dir+"/only a hole", 3<<20)
	}},
	{"odd names", func(t *testing.T, dir string) {
		for _, name := range []string{" ", "\n", "-rf", "...", "\\", "\xff\xfe", "\x01", "ü", "u\u0308", "a,b:c=d", `"'`, "%2F", strings.Repeat("n", 255), strings.Repeat("ä", 127)} {
			write(t, filepath.Join(dir, name), name)
		}
		must(t, os.Mkdir(dir+"/\xff", 0o755))
		write(t, dir+"/\xff/\xff", "x")
	}},
	{"deep path", func(t *testing.T, dir string) {
		deep := dir
		for range 18 {
			deep += "/" + strings.Repeat("d", 180)
		}
		must(t, os.MkdirAll(deep, 0o755))
		write(t, deep+"/file", "deep")
	}},
	{"many in one directory", func(t *testing.T, dir string) {
		for i := range 2000 {
			write(t, fmt.Sprint(dir, "/", i), "x")
		}
	}},
	{"huge sparse file", func(t *testing.T, dir string) { sparse(t, dir+"/huge", 6<<30, 0, 3<<30, 6<<30-100) }},
}

// TestKinds: what is written comes back on another host as it was, of whatever kind,
// and from a restore.
func TestKinds(t *testing.T) {
	p := newProfile(t)
	a := p.host("a")
	m := a.mount()
	for _, k := range kinds {
		dir := a.path(k.name)
		must(t, os.Mkdir(dir, 0o755))
		k.make(t, dir)
	}
	want := list(t, a.dir)
	for _, k := range kinds {
		if n := len(within(want, k.name)); n < 2 {
			t.Errorf("%s: got %d files, want some", k.name, n)
		}
	}
	began := time.Now()
	a.sync()
	t.Logf("sync took %s", time.Since(began))
	same(t, "after a save", list(t, a.dir), want)
	m.end()

	b := p.host("b")
	cold := b.mount()
	same(t, "on another host", list(t, b.dir), want)
	for name, want := range map[string]bool{"sparse files/middle": true, "sparse files/end": true, "sparse files/only a hole": true, "huge sparse file/huge": true, "small file/small": false} {
		if got := len(holes(t, b.path(name))) > 0; got != want {
			t.Errorf("%s has holes on another host: got %t, want %t", name, got, want)
		}
	}
	// They stay holes when the file is copied up, too.
	must(t, os.Chmod(b.path("sparse files/middle"), 0o600))
	cold.end()

	restored := p.restore("")
	want["sparse files/middle"] = withMode(want["sparse files/middle"], 0o600)
	same(t, "restored", list(t, restored), want)
	for name, most := range map[string]int64{"sparse files/middle": 4 << 20, "huge sparse file/huge": 8 << 20} {
		if got := allocated(t, filepath.Join(restored, name)); got > most {
			t.Errorf("%s takes %d bytes on the disk when restored, want at most %d", name, got, most)
		}
	}
	p.check()
}

// TestNotSaved: sockets and device nodes do not hinder a save, and status names them.
func TestNotSaved(t *testing.T) {
	p := newProfile(t)
	a := p.host("a")
	m := a.mount()
	write(t, a.path("file"), "x")
	l, err := net.Listen("unix", a.path("socket"))
	must(t, err)
	must(t, unix.Mknod(a.path("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	if _, err := os.Open(a.path("null")); !errors.Is(err, unix.EACCES) {
		t.Errorf("open a device node: got %v, want %v", err, unix.EACCES)
	}
	a.sync()
	var got []string
	for _, s := range a.status().Skipped {
		got = append(got, string(s.Path))
		if s.Reason == "" {
			t.Errorf("%s is skipped without a reason", s.Path)
		}
	}
	slices.Sort(got)
	if want := []string{"null", "socket"}; !slices.Equal(got, want) {
		t.Errorf("status says that these are not saved: got %q, want %q", got, want)
	}
	conn, err := net.Dial("unix", a.path("socket"))
	must(t, err)
	must(t, conn.Close(), l.Close()) // it would keep the mount in use
	must(t, unix.Mknod(a.path("socket"), unix.S_IFSOCK|0o600, 0))
	m.end()

	b := p.host("b")
	cold := b.mount()
	wantNames(t, b.dir, "file")
	cold.end()
}

// TestPermissionsCount: the kernel checks modes for users who are not root.
func TestPermissionsCount(t *testing.T) {
	p := newProfile(t)
	a := p.host("a")
	m := a.mount("--uid", "1234", "--gid", "1234")
	write(t, a.path("secret"), "x")
	write(t, a.path("shared"), "x")
	must(t, os.Lchown(a.path("shared"), 0, 0), os.Chmod(a.path("secret"), 0o600), os.Chmod(a.path("shared"), 0o604))
	m.end()
	b := p.host("b")
	must(t, os.Chmod(suite.dir, 0o755), os.Chmod(p.dir, 0o755))
	m = b.mount()
	var st unix.Stat_t
	must(t, unix.Stat(b.dir, &st))
	if st.Uid != 1234 || st.Gid != 1234 || st.Mode&0o7777 != 0o700 {
		t.Errorf("a new home: got owner %d:%d and mode %o, want 1234:1234 and 700", st.Uid, st.Gid, st.Mode&0o7777)
	}
	for name, want := range map[string]bool{"secret": false, "shared": true} {
		cmd := exec.Command("setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", "cat", b.path(name))
		if out, err := cmd.CombinedOutput(); (err == nil) != want {
			t.Errorf("user 1234 reads %s: got %v (%s), want success: %t", name, err, out, want)
		}
	}
	m.end()
}

func withMode(f facts, mode uint32) facts {
	f.Mode = f.Mode&unix.S_IFMT | mode
	return f
}

// within is what lies in a directory of a tree, as a tree.
func within(all tree, dir string) tree {
	out := tree{}
	for name, f := range all {
		if name == dir {
			out["."] = f
		} else if rest, ok := strings.CutPrefix(name, dir+"/"); ok {
			out[rest] = f
		}
	}
	return out
}

// wantNames compares the names in a directory.
func wantNames(t testing.TB, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	got := []string{}
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("names in %s: got %q, want %q", dir, got, want)
	}
}

// noise is content that does not compress.
func noise(n int) string {
	p := make([]byte, n)
	_, _ = rand.Read(p) // never fails
	return string(p)
}

// sparse makes a file of a size with a little data at some places.
func sparse(t testing.TB, path string, size int64, at ...int64) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err, f.Truncate(size))
	for _, off := range at {
		_, err := f.WriteAt([]byte(fmt.Sprint("data at ", off)), off)
		must(t, err)
	}
	must(t, f.Close())
}

// stamp sets a file's time of change.
func stamp(t testing.TB, path string, sec, nsec int64) {
	t.Helper()
	ts := unix.Timespec{Sec: sec, Nsec: nsec}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
}

// acl is an access control list that names a user.
func acl(uid uint32) []byte {
	p := []byte{2, 0, 0, 0}
	for _, e := range [...]struct {
		tag, perm uint16
		id        uint32
	}{{0x01, 6, 1<<32 - 1}, {0x02, 4, uid}, {0x04, 4, 1<<32 - 1}, {0x10, 6, 1<<32 - 1}, {0x20, 4, 1<<32 - 1}} {
		p = binary.LittleEndian.AppendUint16(p, e.tag)
		p = binary.LittleEndian.AppendUint16(p, e.perm)
		p = binary.LittleEndian.AppendUint32(p, e.id)
	}
	return p
}
