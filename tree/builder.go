package tree

import (
	"bytes"
	"fmt"
	"slices"
	"syscall"
)

// Entry is a file to be added to a Builder.
type Entry struct {
	Name []byte
	Attr // Nlink is counted by Finish
	Flags
	Origin  []byte   // with Moved: a path in the base
	Symlink []byte   // a symbolic link's target
	Xattrs  []Xattr  // in any order
	Extents []Extent // a regular file's data, in order; with Meta it is left out
}

// Builder makes a tree of entries that come in any order, parents first.
type Builder struct {
	kind    Kind
	w       *writer
	blobN   map[Hash]uint32
	entries []built
	err     error // the first, for Finish
}

// built is an entry in the Builder: its row as far as it is known.
type built struct {
	row
	nameText []byte
	children []int
	link     int // the entry whose further name it is, or -1
}

// Ref is an entry of a Builder.
type Ref int

// NewBuilder begins a tree with root, whose name is ignored.
func NewBuilder(kind Kind, root Entry) *Builder {
	b := &Builder{kind: kind, w: newWriter(), blobN: map[Hash]uint32{}}
	root.Name = nil
	b.add(root)
	return b
}

// Order records the inode numbers that were touched, first touched first.
func (b *Builder) Order(inos []uint64) {
	for _, ino := range inos {
		b.w.order = le.AppendUint64(b.w.order, ino)
	}
}

// Add adds an entry to the directory dir; the root is Ref 0.
func (b *Builder) Add(dir Ref, e Entry) Ref {
	n := b.add(e)
	b.entries[dir].children = append(b.entries[dir].children, n)
	return Ref(n)
}

// Link adds a further name of the file to in the directory dir.
func (b *Builder) Link(dir Ref, name []byte, to Ref) {
	n := len(b.entries)
	b.entries = append(b.entries, built{nameText: bytes.Clone(name), link: int(to)})
	b.entries[dir].children = append(b.entries[dir].children, n)
}

func (b *Builder) add(e Entry) int {
	r := row{
		flags: uint16(e.Flags), mode: e.Mode, uid: e.UID, gid: e.GID, ino: e.Ino,
		size: e.Size, mtime: e.Mtime, ctime: e.Ctime,
	}
	if len(e.Xattrs) > 0 {
		list, err := appendXattrs(nil, e.Xattrs)
		if err != nil {
			b.fail(fmt.Errorf("%q: %w", e.Name, err))
		}
		r.xattr = b.w.xattr(list)
	}
	if e.Flags&Moved != 0 {
		r.c, r.d = b.w.string(e.Origin), uint32(len(e.Origin))
	}
	switch {
	case e.Mode&syscall.S_IFMT == syscall.S_IFLNK:
		r.a, r.b = b.w.string(e.Symlink), uint32(len(e.Symlink))
		r.size = int64(len(e.Symlink))
	case e.IsRegular() && e.Flags&Meta == 0:
		r.a = uint32(len(b.w.extents) / extentSize)
		r.b = uint32(len(e.Extents))
		for _, x := range e.Extents {
			b.w.extent(x.Offset, b.blob(x.Blob))
		}
	}
	b.entries = append(b.entries, built{row: r, nameText: bytes.Clone(e.Name), link: -1})
	return len(b.entries) - 1
}

func (b *Builder) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *Builder) blob(x Blob) uint32 {
	n, ok := b.blobN[x.Hash]
	if !ok {
		n = uint32(len(b.w.blobs))
		b.w.blobs = append(b.w.blobs, x)
		b.blobN[x.Hash] = n
	}
	return n
}

// Finish returns the tree; sizeOf tells the size in bytes of each pack that holds
// blocks of it. The Builder must not be used afterwards.
func (b *Builder) Finish(sizeOf func(PackID) uint32) (*Tree, error) {
	if b.err != nil {
		return nil, b.err
	}
	if len(b.entries) > maxRows {
		return nil, errTooMany
	}
	number := make([]uint32, len(b.entries)) // entry → row
	order := make([]int, 1, len(b.entries))
	for at := 0; at < len(order); at++ {
		e := &b.entries[order[at]]
		number[order[at]] = uint32(at)
		slices.SortFunc(e.children, func(x, y int) int {
			return bytes.Compare(b.entries[x].nameText, b.entries[y].nameText)
		})
		for i, c := range e.children {
			if err := CheckName(b.entries[c].nameText); err != nil {
				return nil, err
			}
			if i > 0 && bytes.Equal(b.entries[c].nameText, b.entries[e.children[i-1]].nameText) {
				return nil, fmt.Errorf("the name %q is there twice", b.entries[c].nameText)
			}
			b.entries[c].parent = uint32(at)
		}
		if e.mode&syscall.S_IFMT == syscall.S_IFDIR {
			e.a, e.b = uint32(len(order)), uint32(len(e.children))
		} else if len(e.children) > 0 {
			return nil, fmt.Errorf("%q has entries and is no directory", e.nameText)
		}
		order = append(order, e.children...)
	}
	b.countLinks()
	b.w.rows = make([]byte, 0, len(order)*rowSize)
	for _, n := range order {
		e := &b.entries[n]
		e.name, e.nameLen = b.w.string(e.nameText), uint16(len(e.nameText))
		if e.link >= 0 {
			e.row = row{name: e.name, nameLen: e.nameLen, parent: e.parent, flags: uint16(flagLink), a: number[e.link]}
		}
		b.w.rows = e.row.append(b.w.rows)
	}
	for _, x := range b.w.blobs {
		if _, known := b.w.sizes[x.Pack]; !known {
			b.w.sizes[x.Pack] = sizeOf(x.Pack)
		}
	}
	return b.w.finish(b.kind)
}

// countLinks sets the number of links: of a file its names, of a directory 2 and one
// for each directory in it, as on ext4.
func (b *Builder) countLinks() {
	for i := range b.entries {
		e := &b.entries[i]
		switch {
		case e.link >= 0:
			b.entries[e.link].nlink++
		case Flags(e.flags)&Gone == 0:
			e.nlink++
		}
		if e.mode&syscall.S_IFMT == syscall.S_IFDIR {
			e.nlink = 2
			for _, c := range e.children {
				if b.entries[c].mode&syscall.S_IFMT == syscall.S_IFDIR {
					e.nlink++
				}
			}
		}
	}
}
