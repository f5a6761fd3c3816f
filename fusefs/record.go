package fusefs

import (
	"slices"
	"sync"
	"sync/atomic"

	"valise/tree"
)

// op is a kind of request.
type op int

const (
	opLookup op = iota
	opForget
	opGetAttr
	opReadlink
	opOpen
	opRead
	opFlush
	opFsync
	opOpenDir
	opReadDir
	opReadDirPlus
	opFsyncDir
	opStatFs
	opGetXAttr
	opListXAttr
	opAccess
	opLseek
	opIoctl
	opStatx
	ops
)

func (o op) String() string {
	return [ops]string{
		"LOOKUP", "FORGET", "GETATTR", "READLINK", "OPEN", "READ", "FLUSH", "FSYNC", "OPENDIR", "READDIR",
		"READDIRPLUS", "FSYNCDIR", "STATFS", "GETXATTR", "LISTXATTR", "ACCESS", "LSEEK", "IOCTL", "STATX",
	}[o]
}

// counters count requests by kind.
type counters [ops]atomic.Uint64

func (c *counters) add(o op) { c[o].Add(1) }

// snapshot has only what was asked at all.
func (c *counters) snapshot() map[string]uint64 {
	out := map[string]uint64{}
	for o := range c {
		if n := c[o].Load(); n > 0 {
			out[op(o).String()] = n
		}
	}
	return out
}

// maxTouched is how many files are remembered as touched.
const maxTouched = 1 << 16

// touched remembers which files were read first.
type touched struct {
	mu    sync.Mutex
	seen  []uint64 // a bit for each row
	order []uint64 // inode numbers
}

func newTouched(rows int) touched { return touched{seen: make([]uint64, (rows+63)/64)} }

func (t *touched) add(n tree.Node, ino uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	word, bit := &t.seen[n/64], uint64(1)<<(n%64)
	if *word&bit != 0 || len(t.order) == maxTouched {
		return
	}
	*word |= bit
	t.order = append(t.order, ino)
}

func (t *touched) list() []uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.order)
}
