package extract

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"valise/tree"
)

// packSize is what the tests say of every pack.
const packSize = 1 << 30

// memory is a Source. Hooks are set before it is used.
type memory struct {
	raw    map[tree.Hash][]byte
	before func(context.Context, tree.Blob) error // nil: none
	calls  atomic.Int64
	inUse  atomic.Int64
}

func (m *memory) Block(ctx context.Context, b tree.Blob, size uint32) ([]byte, error) {
	m.calls.Add(1)
	m.inUse.Add(1)
	defer m.inUse.Add(-1)
	if size != packSize {
		return nil, fmt.Errorf("pack size: got %d, want %d", size, packSize)
	}
	if m.before != nil {
		if err := m.before(ctx, b); err != nil {
			return nil, err
		}
	}
	raw, ok := m.raw[b.Hash]
	if !ok {
		return nil, errors.New("no such block")
	}
	return raw, nil
}

// home builds a tree and the blocks it needs.
type home struct {
	t      *testing.T
	b      *tree.Builder
	source *memory
	end    uint32 // of the only pack
	ino    uint64
}

func newHome(t *testing.T) *home {
	h := &home{t: t, source: &memory{raw: map[tree.Hash][]byte{}}}
	h.b = tree.NewBuilder(tree.Whole, tree.Entry{Attr: h.attr(unix.S_IFDIR|0o750, 7)})
	return h
}

// attr has another owner, time and inode number for each file.
func (h *home) attr(mode uint32, mtime int64) tree.Attr {
	h.ino++
	return tree.Attr{Mode: mode, UID: 1000 + uint32(h.ino%50), GID: 2000 + uint32(h.ino%7), Ino: h.ino, Mtime: mtime*1e9 + int64(h.ino)}
}

func (h *home) dir(in tree.Ref, name string, mode uint32, xattrs ...tree.Xattr) tree.Ref {
	return h.b.Add(in, tree.Entry{Name: []byte(name), Attr: h.attr(unix.S_IFDIR|mode, 1e9), Xattrs: xattrs})
}

func (h *home) file(in tree.Ref, name string, mode uint32, size int64, data map[int64][]byte, xattrs ...tree.Xattr) tree.Ref {
	e := tree.Entry{Name: []byte(name), Attr: h.attr(unix.S_IFREG|mode, 1.7e9), Xattrs: xattrs}
	e.Size = size
	for _, offset := range slices.Sorted(maps.Keys(data)) {
		for part := range slices.Chunk(data[offset], 1<<20) {
			e.Extents = append(e.Extents, tree.Extent{Offset: offset, Blob: h.blob(part)})
			offset += int64(len(part))
		}
		e.Size = max(e.Size, offset)
	}
	return h.b.Add(in, e)
}

func (h *home) text(in tree.Ref, name, content string) tree.Ref {
	return h.file(in, name, 0o644, 0, map[int64][]byte{0: []byte(content)})
}

func (h *home) symlink(in tree.Ref, name, target string, xattrs ...tree.Xattr) tree.Ref {
	return h.b.Add(in, tree.Entry{Name: []byte(name), Attr: h.attr(unix.S_IFLNK|0o777, -5), Symlink: []byte(target), Xattrs: xattrs})
}

func (h *home) fifo(in tree.Ref, name string, xattrs ...tree.Xattr) tree.Ref {
	return h.b.Add(in, tree.Entry{Name: []byte(name), Attr: h.attr(unix.S_IFIFO|0o622, 1e9), Xattrs: xattrs})
}

func (h *home) link(in tree.Ref, name string, to tree.Ref) { h.b.Link(in, []byte(name), to) }

func (h *home) blob(raw []byte) tree.Blob {
	n := uint32(len(raw))
	b := tree.Blob{Hash: sha256.Sum256(raw), Pack: tree.PackID{1}, Offset: h.end, Stored: n, Raw: n}
	h.source.raw[b.Hash] = raw
	h.end += n
	return b
}

func (h *home) config() Config {
	h.t.Helper()
	t, err := h.b.Finish(func(tree.PackID) uint32 { return packSize })
	if err != nil {
		h.t.Fatal(err)
	}
	return Config{Tree: t, Source: h.source}
}

// noise is n bytes that no other seed gives.
func noise(seed uint64, n int) []byte {
	var key [32]byte
	copy(key[:], fmt.Sprint(seed))
	p := make([]byte, n)
	rand.NewChaCha8(key).Read(p)
	return p
}

