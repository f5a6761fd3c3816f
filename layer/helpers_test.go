package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"valise/store"
	"valise/tree"
)

// memory is a Sink that keeps the blocks.
type memory struct {
	mu     sync.Mutex
	blocks map[tree.Hash][]byte
	calls  int
	before func(ctx context.Context, raw []byte) error // if set, it runs first
}

func newMemory() *memory { return &memory{blocks: map[tree.Hash][]byte{}} }

func (m *memory) Block(ctx context.Context, raw []byte) (tree.Blob, error) {
	if len(raw) == 0 || len(raw) > store.BlockSize {
		return tree.Blob{}, fmt.Errorf("a block of %d bytes", len(raw))
	}
	if m.before != nil {
		if err := m.before(ctx, raw); err != nil {
			return tree.Blob{}, err
		}
	}
	h := store.HashOf(raw)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	if _, ok := m.blocks[h]; !ok {
		m.blocks[h] = bytes.Clone(raw)
	}
	n := uint32(len(raw))
	return tree.Blob{Hash: h, Pack: tree.PackID{1}, Stored: n, Raw: n}, nil
}

func packSize(tree.PackID) uint32 { return 1 << 30 }

// stack is a mounted overlay with the tree of its lower directory.
type stack struct {
	Stack
	t    testing.TB
	sink *memory
	base *tree.Tree
	scan *Scanner

	patch *tree.Tree // of the last scan
}

// newStack mounts an overlay; fill makes the lower directory's content.
func newStack(t testing.TB, fill func(lower string)) *stack {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	s := &stack{t: t, sink: newMemory(), Stack: Stack{
		Lower: dir + "/lower", Upper: dir + "/upper", Work: dir + "/work", Target: dir + "/merged",
	}}
	for _, d := range []string{s.Lower, s.Upper, s.Work, s.Target} {
		must(t, os.Mkdir(d, 0o755))
	}
	if fill != nil {
		fill(s.Lower)
	}
	s.mount(nil)
	t.Cleanup(func() { _ = s.Stack.Detach() })
	return s
}

// mount mounts and makes a Scanner.
func (s *stack) mount(filter *Filter) {
	s.t.Helper()
	s.base = treeOf(s.t, s.sink, s.Lower)
	must(s.t, s.Mount())
	s.rescan(filter)
}

// rescan begins with a Scanner that knows nothing.
func (s *stack) rescan(filter *Filter) {
	s.t.Helper()
	scan, err := NewScanner(ScannerConfig{Upper: s.Upper, Merged: s.Target, Base: s.base, Filter: filter, Sink: s.sink})
	must(s.t, err)
	s.scan = scan
	s.t.Cleanup(func() { _ = scan.Close() })
}

// path is a file of the merged home.
func (s *stack) path(name string) string { return filepath.Join(s.Target, name) }

func (s *stack) upper(name string) string { return filepath.Join(s.Upper, name) }

// take scans.
func (s *stack) take(mode Mode) (*Scan, *tree.Tree) {
	s.t.Helper()
	scan, err := s.scan.Scan(s.t.Context(), mode)
	must(s.t, err)
	s.patch, err = scan.Builder.Finish(packSize)
	must(s.t, err)
	whole, err := tree.Apply(s.base, s.patch)
	must(s.t, err)
	inos := map[uint64]bool{}
	for i := range whole.Len() {
		n := tree.Node(i)
		if whole.File(n) != n {
			continue
		}
		if ino := whole.Attr(n).Ino; inos[ino] {
			s.t.Fatalf("inode number %d of %q is there twice", ino, whole.Path(n))
		} else {
			inos[ino] = true
		}
	}
	return scan, whole
}

// same scans a home at rest and compares it in full.
func (s *stack) same() *Scan {
	s.t.Helper()
	scan, whole := s.take(Regular)
	if !scan.Quiescent {
		s.t.Fatalf("nothing is at work, but the scan is not quiescent; skipped: %v", scan.Skipped)
	}
	if diff := cmp.Diff(list(s.t, s.Target), listTree(s.t, s.sink, whole)); diff != "" {
		s.t.Fatalf("merged home against tree (-want +got):\n%s", diff)
	}
	return scan
}

