package tree

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// writer collects the sections of a new tree. Extents name blocks by their number in
// blobs, which finish sorts.
type writer struct {
	rows, extents, strings, xattrs, order []byte

	blobs  []Blob // of two places of one block the later counts
	sizes  map[PackID]uint32
	xattrN map[string]uint32 // encoded list → offset plus one
}

func newWriter() *writer {
	return &writer{sizes: map[PackID]uint32{}, xattrN: map[string]uint32{}}
}

func (w *writer) count() uint32 { return uint32(len(w.rows) / rowSize) }

func (w *writer) string(s []byte) (offset uint32) {
	offset = uint32(len(w.strings))
	w.strings = append(w.strings, s...)
	return offset
}

func (w *writer) extent(offset int64, blob uint32) {
	w.extents = le.AppendUint64(w.extents, uint64(offset))
	w.extents = le.AppendUint64(w.extents, uint64(blob))
}

// xattr adds an encoded list, once for all files that have the same.
func (w *writer) xattr(list []byte) uint32 {
	if at, ok := w.xattrN[string(list)]; ok {
		return at
	}
	at := uint32(len(w.xattrs)) + 1
	w.xattrs = append(w.xattrs, list...)
	w.xattrN[string(list)] = at
	return at
}

// set changes a row in its place.
func (w *writer) set(n uint32, change func(*row)) {
	p := w.rows[int(n)*rowSize:]
	var r row
	r.decode(p)
	change(&r)
	r.append(p[:0])
}

// maxRows is the number of rows that a tree can have.
const maxRows = math.MaxUint32 - 1

var errTooMany = errors.New("too many files")

// finish sorts the blocks and packs that are used and puts the sections together.
func (w *writer) finish(kind Kind) (*Tree, error) {
	for _, part := range [][]byte{w.strings, w.xattrs} {
		if len(part) > math.MaxUint32-1 {
			return nil, fmt.Errorf("names or extended attributes: %d bytes are too many", len(part))
		}
	}
	blobs, packs := w.content()
	parts := [sections][]byte{w.rows, w.extents, blobs, packs, w.strings, w.xattrs, w.order}
	*w = writer{} // each part is freed when it is copied
	size := headerSize
	for _, p := range parts {
		size += len(p) + 7
	}
	data := make([]byte, headerSize, size)
	copy(data, magic)
	le.PutUint32(data[8:], uint32(kind))
	for i, p := range parts {
		le.PutUint64(data[tableAt+16*i:], uint64(len(data)))
		le.PutUint64(data[tableAt+16*i+8:], uint64(len(p)))
		data = append(data, p...)
		data = append(data, make([]byte, -len(data)&7)...)
		parts[i] = nil
	}
	sum := checksum(data)
	copy(data[sumAt:], sum[:])
	return Parse(data)
}

// content writes the used blocks sorted by hash and the packs that these lie in, and
// renumbers the extents.
func (w *writer) content() (blobs, packs []byte) {
	used := make([]bool, len(w.blobs))
	for p := w.extents; len(p) > 0; p = p[extentSize:] {
		used[le.Uint32(p[8:])] = true
	}
	order := make([]uint32, 0, len(w.blobs))
	for i, u := range used {
		if u {
			order = append(order, uint32(i))
		}
	}
	slices.SortFunc(order, func(a, b uint32) int {
		return cmp.Or(bytes.Compare(w.blobs[a].Hash[:], w.blobs[b].Hash[:]), cmp.Compare(b, a))
	})
	renumber := make([]uint32, len(w.blobs))
	kept := order[:0]
	for _, old := range order {
		if n := len(kept); n == 0 || w.blobs[kept[n-1]].Hash != w.blobs[old].Hash {
			kept = append(kept, old)
		}
		renumber[old] = uint32(len(kept) - 1)
	}
	for p := w.extents; len(p) > 0; p = p[extentSize:] {
		le.PutUint32(p[8:], renumber[le.Uint32(p[8:])])
	}

	inUse := map[PackID]bool{}
	for _, i := range kept {
		inUse[w.blobs[i].Pack] = true
	}
	ids := make([]PackID, 0, len(inUse))
	for id := range inUse {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b PackID) int { return bytes.Compare(a[:], b[:]) })
	packN := make(map[PackID]uint32, len(ids))
	for i, id := range ids {
		packN[id] = uint32(i)
		packs = append(packs, id[:]...)
		packs = le.AppendUint64(packs, uint64(w.sizes[id]))
	}

	blobs = make([]byte, 0, len(kept)*blobSize)
	for _, i := range kept {
		blobs = appendBlob(blobs, w.blobs[i], packN[w.blobs[i].Pack])
	}
	return blobs, packs
}
