package fusefs

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"valise/tree"
)

// Lookup answers that a name is not there with node 0, which the kernel remembers; it
// would not remember ENOENT.
func (v *view) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	v.requests.add(opLookup)
	dir, ok := v.node(in.NodeId)
	switch {
	case !ok:
		return fuse.Status(syscall.ESTALE)
	case len(name) > maxName:
		return fuse.Status(syscall.ENAMETOOLONG)
	}
	out.SetEntryTimeout(forever)
	if n, ok := v.tree.Lookup(dir, []byte(name)); ok {
		v.entry(n, out)
	}
	return fuse.OK
}

func (v *view) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	v.requests.add(opGetAttr)
	n, ok := v.node(in.NodeId)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	out.SetTimeout(forever)
	v.attr(n, &out.Attr)
	return fuse.OK
}

func (v *view) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	v.requests.add(opReadlink)
	n, ok := v.node(in.NodeId)
	if !ok {
		return nil, fuse.Status(syscall.ESTALE)
	}
	target := v.tree.Symlink(n)
	if len(target) == 0 {
		return nil, fuse.EINVAL
	}
	return target, fuse.OK
}

// entry says what the name in row n is.
func (v *view) entry(n tree.Node, out *fuse.EntryOut) {
	out.NodeId = v.id(n)
	out.Generation = v.generation
	out.SetEntryTimeout(forever)
	out.SetAttrTimeout(forever)
	v.attr(n, &out.Attr)
}

func (v *view) attr(n tree.Node, out *fuse.Attr) {
	a := v.tree.Attr(n)
	*out = fuse.Attr{
		Ino: a.Ino, Size: uint64(a.Size), Blocks: v.sectors(n, a), Blksize: blockSize,
		Mode: a.Mode, Nlink: a.Nlink, Owner: fuse.Owner{Uid: a.UID, Gid: a.GID},
	}
	out.Mtime, out.Mtimensec = split(a.Mtime)
	out.Ctime, out.Ctimensec = split(a.Ctime)
	out.Atime, out.Atimensec = out.Mtime, out.Mtimensec
}

// sectors is the space that n occupies, in units of 512 bytes as stat tells it: whole
// blocks of data and none for holes.
func (v *view) sectors(n tree.Node, a tree.Attr) uint64 {
	var blocks int64
	switch {
	case a.IsDir():
		blocks = ceil(a.Size)
	case a.IsRegular():
		for e := range v.tree.Extents(n) {
			blocks += ceil(int64(e.Blob.Raw))
		}
	}
	return uint64(blocks) * (blockSize / 512)
}

// ceil is the number of blocks that hold size bytes.
func ceil(size int64) int64 { return (size + blockSize - 1) / blockSize }

// split is a time as the kernel wants it. The seconds of one before 1970 are negative,
// which the kernel reads back from the unsigned number.
func split(ns int64) (sec uint64, nsec uint32) {
	t := time.Unix(0, ns)
	return uint64(t.Unix()), uint32(t.Nanosecond())
}
