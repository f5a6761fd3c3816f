package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"valise/tree"
)

// Lseek is asked for SEEK_DATA and SEEK_HOLE alone. Overlayfs copies a sparse file up
// by them. Where no file has a hole, ENOSYS says never to ask again.
func (v *view) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	v.requests.add(opLseek)
	if !v.sparse() {
		return fuse.ENOSYS
	}
	n, ok := v.node(in.NodeId)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	size := v.tree.Attr(n).Size
	offset := int64(in.Offset)
	if offset < 0 || offset >= size {
		return fuse.Status(syscall.ENXIO)
	}
	switch in.Whence {
	case unix.SEEK_DATA:
		e, ok := v.tree.ExtentAt(n, offset)
		if !ok {
			return fuse.Status(syscall.ENXIO)
		}
		offset = max(offset, e.Offset)
	case unix.SEEK_HOLE:
		offset = v.hole(n, offset)
	default:
		return fuse.EINVAL
	}
	out.Offset = uint64(offset)
	return fuse.OK
}

// hasHoles reports whether a file of t has fewer bytes of data than its size.
func hasHoles(t *tree.Tree) bool {
	for n := range t.Len() {
		n := tree.Node(n)
		if a := t.Attr(n); t.File(n) == n && a.IsRegular() && a.Size > 0 {
			at := int64(0)
			for e := range t.Extents(n) {
				if e.Offset > at {
					return true
				}
				at = e.End()
			}
			if at < a.Size {
				return true
			}
		}
	}
	return false
}

// hole is the first offset from there on that no data covers. The end of a file is one.
func (v *view) hole(n tree.Node, offset int64) int64 {
	for {
		e, ok := v.tree.ExtentAt(n, offset)
		if !ok || e.Offset > offset {
			return offset
		}
		offset = e.End()
	}
}
