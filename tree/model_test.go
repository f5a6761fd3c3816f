package tree

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
)

// The model is a home of nested maps. A file with several names is one *mfile, which
// several maps have.

type mnode any // *mdir or *mfile

type mdir struct {
	Entry
	children map[string]mnode
}

type mfile struct{ Entry }

// pdir is a directory of a patch, pfile another entry of it.
type pdir struct {
	Entry
	children map[string]mnode // *pdir or *pfile
}

type pfile struct {
	Entry
	in   *pdir // where it was added, under
	name string
}

func (d *mdir) lookup(path []string) mnode {
	var at mnode = d
	for _, name := range path {
		dir, ok := at.(*mdir)
		if !ok {
			return nil
		}
		if at, ok = dir.children[name]; !ok {
			return nil
		}
	}
	return at
}

func pathOf(s []byte) []string {
	return strings.FieldsFunc(string(s), func(r rune) bool { return r == '/' })
}

// names counts how often each file is in d.
func (d *mdir) names(into map[*mfile]int) map[*mfile]int {
	for _, c := range d.children {
		switch c := c.(type) {
		case *mfile:
			into[c]++
		case *mdir:
			c.names(into)
		}
	}
	return into
}

// modelApply is Apply in the terms of the model.
func modelApply(base *mdir, patch *pdir) *mdir {
	m := &modelApplier{
		base: base, names: base.names(map[*mfile]int{}), copies: map[*mfile]*mfile{},
		continues: map[*pdir]*mdir{}, content: map[*pfile]*mfile{}, files: map[*pfile]*mfile{},
	}
	m.find(patch, base)
	return m.directory(patch)
}

type modelApplier struct {
	base      *mdir
	names     map[*mfile]int
	copies    map[*mfile]*mfile // of files with several names
	continues map[*pdir]*mdir   // what the base has below a directory
	content   map[*pfile]*mfile // where the content is of a file that has but attributes
	files     map[*pfile]*mfile // what was made
}

// find fills in continues and content; beneath is what the base has at the name of p.
func (m *modelApplier) find(p *pdir, beneath mnode) {
	from, ok := beneath.(*mdir)
	switch {
	case p.Flags&Moved != 0:
		from = m.base.lookup(pathOf(p.Origin)).(*mdir)
	case p.Flags&Opaque != 0 || !ok:
		from = &mdir{}
	}
	m.continues[p] = from
	for name, c := range p.children {
		switch c := c.(type) {
		case *pdir:
			m.find(c, from.children[name])
		case *pfile:
			switch {
			case c.Flags&Moved != 0:
				m.content[c] = m.base.lookup(pathOf(c.Origin)).(*mfile)
			case c.Flags&Meta != 0 && c.in == p && c.name == name:
				m.content[c] = from.children[name].(*mfile)
			}
		}
	}
}

func (m *modelApplier) directory(p *pdir) *mdir {
	out := &mdir{Entry: p.Entry, children: map[string]mnode{}}
	out.Flags, out.Origin = 0, nil
	for name, c := range m.continues[p].children {
		if _, changed := p.children[name]; !changed {
			out.children[name] = m.copy(c)
		}
	}
	for name, c := range p.children {
		switch c := c.(type) {
		case *pdir:
			out.children[name] = m.directory(c)
		case *pfile:
			if c.Flags&Gone == 0 {
				out.children[name] = m.file(c)
			}
		}
	}
	return out
}

func (m *modelApplier) file(p *pfile) *mfile {
	if known := m.files[p]; known != nil {
		return known
	}
	out := &mfile{p.Entry}
	if p.Flags&Meta != 0 {
		out.Size, out.Extents = m.content[p].Size, m.content[p].Extents
	}
	out.Flags, out.Origin = 0, nil
	m.files[p] = out
	return out
}

// copy copies what the base has. A file with one name that is there twice by way of
// moved directories is two files.
func (m *modelApplier) copy(c mnode) mnode {
	switch c := c.(type) {
	case *mdir:
		out := &mdir{Entry: c.Entry, children: map[string]mnode{}}
		for name, child := range c.children {
			out.children[name] = m.copy(child)
		}
		return out
	case *mfile:
		out := m.copies[c]
		if out == nil {
			out = &mfile{c.Entry}
		}
		if m.names[c] > 1 {
			m.copies[c] = out
		}
		return out
	}
	panic("unknown node")
}

// lines is all of a model as text, in the order of the paths; at tells where a block is.
func (d *mdir) lines(at func(Hash) Blob) []string {
	var out []string
	names := d.names(map[*mfile]int{})
	first := map[*mfile]string{}
	var walk func(path string, d *mdir)
	walk = func(path string, d *mdir) {
		subdirs := 0
		for _, c := range d.children {
			if _, ok := c.(*mdir); ok {
				subdirs++
			}
		}
		out = append(out, line(path, d.Entry, 2+subdirs, at))
		for _, name := range slices.Sorted(maps.Keys(d.children)) {
			path := path + "/" + name
			switch c := d.children[name].(type) {
			case *mdir:
				walk(path, c)
			case *mfile:
				if to, again := first[c]; again {
					out = append(out, fmt.Sprintf("%q is %q", path, to))
					continue
				}
				first[c] = path
				out = append(out, line(path, c.Entry, names[c], at))
			}
		}
	}
	walk("", d)
	return out
}

func line(path string, e Entry, nlink int, at func(Hash) Blob) string {
	out := fmt.Sprintf("%q %o %d:%d links=%d ino=%d size=%d %d %d", path, e.Mode, e.UID, e.GID, nlink, e.Ino, e.Size, e.Mtime, e.Ctime)
	if e.Mode&syscall.S_IFMT == syscall.S_IFLNK {
		out += fmt.Sprintf(" -> %q", e.Symlink)
	}
	for _, x := range e.Xattrs {
		out += fmt.Sprintf(" %s=%q", x.Name, x.Value)
	}
	for _, x := range e.Extents {
		out += fmt.Sprintf(" %d:%v", x.Offset, at(x.Blob.Hash))
	}
	return out
}

// treeLines is lines of a Tree.
func treeLines(t *Tree) []string {
	var out []string
	first := map[Node]string{}
	var walk func(path string, n Node)
	walk = func(path string, n Node) {
		if to, again := first[t.File(n)]; again {
			out = append(out, fmt.Sprintf("%q is %q", path, to))
			return
		}
		first[t.File(n)] = path
		e := Entry{Attr: t.Attr(n), Symlink: t.Symlink(n), Extents: slices.Collect(t.Extents(n))}
		for name, value := range t.Xattrs(n) {
			e.Xattrs = append(e.Xattrs, Xattr{string(name), value})
		}
		located := map[Hash]Blob{}
		for _, x := range e.Extents {
			located[x.Blob.Hash] = x.Blob
		}
		out = append(out, line(path, e, int(e.Nlink), func(h Hash) Blob { return located[h] }))
		at, count := t.Children(n)
		for i := range count {
			walk(path+"/"+string(t.Name(at+Node(i))), at+Node(i))
		}
	}
	walk("", Root)
	return out
}
