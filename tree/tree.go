package tree

import (
	"bytes"
	"iter"
	"sort"
	"syscall"
)

// Kind tells a whole tree from a patch.
type Kind uint32

// The kinds of Tree.
const (
	Whole Kind = iota
	Patch
)

// Node is the number of a row. Root is the home itself.
type Node uint32

// Root is the row of the home's own directory.
const Root Node = 0

// Flags say how a row of a patch differs from the base; a whole tree has none.
type Flags uint16

const (
	// Gone: the base's entry of this name is no more. The row has nothing but a name.
	Gone Flags = 1 << iota
	// Opaque: this directory hides what the base has below its name.
	Opaque
	// Moved: the directory continues the one at Origin in the base, or the file has
	// (with Meta) the content of the file at Origin, not of its own name.
	Moved
	// Meta: only the attributes of the file are here; content and size are the base's.
	Meta

	flagLink // a further name of the file in row a
)

// Attr is what stat tells of a file. Mode has the type (syscall.S_IF…) and the
// permissions, Mtime and Ctime are nanoseconds since 1970, Ino is unique in its tree.
type Attr struct {
	Mode, UID, GID, Nlink uint32
	Ino                   uint64
	Size                  int64
	Mtime, Ctime          int64
}

// IsDir reports whether it is a directory.
func (a Attr) IsDir() bool { return a.Mode&syscall.S_IFMT == syscall.S_IFDIR }

// IsRegular reports whether it is a regular file.
func (a Attr) IsRegular() bool { return a.Mode&syscall.S_IFMT == syscall.S_IFREG }

// Extent is a run of data in a file; what no extent covers is a hole.
type Extent struct {
	Offset int64
	Blob   Blob
}

// End is the offset after its last byte.
func (e Extent) End() int64 { return e.Offset + int64(e.Blob.Raw) }

// Tree is a table of a home's metadata. The slices it returns are parts of it and
// must not be changed.
type Tree struct {
	kind    Kind
	data    []byte
	section [sections][]byte
	release func() error // of a mapped file
}

// Bytes is the whole table, as Parse reads it.
func (t *Tree) Bytes() []byte { return t.data }

// Kind tells a whole tree from a patch.
func (t *Tree) Kind() Kind { return t.kind }

// Len is the number of rows, that is of names with the root.
func (t *Tree) Len() int { return len(t.section[secRows]) / rowSize }

func (t *Tree) row(n Node) (r row) {
	r.decode(t.section[secRows][int(n)*rowSize:])
	return r
}

// target is the row that has the attributes: n itself, but for a further name.
func (t *Tree) target(n Node) (Node, row) {
	r := t.row(n)
	if Flags(r.flags)&flagLink != 0 {
		n = Node(r.a)
		r = t.row(n)
	}
	return n, r
}

// File is the row that stands for the file n names: the same for all its names.
func (t *Tree) File(n Node) Node {
	n, _ = t.target(n)
	return n
}

// Attr returns the attributes of n.
func (t *Tree) Attr(n Node) Attr {
	_, r := t.target(n)
	return Attr{Mode: r.mode, UID: r.uid, GID: r.gid, Nlink: r.nlink, Ino: r.ino, Size: r.size, Mtime: r.mtime, Ctime: r.ctime}
}

// Name returns the name of n in its directory; the root's is empty.
func (t *Tree) Name(n Node) []byte {
	r := t.row(n)
	return t.section[secStrings][r.name : r.name+uint32(r.nameLen)]
}

// Parent returns the directory of n; the root is its own.
func (t *Tree) Parent(n Node) Node {
	r := t.row(n)
	return Node(r.parent)
}

// Path returns the names from the root to n, joined by slashes; the root's is empty.
func (t *Tree) Path(n Node) []byte {
	var names [][]byte
	for ; n != Root; n = t.Parent(n) {
		names = append(names, t.Name(n))
	}
	var out []byte
	for i := len(names) - 1; i >= 0; i-- {
		out = append(append(out, '/'), names[i]...)
	}
	return bytes.TrimPrefix(out, []byte("/"))
}

