package tree

import (
	"bytes"
	"errors"
	"fmt"
	"math"
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
		if a.w.count() == math.MaxUint32 {
			return errors.New("too many files")
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
	case flags&Meta != 0:
		m.base, m.inBase = b, shared
	}
	return a.put(source{patch: true, node: p}, dir, m)
}

// put writes one row; a directory's children follow later.
func (a *applier) put(s source, parent uint32, m merged) error {
	t := a.base
	if s.patch {
		t = a.patch
	}
	file, r := t.target(s.node)
	r.flags, r.parent = 0, parent
	name := t.Name(s.node)
	at := a.w.count()

	several := r.nlink > 1 && r.mode&syscall.S_IFMT != syscall.S_IFDIR
	if several {
		key := source{s.patch, file}
		if known, ok := a.names[key]; ok {
			a.nlink[known]++
			r = row{flags: uint16(flagLink), a: known, parent: parent}
			r.name, r.nameLen = a.w.string(name), uint16(len(name))
			a.w.rows = r.append(a.w.rows)
			return nil
		}
		a.names[key] = at
		a.nlink[at] = 1
	}
	if err := a.content(t, s, file, &r, m); err != nil {
		return err
	}
	if r.xattr != 0 {
		r.xattr = a.w.xattr(t.encodedXattrs(r.xattr))
	}
	r.name, r.nameLen = a.w.string(name), uint16(len(name))
	a.w.rows = r.append(a.w.rows)
	if r.mode&syscall.S_IFMT == syscall.S_IFDIR {
		m.row = at
		a.dirs = append(a.dirs, m)
	}
	return nil
}

// content copies a file's extents or a symbolic link's target and says so in r.
func (a *applier) content(t *Tree, s source, file Node, r *row, m merged) error {
	flags := t.Flags(file)
	origin := t.Origin(file)
	r.c, r.d = 0, 0
	switch r.mode & syscall.S_IFMT {
	case syscall.S_IFLNK:
		r.a = a.w.string(t.Symlink(file))
	case syscall.S_IFREG:
		from := file
		if s.patch && flags&Meta != 0 {
			if flags&Moved != 0 {
				m.base, m.inBase = a.base.LookupPath(origin)
			}
			if !m.inBase || !a.base.Attr(m.base).IsRegular() {
				return fmt.Errorf("%w: the content of %q is at %q, where no file is", ErrBase, t.Path(s.node), origin)
			}
			t, from = a.base, a.base.File(m.base)
			_, content := t.target(from)
			r.a, r.b, r.size = content.a, content.b, content.size
		}
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
	return nil
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
