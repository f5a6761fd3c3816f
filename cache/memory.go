package cache

import (
	"container/list"
	"sync"

	"valise/tree"
)

// memory holds the plain bytes of the blocks that were read last, because a block is
// read in pieces.
type memory struct {
	limit int64

	mu     sync.Mutex                  // guards what follows
	size   int64                       // with what the bookkeeping takes
	blocks map[tree.Hash]*list.Element // of plain
	order  *list.List                  // the last used first
}

type plain struct {
	hash tree.Hash
	raw  []byte
}

func (p plain) size() int64 { return int64(len(p.raw)) + 256 }

func newMemory(limit int64) *memory {
	return &memory{limit: limit, blocks: map[tree.Hash]*list.Element{}, order: list.New()}
}

// get returns b's bytes, if they are there.
func (m *memory) get(b tree.Blob) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.blocks[b.Hash]
	if !ok {
		return nil, false
	}
	m.order.MoveToFront(e)
	raw := e.Value.(plain).raw
	return raw, len(raw) == int(b.Raw)
}

// put keeps raw, which nobody changes any more.
func (m *memory) put(h tree.Hash, raw []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := plain{h, raw}
	if _, ok := m.blocks[h]; ok || p.size() > m.limit {
		return
	}
	m.blocks[h] = m.order.PushFront(p)
	m.size += p.size()
	for m.size > m.limit {
		old := m.order.Remove(m.order.Back()).(plain)
		delete(m.blocks, old.hash)
		m.size -= old.size()
	}
}
