package tree

import (
	"encoding/binary"

	"github.com/zeebo/blake3"
)

// The bytes of a tree: a header, then sections in this order, each at a multiple of
// eight. All numbers are little endian. docs/format.md has the table of the fields.
const (
	magic      = "VALTREE\x01"
	sumAt      = 16 // the checksum, of all bytes but itself
	tableAt    = sumAt + 32
	headerSize = tableAt + sections*16

	rowSize    = 80
	extentSize = 16
	blobSize   = 48
	packSize   = 24
)

// section numbers.
const (
	secRows = iota
	secExtents
	secBlobs
	secPacks
	secStrings
	secXattrs
	secOrder
	sections
)

// entrySize is the size of one entry of the sections that have entries of one size.
var entrySize = [sections]int{rowSize, extentSize, blobSize, packSize, 1, 1, 8}

var le = binary.LittleEndian

// checksum is of a whole tree, as its header has it.
func checksum(data []byte) (sum [32]byte) {
	h := blake3.New()
	_, _ = h.Write(data[:sumAt]) // it never fails
	_, _ = h.Write(data[tableAt:])
	h.Sum(sum[:0])
	return sum
}

// row is one entry of secRows. What a, b, c and d mean depends on the kind of file:
//
//	directory   a, b: first child's row and number of children; c, d: origin
//	file        a, b: first extent and number of extents;        c, d: origin
//	symlink     a, b: its target in secStrings
//	further name of a file (flagLink)   a: the row with the attributes
//
// An origin is in secStrings. A row that is Gone or a further name has nothing else
// but its name and parent.
type row struct {
	name           uint32 // in secStrings
	nameLen, flags uint16
	mode, uid, gid uint32
	nlink, parent  uint32
	a, b, c, d     uint32
	xattr          uint32 // offset in secXattrs plus one, or 0
	ino            uint64
	size           int64
	mtime, ctime   int64 // nanoseconds since 1970
}

func (r *row) decode(p []byte) {
	_ = p[rowSize-1]
	r.name, r.nameLen, r.flags = le.Uint32(p), le.Uint16(p[4:]), le.Uint16(p[6:])
	r.mode, r.uid, r.gid = le.Uint32(p[8:]), le.Uint32(p[12:]), le.Uint32(p[16:])
	r.nlink, r.parent = le.Uint32(p[20:]), le.Uint32(p[24:])
	r.a, r.b, r.c, r.d = le.Uint32(p[28:]), le.Uint32(p[32:]), le.Uint32(p[36:]), le.Uint32(p[40:])
	r.xattr = le.Uint32(p[44:])
	r.ino, r.size = le.Uint64(p[48:]), int64(le.Uint64(p[56:]))
	r.mtime, r.ctime = int64(le.Uint64(p[64:])), int64(le.Uint64(p[72:]))
}

func (r *row) append(p []byte) []byte {
	p = le.AppendUint32(p, r.name)
	p = le.AppendUint16(p, r.nameLen)
	p = le.AppendUint16(p, r.flags)
	for _, v := range [...]uint32{r.mode, r.uid, r.gid, r.nlink, r.parent, r.a, r.b, r.c, r.d, r.xattr} {
		p = le.AppendUint32(p, v)
	}
	for _, v := range [...]uint64{r.ino, uint64(r.size), uint64(r.mtime), uint64(r.ctime)} {
		p = le.AppendUint64(p, v)
	}
	return p
}

func appendBlob(p []byte, b Blob, pack uint32) []byte {
	p = append(p, b.Hash[:]...)
	for _, v := range [...]uint32{pack, b.Offset, b.Stored, b.Raw} {
		p = le.AppendUint32(p, v)
	}
	return p
}
