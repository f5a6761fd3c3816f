package tree

import (
	"bytes"
	"errors"
	"fmt"
	"syscall"
)

// ErrBase marks a patch that was made against another base.
var ErrBase = errors.New("the patch does not fit its base")

// Apply returns the whole tree that patch makes of base.
func Apply(base, patch *Tree) (*Tree, error) {
	if base.kind != Whole || patch.kind != Patch {
		return nil, fmt.Errorf("apply: want a whole tree and a patch, got kinds %d and %d", base.kind, patch.kind)
	}
	a := &applier{base: base, patch: patch, w: newWriter(), names: map[source]uint32{}}
	a.reserve()
	if err := a.run(); err != nil {
		return nil, err
	}
	return a.w.finish(Whole)
}

// applier writes the merged tree in breadth-first order.
type applier struct {
	base, patch *Tree
	w           *writer
	dirs        []merged          // directories whose children are still to be written
	names       map[source]uint32 // file with several names → its row
	nlink       map[uint32]uint32 // row of such a file → names so far
}

// source is a row of one of the two trees.
type source struct {
	patch bool
	node  Node
}

// merged is a written directory: what it is made of.
type merged struct {
	row             uint32
	base, patch     Node
	inBase, inPatch bool
}

func (a *applier) reserve() {
	size := func(sec int) int { return len(a.base.section[sec]) + len(a.patch.section[sec]) }
	a.w.rows = make([]byte, 0, size(secRows))
	a.w.extents = make([]byte, 0, size(secExtents))
	a.w.strings = make([]byte, 0, size(secStrings))
	a.w.blobs = make([]Blob, 0, a.base.Blobs()+a.patch.Blobs())
	a.w.order = bytes.Clone(a.patch.section[secOrder])
	a.nlink = map[uint32]uint32{}
	for _, t := range [...]*Tree{a.base, a.patch} {
		for i := range t.Packs() {
			id, n := t.Pack(i)
			a.w.sizes[id] = n
		}
		for i := range t.Blobs() {
			a.w.blobs = append(a.w.blobs, t.Blob(i))
		}
	}
}

func (a *applier) run() error {
	root := source{patch: true, node: Root}
	if err := a.put(root, 0, merged{base: Root, patch: Root, inBase: a.patch.Flags(Root)&Opaque == 0, inPatch: true}); err != nil {
		return err
	}
	for len(a.dirs) > 0 {
		d := a.dirs[0]
		a.dirs = a.dirs[1:]
		if err := a.children(d); err != nil {
			return err
		}
	}
	for n, count := range a.nlink {
		a.w.set(n, func(r *row) { r.nlink = count })
	}
	return nil
}

// children writes the merged entries of d, in order.
func (a *applier) children(d merged) error {
	first, subdirs := a.w.count(), uint32(0)
	var b, bEnd, p, pEnd Node
	if d.inBase {
		at, n := a.base.Children(d.base)
		b, bEnd = at, at+Node(n)
	}
	if d.inPatch {
		at, n := a.patch.Children(d.patch)
		p, pEnd = at, at+Node(n)
	}
	for b < bEnd || p < pEnd {
		order := 1
		switch {
		case b < bEnd && p < pEnd:
			order = bytes.Compare(a.base.Name(b), a.patch.Name(p))
		case b < bEnd:
			order = -1
		}
		before := len(a.dirs)
		var err error
		if order < 0 {
			err = a.put(source{node: b}, d.row, merged{base: b, inBase: true})
		} else {
			err = a.change(d.row, b, p, order == 0)
		}
		if err != nil {
			return err
		}
		subdirs += uint32(len(a.dirs) - before)
		if order <= 0 {
			b++
		}
		if order >= 0 {
			p++
		}
	}
	a.w.set(d.row, func(r *row) { r.a, r.b, r.nlink = first, a.w.count()-first, 2+subdirs })
	return nil
}