// facts is all that is compared of a file.
type facts struct {
	Mode, UID, GID uint32
	Mtime, Ctime   int64
	Size           int64
	Content        tree.Hash
	Symlink        string
	Xattrs         map[string]string
	Names          []string // of the same file
}

// list reads a directory tree by way of the kernel.
func list(t testing.TB, root string) map[string]facts {
	t.Helper()
	out := map[string]facts{}
	names := map[uint64][]string{}
	inos := map[string]uint64{}
	must(t, filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		f := facts{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Mtime: st.Mtim.Nano(), Ctime: st.Ctim.Nano()}
		rel, _ := filepath.Rel(root, path)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			f.Size, f.Content = st.Size, store.HashOf(data)
		case unix.S_IFLNK:
			f.Symlink, err = os.Readlink(path)
			if err != nil {
				return err
			}
		case unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK:
			return nil
		}
		f.Xattrs = xattrsOf(t, path)
		if !e.IsDir() {
			names[st.Ino] = append(names[st.Ino], rel)
			inos[rel] = st.Ino
		}
		out[rel] = f
		return nil
	}))
	for rel, f := range out {
		if ino, ok := inos[rel]; ok && len(names[ino]) > 1 {
			f.Names = names[ino]
			slices.Sort(f.Names)
			out[rel] = f
		}
	}
	return out
}

func xattrsOf(t testing.TB, path string) map[string]string {
	t.Helper()
	list, err := grow(func(buf []byte) (int, error) { return unix.Llistxattr(path, buf) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	must(t, err)
	var out map[string]string
	for name := range bytes.SplitSeq(list, []byte{0}) {
		if isSaved(string(name)) {
			value, err := grow(func(buf []byte) (int, error) { return unix.Lgetxattr(path, string(name), buf) })
			must(t, err)
			if out == nil {
				out = map[string]string{}
			}
			out[string(name)] = string(value)
		}
	}
	return out
}

// listTree reads a tree in the form of list.
func listTree(t testing.TB, sink *memory, whole *tree.Tree) map[string]facts {
	t.Helper()
	out := map[string]facts{}
	names := map[tree.Node][]string{}
	for i := range whole.Len() {
		n := tree.Node(i)
		a := whole.Attr(n)
		f := facts{Mode: a.Mode, UID: a.UID, GID: a.GID, Mtime: a.Mtime, Ctime: a.Ctime, Symlink: string(whole.Symlink(n))}
		if a.IsRegular() {
			f.Size, f.Content = a.Size, store.HashOf(content(t, sink, whole, n))
		}
		for k, v := range whole.Xattrs(n) {
			if f.Xattrs == nil {
				f.Xattrs = map[string]string{}
			}
			f.Xattrs[string(k)] = string(v)
		}
		rel := string(whole.Path(n))
		if n == tree.Root {
			rel = "."
		}
		if !a.IsDir() {
			names[whole.File(n)] = append(names[whole.File(n)], rel)
		}
		out[rel] = f
	}
	for _, group := range names {
		if len(group) > 1 {
			slices.Sort(group)
			for _, rel := range group {
				f := out[rel]
				f.Names = group
				out[rel] = f
			}
		}
	}
	return out
}

// content puts a file's blocks together.
func content(t testing.TB, sink *memory, whole *tree.Tree, n tree.Node) []byte {
	t.Helper()
	data := make([]byte, whole.Attr(n).Size)
	for e := range whole.Extents(n) {
		sink.mu.Lock()
		raw, ok := sink.blocks[e.Blob.Hash]
		sink.mu.Unlock()
		if !ok || len(raw) != int(e.Blob.Raw) {
			t.Fatalf("%q: the block at %d is not in the sink", whole.Path(n), e.Offset)
		}
		if e.Offset/store.BlockSize != (e.End()-1)/store.BlockSize {
			t.Fatalf("%q: the block at %d crosses a boundary", whole.Path(n), e.Offset)
		}
		copy(data[e.Offset:], raw)
	}
	return data
}

// treeOf makes the tree of a plain directory.
func treeOf(t testing.TB, sink *memory, root string) *tree.Tree {
	t.Helper()
	var b *tree.Builder
	dirs := map[string]tree.Ref{}
	files := map[uint64]tree.Ref{}
	must(t, filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		entry := tree.Entry{Name: []byte(e.Name()), Attr: newVersion(&st).attr}
		entry.Ino = st.Ino
		for k, v := range xattrsOf(t, path) {
			entry.Xattrs = append(entry.Xattrs, tree.Xattr{Name: k, Value: []byte(v)})
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			entry.Extents = extentsOfFile(t, sink, path)
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			entry.Symlink = []byte(target)
		}
		if path == root {
			b = tree.NewBuilder(tree.Whole, entry)
			dirs[path] = 0
			return nil
		}
		dir := dirs[filepath.Dir(path)]
		if ref, again := files[st.Ino]; again {
			b.Link(dir, entry.Name, ref)
			return nil
		}
		ref := b.Add(dir, entry)
		if e.IsDir() {
			dirs[path] = ref
		} else {
			files[st.Ino] = ref
		}
		return nil
	}))
	whole, err := b.Finish(packSize)
	must(t, err)
	return whole
}

