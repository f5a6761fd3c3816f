package cache

import (
	"os"
	"testing"

	"valise/store"
	"valise/tree"
)

func TestSegments(t *testing.T) {
	all := whole(store.MaxObject)
	if all != ^segments(0) || all.count() != 64 || whole(0) != 0 || whole(1) != 1 || whole(segment+1) != 3 {
		t.Errorf("whole: got %b, %b, %b and %b", all, whole(0), whole(1), whole(segment+1))
	}
	for _, c := range []struct {
		offset, stored uint32
		want           segments
	}{
		{0, 1, 1}, {segment - 1, 1, 1}, {segment - 1, 2, 3}, {segment, segment, 2},
		{segment / 2, 2 * segment, 7}, {store.MaxObject - 1, 1, 1 << 63},
	} {
		if got := covering(tree.Blob{Offset: c.offset, Stored: c.stored}); got != c.want {
			t.Errorf("%d bytes at %d: got %b, want %b", c.stored, c.offset, got, c.want)
		}
	}
	for _, c := range []struct {
		s             segments
		limit, lo, hi int
	}{{0, 8, 0, 0}, {1, 8, 0, 1}, {0b1110, 8, 1, 4}, {0b1110, 2, 1, 3}, {all, 64, 0, 64}, {1 << 63, 8, 63, 64}} {
		if lo, hi := c.s.run(c.limit); lo != c.lo || hi != c.hi {
			t.Errorf("run of %b: got %d to %d, want %d to %d", c.s, lo, hi, c.lo, c.hi)
		}
	}
	for _, c := range []struct {
		s       segments
		i, want int
	}{{all, 0, 0}, {all, 63, 63}, {0b0110, 3, 2}, {0b0110, 2, 1}, {0b0110, 4, 0}} {
		if got := c.s.below(c.i); got != c.want {
			t.Errorf("%b below %d: got %d, want %d", c.s, c.i, got, c.want)
		}
	}
}

func TestScan(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 6*segment + 100
	data := make([]byte, segment)
	for i, step := range []struct {
		at   int64
		n    int
		want segments
	}{
		{0, 0, 0},
		{2 * segment, segment, 0b0000100},
		{segment, segment - 4096, 0b0000100}, // all but the last block
		{2*segment - 4096, 4096, 0b0000110},
		{6 * segment, 99, 0b0000110}, // all but the last byte
		{6 * segment, 100, 0b1000110},
		{4 * segment, segment, 0b1010110},
		{6*segment + 100, segment / 2, 0b1010110}, // more than a pack has
	} {
		if _, err := f.WriteAt(data[:step.n], step.at); err != nil {
			t.Fatal(err)
		}
		if got := scan(f, whole(size), size); got != step.want {
			t.Errorf("step %d: got %b, want %b", i, got, step.want)
		}
		if got := scan(f, 0b0100110, size); got != step.want&0b0100110 {
			t.Errorf("step %d: of some got %b, want %b", i, got, step.want&0b0100110)
		}
	}
}