// change writes what row p of the patch makes of its name, which the base has too
// where shared is set, as row b.
func (a *applier) change(dir uint32, b, p Node, shared bool) error {
	m := merged{patch: p, inPatch: true}
	flags := a.patch.Flags(p)
	switch attr := a.patch.Attr(p); {
	case flags&Gone != 0:
		return nil
	case attr.IsDir() && flags&Moved != 0:
		origin, ok := a.base.LookupPath(a.patch.Origin(p))
		if !ok || !a.base.Attr(origin).IsDir() {
			return fmt.Errorf("%w: %q continues %q, which is no directory", ErrBase, a.patch.Path(p), a.patch.Origin(p))
		}
		m.base, m.inBase = origin, true
	case attr.IsDir() && flags&Opaque == 0 && shared && a.base.Attr(b).IsDir():
		m.base, m.inBase = b, true
	case flags&(Meta|Moved) == Meta:
		m.base, m.inBase = b, shared
		if file := a.patch.File(p); file != p {
			m.base, m.inBase = a.below(file) // its own name counts, not the further one
		}
	case flags&Meta != 0:
		m.base, m.inBase = a.base.LookupPath(a.patch.Origin(p))
	}
	return a.put(source{patch: true, node: p}, dir, m)
}

// below finds what the base has under the name of row p of the patch.
func (a *applier) below(p Node) (Node, bool) {
	parent := a.patch.Parent(p)
	dir, ok := Root, true
	switch flags := a.patch.Flags(parent); {
	case flags&Opaque != 0:
		return 0, false
	case flags&Moved != 0:
		dir, ok = a.base.LookupPath(a.patch.Origin(parent))
	case parent != Root:
		dir, ok = a.below(parent)
	}
	if !ok {
		return 0, false
	}
	return a.base.Lookup(dir, a.patch.Name(p))
}

// put writes one row; a directory's children follow later.
func (a *applier) put(s source, parent uint32, m merged) error {
	if len(a.w.rows)/rowSize >= maxRows {
		return errTooMany
	}
	t := a.base
	if s.patch {
		t = a.patch
	}
	at := a.w.count()
	file, r := t.target(s.node)
	if known, again := a.again(source{s.patch, file}, r, at); again {
		r = row{flags: uint16(flagLink), a: known}
	} else if err := a.fill(t, s.node, &r, m); err != nil {
		return err
	}
	name := t.Name(s.node)
	r.name, r.nameLen, r.parent = a.w.string(name), uint16(len(name)), parent
	a.w.rows = r.append(a.w.rows)
	if r.mode&syscall.S_IFMT == syscall.S_IFDIR {
		m.row = at
		a.dirs = append(a.dirs, m)
	}
	return nil
}

// again reports whether a file is written already, under another name, and in which
// row. If not it will be row at.
func (a *applier) again(file source, r row, at uint32) (known uint32, again bool) {
	if r.nlink < 2 || r.mode&syscall.S_IFMT == syscall.S_IFDIR {
		return 0, false
	}
	if known, again = a.names[file]; again {
		a.nlink[known]++
		return known, true
	}
	a.names[file], a.nlink[at] = at, 1
	return 0, false
}

// fill makes of r, which is the file's row in t, what it is in the new tree.
func (a *applier) fill(t *Tree, n Node, r *row, m merged) error {
	flags := Flags(r.flags)
	if r.xattr != 0 {
		r.xattr = a.w.xattr(t.encodedXattrs(r.xattr))
	}
	if flags&Meta != 0 {
		if !m.inBase || !a.base.Attr(m.base).IsRegular() {
			return fmt.Errorf("%w: %q has its content from %q, where no file is", ErrBase, t.Path(n), t.Origin(n))
		}
		t = a.base
		_, from := t.target(m.base)
		r.a, r.b, r.size = from.a, from.b, from.size
	}
	r.flags, r.c, r.d = 0, 0, 0
	a.content(t, r)
	return nil
}

// content copies the extents or the target that r has in t.
func (a *applier) content(t *Tree, r *row) {
	switch r.mode & syscall.S_IFMT {
	case syscall.S_IFLNK:
		r.a = a.w.string(t.section[secStrings][r.a:][:r.b])
	case syscall.S_IFREG:
		shift := uint32(0)
		if t == a.patch {
			shift = uint32(a.base.Blobs())
		}
		at := uint32(len(a.w.extents) / extentSize)
		for i := range r.b {
			p := t.section[secExtents][int(r.a+i)*extentSize:]
			a.w.extent(int64(le.Uint64(p)), le.Uint32(p[8:])+shift)
		}
		r.a = at
	}
}

// encodedXattrs returns the list at offset-1 as it is stored.
func (t *Tree) encodedXattrs(offset uint32) []byte {
	list := t.section[secXattrs][offset-1:]
	p := list[2:]
	for count := le.Uint16(list); count > 0; count-- {
		p = p[5+int(p[0])+int(le.Uint32(p[1:])):]
	}
	return list[:len(list)-len(p)]
}