// acl is an access control list as the kernel has it: owner, uid 1234, group, mask, others.
func acl(owner, named, group, mask, others uint16) string {
	p := []byte{2, 0, 0, 0}
	for _, e := range [...]struct {
		tag, perm uint16
		id        uint32
	}{{1, owner, 1<<32 - 1}, {2, named, 1234}, {4, group, 1<<32 - 1}, {16, mask, 1<<32 - 1}, {32, others, 1<<32 - 1}} {
		p = append(p, byte(e.tag), 0, byte(e.perm), 0, byte(e.id), byte(e.id>>8), byte(e.id>>16), byte(e.id>>24))
	}
	return string(p)
}

// full is a home with every kind of file, and deeper than other programs can take.
func full(t *testing.T) *home {
	h := everyKind(t)
	deep := h.dir(0, "deep", 0o755)
	for i := range 30 {
		deep = h.dir(deep, strings.Repeat(string(rune('a'+i%26)), 250), 0o755)
	}
	h.text(deep, "bottom", "deeper than PATH_MAX")
	return h
}

func everyKind(t *testing.T) *home {
	h := newHome(t)
	x := func(name, value string) tree.Xattr { return tree.Xattr{Name: name, Value: []byte(value)} }
	access, inherited := x("system.posix_acl_access", acl(7, 5, 4, 5, 0)), x("system.posix_acl_default", acl(7, 7, 5, 7, 5))
	capability := x("security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")

	docs := h.dir(0, "docs", 0o2750, access, inherited, x("user.dir", "d"))
	h.dir(0, "locked", 0o000)
	h.dir(docs, "empty", 0o1777)
	sub := h.dir(docs, "sub", 0o500)
	h.text(sub, "in", "below an inherited ACL")
	h.file(docs, "empty.txt", 0o000, 0, nil)
	h.file(docs, "large", 0o640, 0, map[int64][]byte{0: noise(1, 5<<20+17)}, x("user.comment", "a\x00b\nc"), x("user.empty", ""), x("system.posix_acl_access", acl(6, 5, 4, 4, 0)))
	h.file(docs, "sparse", 0o600, 9<<20, map[int64][]byte{1 << 20: noise(2, 1<<20), 4 << 20: noise(3, 5000)})
	h.file(docs, "hole", 0o600, 3<<20, nil)
	h.file(0, "capable", 0o4755, 0, map[int64][]byte{0: []byte("#!")}, capability)
	h.file(0, "setgid", 0o6711, 0, map[int64][]byte{0: []byte("x")})
	h.symlink(0, "dangling", "/no/such/place", x("trusted.of-a-link", "1"))
	h.symlink(docs, "loop", "loop")
	h.fifo(0, "pipe", x("trusted.of-a-pipe", "2"))
	h.text(0, "\xff\xfe not UTF-8 \n\t", "bytes")
	h.text(0, strings.Repeat("é", 127), "long name")

	a := h.text(docs, "a", "of three names")
	h.link(sub, "a2", a)
	h.link(0, "z", a)
	l := h.symlink(0, "link1", "docs")
	h.link(docs, "link2", l)
	p := h.fifo(sub, "fifo1")
	h.link(0, "fifo2", p)
	return h
}

// found is what lies somewhere on the disk.
type found struct {
	Mode, UID, GID uint32
	Size, Mtime    int64
	Link           string
	Xattrs         map[string]string
	Data           [][2]int64 // runs of data, of sparse files
	Same           string     // the first name of the same file
}

