package layer

import (
	"slices"

	"valise/tree"
)

// ownInodes is where the inode numbers begin that are given out here. File systems that
// count beyond it have all their numbers replaced.
const ownInodes = 1 << 40

// inodes gives files of upper numbers that the base does not use.
type inodes struct {
	base  []uint64 // sorted
	given map[uint64]uint64
	next  uint64
}

func newInodes(base *tree.Tree) *inodes {
	n := &inodes{given: map[uint64]uint64{}, next: ownInodes}
	n.base = make([]uint64, 0, base.Len())
	for i := range base.Len() {
		ino := base.Attr(tree.Node(i)).Ino
		n.base = append(n.base, ino)
		n.next = max(n.next, ino)
	}
	slices.Sort(n.base)
	return n
}

// of returns the number in the tree for inode ino of upper, always the same.
func (n *inodes) of(ino uint64) uint64 {
	if out, ok := n.given[ino]; ok {
		return out
	}
	if _, taken := slices.BinarySearch(n.base, ino); !taken && ino < ownInodes {
		return ino
	}
	n.next++
	n.given[ino] = n.next
	return n.next
}
