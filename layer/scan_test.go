package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"valise/tree"
)

func TestChanged(t *testing.T) {
	s := newStack(t, func(lower string) { write(t, lower+"/f", "x"); must(t, os.Mkdir(lower+"/d", 0o755)) })
	times := []unix.Timespec{{}, unix.NsecToTimespec(s.base.Attr(tree.Root).Mtime)}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, s.Upper, times, 0))
	if scan := s.same(); scan.Changed {
		t.Error("an empty upper changes something")
	}
	write(t, s.path("f"), "y")
	first := s.same()
	if !first.Changed || first.Files != 1 || first.Bytes != 1 {
		t.Errorf("a file was written: got %+v", first)
	}
	if again := s.same(); !again.Changed {
		t.Error("nothing was committed, so there is still a change")
	}
	s.scan.Committed(first) // no longer the last one
	last := s.same()
	if !last.Changed {
		t.Error("an earlier scan's commit counted for the last one")
	}
	s.scan.Committed(last)
	if scan := s.same(); scan.Changed {
		t.Error("nothing changed since the commit")
	}
	must(t, os.Chmod(s.path("d"), 0o700))
	if scan := s.same(); !scan.Changed {
		t.Error("a directory's mode changed")
	}
}

func TestUnchangedFilesAreNotRead(t *testing.T) {
	s := newStack(t, func(lower string) { write(t, lower+"/lower", "x") })
	for i := range 50 {
		write(t, s.path(fmt.Sprint("f", i)), strings.Repeat("x", i))
	}
	must(t, os.Chmod(s.path("lower"), 0o600))
	s.scan.Committed(s.same())
	s.scan.Committed(s.same()) // the first one was too soon after the writes
	calls := s.sink.calls
	scan := s.same()
	if scan.Files != 0 || scan.Bytes != 0 || s.sink.calls != calls || scan.Hot != 0 {
		t.Errorf("got %d files, %d bytes read, %d blocks stored, %d hot", scan.Files, scan.Bytes, s.sink.calls-calls, scan.Hot)
	}
	write(t, s.path("f7"), "new")
	if scan := s.same(); scan.Files != 1 || !scan.Changed {
		t.Errorf("one file changed: got %+v", scan)
	}
}

// What was not committed may be lost, so it must be handed to the sink again.
func TestContentOfAnUncommittedScanIsReadAgain(t *testing.T) {
	s := newStack(t, nil)
	write(t, s.path("f"), "content")
	s.settle("f")
	s.same()
	if scan := s.same(); scan.Files != 1 {
		t.Errorf("got %d files read", scan.Files)
	}
}

// settle waits until a file's change time is old enough.
func (s *stack) settle(names ...string) {
	s.t.Helper()
	for _, name := range names {
		var st unix.Stat_t
		must(s.t, unix.Lstat(s.upper(name), &st))
		for recent(&st, s.scan.Now()) {
			must(s.t, pause(s.t.Context(), granularity/8))
		}
	}
}

func TestSinkErrorEndsTheScan(t *testing.T) {
	s := newStack(t, nil)
	write(t, s.path("f"), "content")
	want := errors.New("no space")
	s.sink.before = func(context.Context, []byte) error { return want }
	if _, err := s.scan.Scan(t.Context(), Regular); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
	s.sink.before = nil
	s.same()
}

func TestNames(t *testing.T) {
	s := newStack(t, func(lower string) {
		must(t, os.MkdirAll(lower+"/"+strings.Repeat("n", 255), 0o755))
		write(t, lower+"/\x01\xff", "low")
	})
	for _, name := range []string{strings.Repeat("ü", 127) + "x", "\x01\xff\n", " ", "...", "a\\b", "\xf0\x28\x8c\xbc", "-rf"} {
		write(t, s.path(name), name)
		must(t, os.Symlink(name, s.path(name[:len(name)-1]+"l")))
	}
	must(t, os.Rename(s.path(strings.Repeat("n", 255)), s.path(strings.Repeat("m", 255))))
	must(t, os.Chmod(s.path("\x01\xff"), 0o600))
	must(t, os.Rename(s.path("\x01\xff"), s.path("\x02")))
	s.same()
}

