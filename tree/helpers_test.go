package tree

import (
	"bytes"
	"fmt"
	"strings"
	"syscall"
	"testing"
)

const (
	modeDir  = syscall.S_IFDIR | 0o755
	modeFile = syscall.S_IFREG | 0o644
	modeLink = syscall.S_IFLNK | 0o777
	modeFIFO = syscall.S_IFIFO | 0o600
)

const testPackSize = 1 << 20

func sizeOf(PackID) uint32 { return testPackSize }

// block returns the n-th block, in pack number pack.
func block(n, pack byte) Blob {
	return Blob{Hash: Hash{n, 0xb1}, Pack: PackID{pack, 0xac}, Offset: uint32(n) * 100, Stored: 100, Raw: 1000}
}

func entry(name string, mode uint32) Entry {
	return Entry{Name: []byte(name), Attr: Attr{Mode: mode}}
}

// file is an entry with whole blocks, one after another.
func file(name string, blobs ...Blob) Entry {
	e := entry(name, modeFile)
	for _, b := range blobs {
		e.Extents = append(e.Extents, Extent{Offset: e.Size, Blob: b})
		e.Size += int64(b.Raw)
	}
	return e
}

func (e Entry) flagged(f Flags, origin string) Entry {
	e.Flags, e.Origin = f, []byte(origin)
	return e
}

// builder is a Builder to which entries are added by path, parents first.
type builder struct {
	*Builder
	refs map[string]Ref
}

func begin(kind Kind) *builder {
	return &builder{NewBuilder(kind, entry("", modeDir)), map[string]Ref{"": 0}}
}

func (b *builder) split(path string) (dir Ref, name string) {
	i := strings.LastIndexByte(path, '/')
	return b.refs[path[:max(i, 0)]], path[i+1:]
}

// add adds an entry whose name is a path.
func (b *builder) add(e Entry) *builder {
	path := string(e.Name)
	dir, name := b.split(path)
	e.Name = []byte(name)
	b.refs[path] = b.Add(dir, e)
	return b
}

func (b *builder) link(path, to string) *builder {
	dir, name := b.split(path)
	b.Link(dir, []byte(name), b.refs[to])
	return b
}

func (b *builder) tree(t testing.TB) *Tree {
	t.Helper()
	out, err := b.Finish(sizeOf)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// everything is a tree of the kind with each feature of the format at least once.
func everything(t testing.TB, kind Kind) *Tree {
	t.Helper()
	acl := []Xattr{{"user.b", []byte("2")}, {"system.posix_acl_access", []byte{2, 0, 0, 0}}, {"user.a", nil}}
	root := entry("", modeDir|0o1000)
	root.UID, root.GID, root.Ino, root.Mtime, root.Ctime = 1000, 1001, 2, -1, 1700000000123456789
	root.Xattrs = acl
	b := &builder{NewBuilder(kind, root), map[string]Ref{"": 0}}
	b.Order([]uint64{7, 2, 1 << 63})

	b.add(entry("empty", modeDir)).add(entry("docs", modeDir)).add(entry("docs/deep", modeDir))
	e := file("docs/sparse", block(1, 2), block(2, 1), block(1, 2))
	e.Extents[1].Offset, e.Extents[2].Offset, e.Size = 5000, 1<<40, 1<<41
	e.Xattrs, e.Ino = acl[:1], 1<<40
	b.add(e)
	b.add(entry("docs/hole", modeFile))
	e = file("docs/deep/several", block(3, 2))
	e.Xattrs, e.Ino = acl, 7
	b.add(e).link("again", "docs/deep/several").link("docs/again", "docs/deep/several")
	e = entry("docs/deep/link", modeLink)
	e.Symlink = []byte("../\xff no \n where")
	b.add(e).link("docs/deep/link too", "docs/deep/link")
	b.add(entry("\xfe\x01 name\n", modeFIFO)).add(entry(strings.Repeat("n", 255), modeFile))
	if kind == Patch {
		b.add(Entry{Name: []byte("gone"), Flags: Gone})
		b.add(entry("opaque", modeDir).flagged(Opaque, ""))
		b.add(entry("opaque/moved", modeDir).flagged(Moved, "old/place"))
		e = entry("opaque/content", modeFile).flagged(Meta|Moved, "old/file")
		e.Xattrs = acl[2:]
		b.add(e).link("opaque/content too", "opaque/content")
		b.add(entry("meta", modeFile).flagged(Meta, ""))
	}
	return b.tree(t)
}

func flagText(f Flags) string {
	var out []string
	for i, name := range []string{"gone", "opaque", "moved", "meta"} {
		if f&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return strings.Join(out, "+")
}

// dump is all that a tree says, as text.
func dump(t *Tree) string {
	var out bytes.Buffer
	fmt.Fprintf(&out, "kind %d, %d rows, %d blocks, %d packs\n", t.Kind(), t.Len(), t.Blobs(), t.Packs())
	for i := range t.Len() {
		n := Node(i)
		fmt.Fprintf(&out, "%d in %d: %q", n, t.Parent(n), t.Name(n))
		if to := t.File(n); to != n {
			fmt.Fprintf(&out, " is %d\n", to)
			continue
		}
		a := t.Attr(n)
		fmt.Fprintf(&out, " %06o %d:%d links=%d ino=%d size=%d mtime=%d ctime=%d", a.Mode, a.UID, a.GID, a.Nlink, a.Ino, a.Size, a.Mtime, a.Ctime)
		if f := t.Flags(n); f != 0 {
			fmt.Fprintf(&out, " %s", flagText(f))
		}
		if o := t.Origin(n); o != nil {
			fmt.Fprintf(&out, " origin=%q", o)
		}
		if s := t.Symlink(n); s != nil {
			fmt.Fprintf(&out, " -> %q", s)
		}
		if first, count := t.Children(n); count > 0 {
			fmt.Fprintf(&out, " children=%d+%d", first, count)
		}
		out.WriteByte('\n')
		for name, value := range t.Xattrs(n) {
			fmt.Fprintf(&out, "\t%s=%q\n", name, value)
		}
		for e := range t.Extents(n) {
			fmt.Fprintf(&out, "\t%d %s\n", e.Offset, blobText(e.Blob))
		}
	}
	for i := range t.Blobs() {
		fmt.Fprintf(&out, "block %s\n", blobText(t.Blob(i)))
	}
	for i := range t.Packs() {
		id, size := t.Pack(i)
		fmt.Fprintf(&out, "pack %s %d bytes\n", id, size)
	}
	for ino := range t.Order() {
		fmt.Fprintf(&out, "touched %d\n", ino)
	}
	files, size := t.Total()
	fmt.Fprintf(&out, "total %d files, %d bytes\n", files, size)
	return out.String()
}

func blobText(b Blob) string {
	return fmt.Sprintf("%s in %s at %d+%d raw %d", b.Hash, b.Pack, b.Offset, b.Stored, b.Raw)
}
