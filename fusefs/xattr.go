package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// GetXAttr gives ACLs and capabilities as any other attribute: the kernel parses and
// enforces them. Where the tree has no attribute at all it is never asked again.
func (v *view) GetXAttr(_ <-chan struct{}, in *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	v.requests.add(opGetXAttr)
	if !v.tree.HasXattrs() {
		return 0, fuse.ENOSYS
	}
	n, ok := v.node(in.NodeId)
	if !ok {
		return 0, fuse.Status(syscall.ESTALE)
	}
	value, ok := v.tree.Xattr(n, []byte(name))
	if !ok {
		return 0, fuse.ENODATA
	}
	if len(value) > len(dest) {
		return uint32(len(value)), fuse.ERANGE
	}
	return uint32(copy(dest, value)), fuse.OK
}

// ListXAttr gives the names, each with a zero byte after it.
func (v *view) ListXAttr(_ <-chan struct{}, in *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	v.requests.add(opListXAttr)
	if !v.tree.HasXattrs() {
		return 0, fuse.ENOSYS
	}
	n, ok := v.node(in.NodeId)
	if !ok {
		return 0, fuse.Status(syscall.ESTALE)
	}
	var list []byte
	for name := range v.tree.Xattrs(n) {
		list = append(append(list, name...), 0)
	}
	if len(list) > len(dest) {
		return uint32(len(list)), fuse.ERANGE
	}
	return uint32(copy(dest, list)), fuse.OK
}
