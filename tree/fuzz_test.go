package tree

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

// FuzzParse makes the checksum right, so that the rules behind it are reached, and goes
// through all of what Parse lets pass.
func FuzzParse(f *testing.F) {
	try := trier(f)
	for _, t := range []*Tree{everything(f, Whole), everything(f, Patch), begin(Whole).tree(f), begin(Patch).tree(f)} {
		f.Add(t.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = bytes.Clone(data)
		copy(data, magic)
		try(t, data)
	})
}

// FuzzDamage changes numbers in a good tree, which gets further than any bytes do. The
// input is the kind, then for each change where (section, entry and offset in it) and
// the number, of 32 bits.
func FuzzDamage(f *testing.F) {
	try := trier(f)
	good := [...]*Tree{everything(f, Whole), everything(f, Patch)}
	f.Add([]byte("\x00\x00\x01\x1c\x02\x00\x00\x00"))
	f.Add([]byte("\x01\x00\x05\x06\x02\x00\x00\x00\x04\x03\x00\x2f\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) == 0 {
			return
		}
		try(t, edited(good[input[0]%2], input[1:]))
	})
}

// TestDamage is FuzzDamage with some random inputs.
func TestDamage(t *testing.T) {
	try := trier(t)
	good := [...]*Tree{everything(t, Whole), everything(t, Patch)}
	rng := rand.New(rand.NewPCG(1, 2))
	passed := 0
	for i := range 20000 {
		edits := make([]byte, 7*(1+rng.IntN(3)))
		for j := range edits {
			// Most numbers are small ones.
			if edits[j] = byte(rng.Uint32()); j%7 > 3 && rng.IntN(8) > 0 {
				edits[j] = 0
			}
		}
		if try(t, edited(good[i%2], edits)) {
			passed++
		}
	}
	if passed < 1000 || passed > 19000 {
		t.Errorf("%d of 20000 damaged trees are good, that proves little", passed)
	}
}

func edited(good *Tree, edits []byte) []byte {
	data := bytes.Clone(good.Bytes())
	for ; len(edits) >= 7; edits = edits[7:] {
		section := int(edits[0]) % (sections + 1)
		offset, length, unit := tableAt, sections*16, 16
		if section < sections {
			p := good.Bytes()[tableAt+16*section:]
			offset, length, unit = int(le.Uint64(p)), int(le.Uint64(p[8:])), entrySize[section]
		}
		if at := offset + (int(edits[1])*unit+int(edits[2])%max(unit, 4))%length; at+4 <= len(data) {
			copy(data[at:], edits[3:7])
		}
	}
	return data
}

// trier returns what checks that bytes are refused or make a good tree, which it tells.
func trier(t testing.TB) func(*testing.T, []byte) bool {
	base, empty := everything(t, Whole), begin(Whole).tree(t)
	patch := begin(Patch).add(entry("docs", modeDir)).add(Entry{Name: []byte("docs/deep"), Flags: Gone}).tree(t)
	return func(t *testing.T, data []byte) bool {
		tr, err := parse(data)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("got %v, want ErrCorrupt", err)
			}
			return false
		}
		walk(t, tr)
		if tr.Kind() == Whole {
			apply(t, tr, patch)
			return true
		}
		apply(t, base, tr)
		apply(t, empty, tr)
		return true
	}
}

func apply(t *testing.T, base, patch *Tree) {
	t.Helper()
	out, err := Apply(base, patch)
	switch {
	case err == nil:
		walk(t, out)
	case !errors.Is(err, ErrBase) && !errors.Is(err, ErrCorrupt):
		t.Fatalf("apply: got %v", err)
	}
}

// walk calls every accessor for every row.
func walk(t *testing.T, tr *Tree) {
	t.Helper()
	names := map[Node]uint32{}
	for i := range tr.Len() {
		n := Node(i)
		names[tr.File(n)]++
		path := tr.Path(n)
		if got, ok := tr.LookupPath(path); !ok || got != n {
			t.Fatalf("row %d: %q leads to %d, %v", n, path, got, ok)
		}
		if p := tr.Parent(n); p > n || p == n && n != Root || !tr.Attr(p).IsDir() {
			t.Fatalf("row %d: it is in %d", n, p)
		}
		first, count := tr.Children(n)
		for c := range count {
			child := first + Node(c)
			if got, ok := tr.Lookup(n, tr.Name(child)); !ok || got != child || tr.Parent(child) != n {
				t.Fatalf("row %d: child %d is %d, %v in %d", n, child, got, ok, tr.Parent(child))
			}
		}
		attr := tr.Attr(n)
		if attr.Size < 0 || tr.Attr(tr.File(n)) != attr || attr.IsRegular() && count > 0 {
			t.Fatalf("row %d: %+v", n, attr)
		}
		if f := tr.Flags(n); f&Moved != 0 != (len(tr.Origin(n)) > 0) || f > Meta<<1-1 {
			t.Fatalf("row %d: flags %x, origin %q", n, f, tr.Origin(n))
		}
		tr.Symlink(n)
		for name := range tr.Xattrs(n) {
			if _, ok := tr.Xattr(n, name); !ok {
				t.Fatalf("row %d: no attribute %q", n, name)
			}
		}
		end := int64(0)
		for e := range tr.Extents(n) {
			if e.Offset < end || e.End() > attr.Size {
				t.Fatalf("row %d: extent at %d", n, e.Offset)
			}
			for _, offset := range []int64{e.Offset, e.End() - 1, end} {
				if got, ok := tr.ExtentAt(n, offset); !ok || got != e {
					t.Fatalf("row %d at %d: got %v, %v, want %v", n, offset, got, ok, e)
				}
			}
			end = e.End()
		}
		for _, offset := range []int64{math.MinInt64, math.MaxInt64} {
			tr.ExtentAt(n, offset)
		}
	}
	for n, want := range names {
		if got := tr.Attr(n); !got.IsDir() && tr.Flags(n)&Gone == 0 && got.Nlink != want {
			t.Fatalf("row %d: %d links, want %d", n, got.Nlink, want)
		}
	}
	for i := range tr.Blobs() {
		b := tr.Blob(i)
		if got, ok := tr.Find(b.Hash); !ok || got != b {
			t.Fatalf("block %d: got %v, %v, want %v", i, got, ok, b)
		}
	}
	for i := range tr.Packs() {
		if id, size := tr.Pack(i); tr.PackSize(id) != size {
			t.Fatalf("pack %d: got size %d, want %d", i, tr.PackSize(id), size)
		}
	}
	for range tr.Order() {
	}
	tr.HasXattrs()
	tr.Total()
}
