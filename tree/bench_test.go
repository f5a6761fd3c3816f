package tree

import (
	"fmt"
	"testing"

	"github.com/zeebo/blake3"
)

// A home of 500,000 names: directories of 50 files, each of one block, in packs of 800.
const benchRows = 500_000

func benchBuilder() *Builder {
	b := NewBuilder(Whole, entry("", modeDir))
	acl := []Xattr{{"system.posix_acl_access", make([]byte, 44)}}
	var top, dir Ref
	for i := 1; i < benchRows; i++ {
		e := Entry{Name: fmt.Appendf(nil, "name of a file %d", i), Attr: Attr{Mode: modeFile, UID: 1000, GID: 1000, Ino: uint64(i), Mtime: int64(i) << 30}}
		switch {
		case i%5000 == 1:
			e.Mode = modeDir
			top = b.Add(0, e)
			continue
		case i%50 == 2:
			e.Mode = modeDir
			dir = b.Add(top, e)
			continue
		}
		if i%10 == 0 {
			e.Xattrs = acl
		}
		e.Size = 5000
		e.Extents = []Extent{{0, benchBlock(i)}}
		b.Add(dir, e)
	}
	return b
}

func benchBlock(i int) Blob {
	return Blob{Hash: blake3.Sum256(fmt.Append(nil, i)), Pack: PackID{byte(i / 800), byte(i / 800 >> 8)}, Offset: uint32(i % 800 * 2000), Stored: 2000, Raw: 5000}
}

func benchSize(PackID) uint32 { return 800 * 2000 }

func benchTree(b *testing.B) *Tree {
	b.Helper()
	out, err := benchBuilder().Finish(benchSize)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

func BenchmarkFinish(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		builder := benchBuilder()
		b.StartTimer()
		t, err := builder.Finish(benchSize)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(t.Bytes())), "bytes/tree")
	}
}

// BenchmarkBuild is all of it, with what the Builder needs.
func BenchmarkBuild(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		benchTree(b)
	}
}

func BenchmarkParse(b *testing.B) {
	data := benchTree(b).Bytes()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkApply changes one file, the least that a save has to do.
func BenchmarkApply(b *testing.B) {
	base := benchTree(b)
	p := NewBuilder(Patch, entry("", modeDir))
	p.Add(0, file("new", benchBlock(1)))
	patch, err := p.Finish(func(PackID) uint32 { return 1 << 30 })
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Apply(base, patch); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookupPath(b *testing.B) {
	t := benchTree(b)
	path := t.Path(Node(t.Len() - 1))
	for b.Loop() {
		if _, ok := t.LookupPath(path); !ok {
			b.Fatalf("%q is not there", path)
		}
	}
}