// Children returns the run of rows that are the entries of directory n, sorted by
// name; of anything else it is empty.
func (t *Tree) Children(n Node) (first Node, count int) {
	r := t.row(n)
	if r.mode&syscall.S_IFMT != syscall.S_IFDIR || Flags(r.flags)&(flagLink|Gone) != 0 {
		return 0, 0
	}
	return Node(r.a), int(r.b)
}

// Lookup finds name in directory dir.
func (t *Tree) Lookup(dir Node, name []byte) (Node, bool) {
	first, count := t.Children(dir)
	i := sort.Search(count, func(i int) bool { return bytes.Compare(t.Name(first+Node(i)), name) >= 0 })
	if i == count || !bytes.Equal(t.Name(first+Node(i)), name) {
		return 0, false
	}
	return first + Node(i), true
}

// LookupPath finds the row at path: names joined by slashes, a leading one is ignored.
func (t *Tree) LookupPath(path []byte) (Node, bool) {
	n := Root
	for name := range bytes.SplitSeq(path, []byte("/")) {
		if len(name) == 0 {
			continue
		}
		var ok bool
		if n, ok = t.Lookup(n, name); !ok {
			return 0, false
		}
	}
	return n, true
}

// Flags returns how the row n of a patch differs from the base.
func (t *Tree) Flags(n Node) Flags {
	_, r := t.target(n)
	return Flags(r.flags)
}

// Origin is the path in the base of what n continues; see Moved.
func (t *Tree) Origin(n Node) []byte {
	_, r := t.target(n)
	if Flags(r.flags)&Moved == 0 {
		return nil
	}
	return t.section[secStrings][r.c : r.c+r.d]
}

// Symlink returns the target of symbolic link n.
func (t *Tree) Symlink(n Node) []byte {
	_, r := t.target(n)
	if r.mode&syscall.S_IFMT != syscall.S_IFLNK {
		return nil
	}
	return t.section[secStrings][r.a : r.a+r.b]
}

// Extents yields the runs of data of file n, in order.
func (t *Tree) Extents(n Node) iter.Seq[Extent] {
	_, r := t.target(n)
	return func(yield func(Extent) bool) {
		for i := range t.extents(r) {
			if !yield(t.extent(r.a + i)) {
				return
			}
		}
	}
}

func (t *Tree) extents(r row) uint32 {
	if r.mode&syscall.S_IFMT != syscall.S_IFREG || Flags(r.flags)&Meta != 0 {
		return 0
	}
	return r.b
}

func (t *Tree) extent(i uint32) Extent {
	p := t.section[secExtents][int(i)*extentSize:]
	return Extent{Offset: int64(le.Uint64(p)), Blob: t.Blob(int(le.Uint32(p[8:])))}
}

// ExtentAt returns the run of data of file n that covers offset or, where offset lies
// in a hole, the next one; false after the last.
func (t *Tree) ExtentAt(n Node, offset int64) (Extent, bool) {
	_, r := t.target(n)
	count := t.extents(r)
	i := sort.Search(int(count), func(i int) bool { return t.extent(r.a+uint32(i)).End() > offset })
	if i == int(count) {
		return Extent{}, false
	}
	return t.extent(r.a + uint32(i)), true
}

// Order is the inode numbers that the last session touched, first touched first.
func (t *Tree) Order() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for p := t.section[secOrder]; len(p) > 0; p = p[8:] {
			if !yield(le.Uint64(p)) {
				return
			}
		}
	}
}

// Total counts the files, whatever their type but no directories, and the bytes of
// the regular ones, each once however many names it has.
func (t *Tree) Total() (files, bytes int64) {
	for i := range t.Len() {
		r := t.row(Node(i))
		if Flags(r.flags)&(flagLink|Gone) != 0 || r.mode&syscall.S_IFMT == syscall.S_IFDIR {
			continue
		}
		files++
		if r.mode&syscall.S_IFMT == syscall.S_IFREG {
			bytes += r.size
		}
	}
	return files, bytes
}
