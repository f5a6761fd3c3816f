package tree

import (
	"bytes"
	"errors"
	"math"
	"testing"
)

// FuzzParse makes the checksum right, so that the rules behind it are reached, and goes
// through all of what Parse lets pass.
func FuzzParse(f *testing.F) {
	base, empty := everything(f, Whole), begin(Whole).tree(f)
	small := begin(Patch).add(entry("docs", modeDir)).add(Entry{Name: []byte("docs/deep"), Flags: Gone}).tree(f)
	for _, t := range []*Tree{base, everything(f, Patch), empty, small} {
		f.Add(t.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) >= len(magic) {
			copy(data, magic)
		}
		tr, err := parse(bytes.Clone(data))
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("got %v, want ErrCorrupt", err)
			}
			return
		}
		walk(t, tr)
		if tr.Kind() == Whole {
			apply(t, tr, small)
			return
		}
		apply(t, base, tr)
		apply(t, empty, tr)
	})
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
