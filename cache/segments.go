package cache

import (
	"io"
	"math/bits"
	"os"

	"golang.org/x/sys/unix"

	"valise/store"
	"valise/tree"
)

// segment is the unit of what is fetched and kept, in bytes. It is a multiple of any
// file system's block, and a pack has no more of them than a word has bits.
const segment = 512 << 10

const _ = uint(64 - store.MaxObject/segment)

// segments is a set of a pack's segments.
type segments uint64

// span is the set of the segments from lo up to, but not including, hi.
func span(lo, hi int) segments {
	if lo >= hi {
		return 0
	}
	return ^segments(0) >> (64 - (hi - lo)) << lo
}

// covering is the set of the segments that b's stored bytes lie in.
func covering(b tree.Blob) segments {
	end := int64(b.Offset) + int64(b.Stored)
	return span(int(b.Offset/segment), int((end+segment-1)/segment))
}

// whole is the set of the segments of a pack of size bytes.
func whole(size uint32) segments { return span(0, int((int64(size)+segment-1)/segment)) }

// run is the first run of neighbours in s, of at most limit segments; lo == hi if s is empty.
func (s segments) run(limit int) (lo, hi int) {
	if s == 0 {
		return 0, 0
	}
	lo = bits.TrailingZeros64(uint64(s))
	return lo, lo + min(s.from(lo), limit)
}

// from counts the neighbours in s that begin with segment i.
func (s segments) from(i int) int { return bits.TrailingZeros64(^(uint64(s) >> i)) }

// below counts the neighbours in s that end right before segment i.
func (s segments) below(i int) int {
	if i == 0 {
		return 0
	}
	return bits.LeadingZeros64(^(uint64(s) << (64 - i)))
}

func (s segments) count() int { return bits.OnesCount64(uint64(s)) }

// extent is where the segments from lo to hi lie in a pack of size bytes.
func extent(lo, hi int, size uint32) (from, to int64) {
	return int64(lo) * segment, min(int64(hi)*segment, int64(size))
}

// scan returns those of the wanted segments that f has wholly, as a copy of a pack of
// size bytes. A segment that is being written does not count, or fails its hash.
func scan(f *os.File, want segments, size uint32) segments {
	var found segments
	for want != 0 {
		lo, hi := want.run(64)
		want &^= span(lo, hi)
		for from, to := extent(lo, hi, size); from < to; {
			data, err := f.Seek(from, unix.SEEK_DATA)
			if err != nil { // ENXIO: there is only a hole up to the end
				return found
			}
			hole, err := f.Seek(data, unix.SEEK_HOLE)
			if err != nil {
				return found
			}
			first, last := int((data+segment-1)/segment), int(hole/segment)
			if hole >= int64(size) {
				last = hi
			}
			found |= span(first, min(last, hi))
			from = hole
		}
	}
	return found
}

// readFull fills p from offset of f; a file that ends earlier is an error.
func readFull(f *os.File, p []byte, offset int64) error {
	n, err := f.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