func extentsOfFile(t testing.TB, sink *memory, path string) []tree.Extent {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	fi, err := f.Stat()
	must(t, err)
	scanner := &Scanner{ScannerConfig: ScannerConfig{Sink: sink}, buffers: make(chan []byte, 1)}
	scanner.buffers <- nil
	c := &copier{s: scanner}
	pieces, err := c.copy(t.Context(), int(f.Fd()), fi.Size())
	must(t, errors.Join(err, c.wait()))
	return extentsOf(pieces, nil)
}

// materialise writes a tree as a plain directory.
func materialise(t testing.TB, sink *memory, whole *tree.Tree, root string) {
	t.Helper()
	files := map[tree.Node]string{}
	path := func(n tree.Node) string { return filepath.Join(root, string(whole.Path(n))) }
	for i := range whole.Len() {
		n := tree.Node(i)
		p := path(n)
		if first, again := files[whole.File(n)]; again {
			must(t, os.Link(first, p))
			continue
		}
		a := whole.Attr(n)
		switch a.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			if n != tree.Root {
				must(t, os.Mkdir(p, 0o700))
			}
			continue
		case unix.S_IFREG:
			f, err := os.Create(p)
			must(t, err)
			must(t, f.Truncate(a.Size))
			data := content(t, sink, whole, n)
			for e := range whole.Extents(n) {
				_, err := f.WriteAt(data[e.Offset:e.End()], e.Offset)
				must(t, err)
			}
			must(t, f.Close())
		case unix.S_IFLNK:
			must(t, os.Symlink(string(whole.Symlink(n)), p))
		case unix.S_IFIFO:
			must(t, unix.Mkfifo(p, 0o600))
		}
		files[whole.File(n)] = p
	}
	for i := whole.Len() - 1; i >= 0; i-- { // directories after what is in them
		n := tree.Node(i)
		if whole.File(n) == n {
			setAttr(t, path(n), whole, n)
		}
	}
}

func setAttr(t testing.TB, p string, whole *tree.Tree, n tree.Node) {
	t.Helper()
	a := whole.Attr(n)
	must(t, os.Lchown(p, int(a.UID), int(a.GID)))
	if a.Mode&unix.S_IFMT != unix.S_IFLNK {
		must(t, unix.Chmod(p, a.Mode&0o7777))
	}
	for k, v := range whole.Xattrs(n) {
		must(t, unix.Lsetxattr(p, string(k), v, 0))
	}
	times := []unix.Timespec{unix.NsecToTimespec(a.Mtime), unix.NsecToTimespec(a.Mtime)}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, p, times, unix.AT_SYMLINK_NOFOLLOW))
}

// paths are the sorted paths of a listing.
func paths(m map[string]facts) []string { return slices.Sorted(maps.Keys(m)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, data string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(data), 0o644))
}
