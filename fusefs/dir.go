package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"valise/tree"
)

// listing is a directory as the kernel reads it: "." and "..", then the children. The
// offset of an entry is its place in that order, so that it stays valid for ever.
type listing struct {
	view  *view
	dir   tree.Node
	first tree.Node
	count int
}

func (v *view) listing(id uint64) (l listing, ok bool) {
	n, ok := v.node(id)
	if !ok || !v.tree.Attr(n).IsDir() {
		return l, false
	}
	l = listing{view: v, dir: n}
	l.first, l.count = v.tree.Children(n)
	return l, true
}

// len is the number of entries.
func (l listing) len() uint64 { return 2 + uint64(l.count) }

// at returns entry i; n is its row, where it is a child.
func (l listing) at(i uint64) (e fuse.DirEntry, n tree.Node, child bool) {
	t := l.view.tree
	switch i {
	case 0:
		e.Name, n = ".", l.dir
	case 1:
		e.Name, n = "..", t.Parent(l.dir)
	default:
		n, child = l.first+tree.Node(i-2), true
		e.Name = string(t.Name(n))
	}
	a := t.Attr(n)
	e.Ino, e.Mode, e.Off = a.Ino, a.Mode, i+1
	return e, n, child
}

func (v *view) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	v.requests.add(opReadDir)
	l, ok := v.listing(in.NodeId)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	for i := in.Offset; i < l.len(); i++ {
		e, _, _ := l.at(i)
		if !out.AddDirEntry(e) {
			break
		}
	}
	return fuse.OK
}

// ReadDirPlus leaves the node of "." and ".." at 0, which says nothing of them.
func (v *view) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	v.requests.add(opReadDirPlus)
	l, ok := v.listing(in.NodeId)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	for i := in.Offset; i < l.len(); i++ {
		e, n, child := l.at(i)
		entry := out.AddDirLookupEntry(e)
		if entry == nil {
			break
		}
		if child {
			v.entry(n, entry)
		}
	}
	return fuse.OK
}