// Paths are longer than PATH_MAX, and there are more directories one in the other than
// descriptors.
func TestDeepPaths(t *testing.T) {
	s := newStack(t, nil)
	const depth = 1200
	name := strings.Repeat("deep", 5)
	fd, err := unix.Open(s.Target, unix.O_PATH, 0)
	must(t, err)
	for i := range depth {
		must(t, unix.Mkdirat(fd, name, 0o755))
		if i%100 == 0 {
			must(t, unix.Mkdirat(fd, "zz", 0o755)) // to be visited on the way back
		}
		next, err := unix.Openat(fd, name, unix.O_PATH, 0)
		must(t, errors.Join(err, unix.Close(fd)))
		fd = next
	}
	file, err := unix.Openat(fd, "file", unix.O_CREAT|unix.O_WRONLY, 0o600)
	must(t, errors.Join(err, unix.Close(fd)))
	_, err = unix.Write(file, []byte("at the bottom"))
	must(t, errors.Join(err, unix.Close(file)))
	before := descriptors(t)
	peak := 0
	s.sink.before = func(context.Context, []byte) error { peak = descriptors(t); return nil }
	scan, whole := s.take(Regular)
	n, ok := whole.LookupPath([]byte(strings.Repeat(name+"/", depth) + "file"))
	if !ok || string(content(t, s.sink, whole, n)) != "at the bottom" || !scan.Quiescent {
		t.Errorf("the file at the bottom: found %v, scan %+v", ok, scan)
	}
	if _, ok := whole.LookupPath([]byte(strings.Repeat(name+"/", 1100) + "zz")); !ok {
		t.Error("a directory beside is missing")
	}
	if after := descriptors(t); after > before || peak > before+2*maxOpen {
		t.Errorf("descriptors: %d before, %d while reading, %d after", before, peak, after)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(list)
}

func TestWhatIsNotSaved(t *testing.T) {
	s := newStack(t, func(lower string) { write(t, lower+"/replaced", "x") })
	must(t, os.Remove(s.path("replaced")))
	l, err := net.Listen("unix", s.path("replaced"))
	must(t, err)
	defer l.Close()
	must(t, unix.Mknod(s.path("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(s.path("disk"), unix.S_IFBLK|0o666, int(unix.Mkdev(7, 0))))
	must(t, unix.Mkfifo(s.path("fifo"), 0o640))
	must(t, unix.Setxattr(s.Target, "trusted.mine", []byte("x"), 0))
	must(t, unix.Setxattr(s.Target, "user.mine", []byte("x"), 0))
	scan := s.same()
	want := []Skipped{
		{"disk", "device nodes are not saved"}, {"null", "device nodes are not saved"}, {"replaced", "sockets are not saved"},
	}
	if diff := cmp.Diff(want, scan.Skipped); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
}

func TestExtendedAttributes(t *testing.T) {
	s := newStack(t, func(lower string) { write(t, lower+"/f", "x"); must(t, os.Mkdir(lower+"/d", 0o755)) })
	acl := accessACL(7)
	for path, names := range map[string][]string{
		"f": {"user.a", "user.overlay.b", "user." + strings.Repeat("n", 250)}, "d": {"user.a"},
	} {
		for _, name := range names {
			must(t, unix.Setxattr(s.path(path), name, bytes.Repeat([]byte("v"), len(name)*10), 0))
		}
		must(t, unix.Setxattr(s.path(path), "system.posix_acl_access", acl, 0))
	}
	must(t, unix.Setxattr(s.path("d"), "system.posix_acl_default", acl, 0))
	must(t, unix.Mkfifo(s.path("fifo"), 0o600))
	must(t, unix.Setxattr(s.path("fifo"), "system.posix_acl_access", acl, 0))
	capability := append([]byte{0, 0, 0, 2, 0, 4, 0, 0}, make([]byte, 12)...) // cap_net_bind_service
	must(t, unix.Setxattr(s.path("f"), "security.capability", capability, 0))
	s.same()
	_, whole := s.take(Regular)
	n, _ := whole.LookupPath([]byte("f"))
	for _, name := range []string{"user.overlay.b", "security.capability", "system.posix_acl_access"} {
		if _, ok := whole.Xattr(n, []byte(name)); !ok {
			t.Errorf("f has no %s", name)
		}
	}
}

func TestSparseFiles(t *testing.T) {
	s := newStack(t, nil)
	f, err := os.Create(s.path("sparse"))
	must(t, err)
	const size = 20 << 30
	for _, at := range []int64{0, 1<<20 - 4096, 5<<30 + 4096, size - 5} {
		_, err := f.WriteAt([]byte("datum"), at)
		must(t, err)
	}
	_, err = f.WriteAt(make([]byte, 4096), 7<<30) // zeros that are data
	must(t, errors.Join(err, f.Close()))
	must(t, os.Truncate(s.path("sparse"), size))
	must(t, os.WriteFile(s.path("hole"), nil, 0o600))
	must(t, os.Truncate(s.path("hole"), size))
	scan, whole := s.take(Regular)
	n, _ := whole.LookupPath([]byte("sparse"))
	var starts []int64
	for e := range whole.Extents(n) {
		starts = append(starts, e.Offset)
	}
	want := []int64{0, 1<<20 - 4096, 5<<30 + 4096, 7 << 30, size - 4096}
	if !slices.Equal(starts, want) || whole.Attr(n).Size != size || scan.Bytes != 5*4096 {
		t.Errorf("data at %d, want %d; size %d, %d bytes read", starts, want, whole.Attr(n).Size, scan.Bytes)
	}
	n, _ = whole.LookupPath([]byte("hole"))
	if _, data := whole.ExtentAt(n, 0); data || whole.Attr(n).Size != size {
		t.Error("a file that is a hole has data or another size")
	}
}

func TestInodeNumbersStay(t *testing.T) {
	s := newStack(t, func(lower string) { write(t, lower+"/low", "x") })
	for i := range 5 {
		write(t, s.path(fmt.Sprint(i)), "x")
	}
	// A base that has the numbers of upper's files for its own.
	var st unix.Stat_t
	must(t, unix.Stat(s.upper("3"), &st))
	b := tree.NewBuilder(tree.Whole, tree.Entry{Attr: tree.Attr{Mode: unix.S_IFDIR | 0o755, Ino: 1}})
	b.Add(0, tree.Entry{Name: []byte("low"), Attr: tree.Attr{Mode: unix.S_IFREG, Ino: st.Ino}})
	var err error
	s.base, err = b.Finish(packSize)
	must(t, err)
	s.rescan(nil)
	numbers := func() map[string]uint64 {
		_, whole := s.take(Regular) // which fails if a number is there twice
		out := map[string]uint64{}
		for i := range whole.Len() {
			out[string(whole.Path(tree.Node(i)))] = whole.Attr(tree.Node(i)).Ino
		}
		return out
	}
	first := numbers()
	if first["3"] <= ownInodes || first["low"] != st.Ino {
		t.Errorf("got %v", first)
	}
	must(t, os.Remove(s.path("1")))
	must(t, os.Rename(s.path("3"), s.path("three")))
	if second := numbers(); second["three"] != first["3"] || second["4"] != first["4"] {
		t.Errorf("got %v, then %v", first, second)
	}
}

// The other form of whiteouts that overlayfs documents.
func TestWhiteoutsThatAreFiles(t *testing.T) {
	s := newStack(t, func(lower string) {
		must(t, os.Mkdir(lower+"/d", 0o755))
		write(t, lower+"/d/gone", "x")
		write(t, lower+"/d/kept", "x")
	})
	must(t, os.Chmod(s.path("d"), 0o700))
	must(t, s.Unmount())
	must(t, unix.Setxattr(s.upper("d"), xattrOpaque, []byte("x"), 0))
	write(t, s.upper("d/gone"), "")
	must(t, unix.Setxattr(s.upper("d/gone"), xattrWhiteout, []byte("y"), 0))
	_, whole := s.take(Final)
	if got, want := paths(listTree(t, s.sink, whole)), []string{".", "d", "d/kept"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRedirectsThatLeadNowhere(t *testing.T) {
	s := newStack(t, func(lower string) {
		must(t, os.MkdirAll(lower+"/d/in", 0o755))
		write(t, lower+"/f", "x")
	})
	must(t, os.Rename(s.path("d"), s.path("e")))
	must(t, os.Chmod(s.path("f"), 0o600))
	must(t, os.Rename(s.path("f"), s.path("g")))
	must(t, s.Unmount())
	must(t, unix.Setxattr(s.upper("e"), xattrRedirect, []byte("missing"), 0))
	must(t, unix.Setxattr(s.upper("g"), xattrRedirect, []byte("missing"), 0))
	scan, whole := s.take(Final)
	if got, want := paths(listTree(t, s.sink, whole)), []string{".", "e"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(scan.Skipped) != 1 || scan.Skipped[0].Path != "g" || scan.Quiescent {
		t.Errorf("a file whose content is lost: got %+v", scan)
	}
}

func TestFilteredPaths(t *testing.T) {
	s := newStack(t, func(lower string) {
		for _, d := range []string{"cache/old", "cache/deep/er/x", "cache/old/y", "plain", "was", "Downloads/dir"} {
			must(t, os.MkdirAll(filepath.Join(lower, d), 0o755))
		}
		for _, f := range []string{"cache/kept", "cache/old/kept", "plain/a.o", "plain/b.o", "was/x", "Downloads/old", "Downloads/gone"} {
			write(t, filepath.Join(lower, f), "low")
		}
	})
	filter, err := ParseFilter("cache,**.o,was,Downloads/*,new")
	must(t, err)
	s.rescan(filter)
	write(t, s.path("cache/new"), "not saved")
	must(t, os.Remove(s.path("cache/kept"))) // inside: not looked at
	must(t, unix.Setxattr(s.path("cache"), "user.a", []byte("saved"), 0))
	write(t, s.path("plain/a.o"), "not saved")
	must(t, os.Remove(s.path("plain/b.o"))) // honoured
	must(t, os.RemoveAll(s.path("was")))
	write(t, s.path("was"), "not saved, but the directory is gone")
	write(t, s.path("Downloads/new"), "not saved")
	must(t, os.Remove(s.path("Downloads/gone")))
	must(t, os.MkdirAll(s.path("new/sub"), 0o750))
	write(t, s.path("new/sub/x"), "not saved")
	must(t, os.Rename(s.path("cache/old"), s.path("saved"))) // it is not there twice
	must(t, os.Rename(s.path("saved/y"), s.path("cache/old")))
	must(t, os.Rename(s.path("cache/deep/er/x"), s.path("x")))
	scan, whole := s.take(Regular)
	want := []string{
		".", "Downloads", "Downloads/dir", "Downloads/old", "cache", "cache/deep", "cache/deep/er", "cache/kept", "new",
		"plain", "plain/a.o", "saved", "saved/kept", "x",
	}
	got := listTree(t, s.sink, whole)
	if diff := cmp.Diff(want, paths(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got["plain/a.o"].Size != 3 || got["cache"].Xattrs["user.a"] != "saved" || got["new"].Mode != unix.S_IFDIR|0o750 {
		t.Errorf("got %+v", got)
	}
	if scan.Files != 0 || len(scan.Skipped) != 0 || !scan.Quiescent {
		t.Errorf("got %+v", scan)
	}
	must(t, os.RemoveAll(s.path("cache"))) // now it is the user's will
	must(t, os.Mkdir(s.path("cache"), 0o755))
	write(t, s.path("cache/x"), "not saved")
	_, whole = s.take(Regular)
	if n, ok := whole.LookupPath([]byte("cache/kept")); ok {
		t.Errorf("row %d: what was deleted with its directory is still there", n)
	}
	if _, ok := whole.LookupPath([]byte("cache")); !ok {
		t.Error("the new cache is missing")
	}
}