// check compares what is below dir with the part of the tree at path.
func check(t *testing.T, cfg Config, path, dir string, sparse bool) {
	t.Helper()
	p, err := newPlan(cfg.Tree, path)
	if err != nil {
		t.Fatal(err)
	}
	source := cfg.Source.(*memory)
	want, got := map[string]found{}, map[string]found{}
	if p.whole {
		want["."] = expected(p, p.top, sparse)
	}
	for _, n := range p.nodes {
		want[p.path(n)] = expected(p, n, sparse)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	contents := map[string][]byte{}
	scan(t, int(root.Fd()), "", got, contents, map[uint64]string{}, sparse)
	if !p.whole {
		delete(got, ".")
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("restored (-want +got):\n%s", d)
	}
	for _, n := range p.nodes {
		if a := cfg.Tree.Attr(n); a.IsRegular() {
			content := make([]byte, a.Size)
			for e := range cfg.Tree.Extents(n) {
				copy(content[e.Offset:], source.raw[e.Blob.Hash])
			}
			if !bytes.Equal(content, contents[p.path(n)]) {
				t.Errorf("%q has other content", p.path(n))
			}
		}
	}
}

func expected(p *plan, n tree.Node, sparse bool) found {
	a := p.tree.Attr(n)
	f := found{Mode: a.Mode, UID: a.UID, GID: a.GID, Mtime: a.Mtime, Link: string(p.tree.Symlink(n)), Same: p.path(n)}
	if to, further := p.linked(n); further {
		f.Same = p.path(to)
	}
	if n == p.top {
		f.Same = "."
	}
	for k, v := range p.tree.Xattrs(n) {
		if f.Xattrs == nil {
			f.Xattrs = map[string]string{}
		}
		f.Xattrs[string(k)] = string(v)
	}
	if a.IsRegular() {
		f.Size = a.Size
		if sparse {
			for e := range p.tree.Extents(n) {
				if last := len(f.Data) - 1; last >= 0 && f.Data[last][1] == e.Offset {
					f.Data[last][1] = e.End()
				} else {
					f.Data = append(f.Data, [2]int64{e.Offset, e.End()})
				}
			}
			for i := range f.Data { // a file system's blocks
				f.Data[i][1] = min((f.Data[i][1]+4095)&^4095, a.Size)
			}
		}
	}
	return f
}

// scan describes the directory fd and what is below, without a path that is too long.
func scan(t *testing.T, fd int, path string, out map[string]found, contents map[string][]byte, first map[uint64]string, sparse bool) {
	t.Helper()
	name := path
	if path == "" {
		name = "."
	}
	out[name] = describe(t, fd, name, first)
	dup, err := unix.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(dup), path)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	for _, base := range names {
		full := strings.TrimPrefix(path+"/"+base, "/")
		at, err := unix.Openat(fd, base, unix.O_PATH|unix.O_NOFOLLOW, 0)
		if err != nil {
			t.Fatal(err)
		}
		d := describe(t, at, full, first)
		place := fmt.Sprintf("/proc/self/fd/%d", at)
		switch d.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			sub, err := unix.Open(place, unix.O_RDONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			scan(t, sub, full, out, contents, first, sparse)
			unix.Close(sub)
		case unix.S_IFREG:
			if contents[full], err = os.ReadFile(place); err != nil {
				t.Fatal(err)
			}
			if sparse {
				d.Data = dataRuns(t, place)
			}
			out[full] = d
		default:
			out[full] = d
		}
		unix.Close(at)
	}
}

func describe(t *testing.T, fd int, path string, first map[uint64]string) found {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	f := found{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Mtime: st.Mtim.Nano(), Same: path}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		f.Size = st.Size
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if known, ok := first[st.Ino]; ok {
			f.Same = known
		}
		first[st.Ino] = f.Same
	}
	buf := make([]byte, 64<<10)
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		n, err := unix.Readlinkat(fd, "", buf)
		if err != nil {
			t.Fatal(err)
		}
		f.Link = string(buf[:n])
	}
	place := fmt.Sprintf("/proc/self/fd/%d", fd)
	n, err := unix.Listxattr(place, buf)
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name == "" || name == "security.selinux" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Getxattr(place, name, value)
		if err != nil {
			t.Fatal(err)
		}
		if f.Xattrs == nil {
			f.Xattrs = map[string]string{}
		}
		f.Xattrs[name] = string(value[:n])
	}
	return f
}

func dataRuns(t *testing.T, path string) (out [][2]int64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for at := int64(0); ; {
		from, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, syscall.ENXIO) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if at, err = f.Seek(from, unix.SEEK_HOLE); err != nil {
			t.Fatal(err)
		}
		out = append(out, [2]int64{from, at})
	}
}

// wantNames fails unless exactly these are in dir, at any depth.
func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	got := []string{}
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, path); rel != "." {
			got = append(got, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(append([]string{}, want...), got); d != "" {
		t.Errorf("names (-want +got):\n%s", d)
	}
}

// mount puts a file system of some kind at dir, or skips the test.
func mount(t *testing.T, dir, kind, options string) {
	t.Helper()
	if err := unix.Mount("extract-test", dir, kind, 0, options); err != nil {
		t.Skipf("mount %s: %v", kind, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func mustWrite(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
