package tree

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestBuilderRoundTrip(t *testing.T) {
	tr := everything(t, Whole)
	at := func(path string) Node {
		t.Helper()
		n, ok := tr.LookupPath([]byte(path))
		if !ok {
			t.Fatalf("%q is not there", path)
		}
		if got := string(tr.Path(n)); got != path {
			t.Fatalf("got path %q, want %q", got, path)
		}
		return n
	}
	t.Run("root", func(t *testing.T) {
		got, want := tr.Attr(Root), Attr{Mode: modeDir | 0o1000, UID: 1000, GID: 1001, Nlink: 4, Ino: 2, Mtime: -1, Ctime: 1700000000123456789}
		if got != want || len(tr.Name(Root)) != 0 || tr.Parent(Root) != Root {
			t.Errorf("got %+v named %q in %d, want %+v", got, tr.Name(Root), tr.Parent(Root), want)
		}
	})
	t.Run("names of a file", func(t *testing.T) {
		for path, others := range map[string][]string{
			"docs/deep/several": {"again", "docs/again"},
			"docs/deep/link":    {"docs/deep/link too"},
		} {
			file := at(path)
			if got := tr.Attr(file).Nlink; int(got) != 1+len(others) {
				t.Errorf("%s: got %d links, want %d", path, got, 1+len(others))
			}
			for _, other := range others {
				n := at(other)
				if n == file || tr.File(n) != tr.File(file) || tr.Attr(n) != tr.Attr(file) {
					t.Errorf("%s: got file %d, want %d, that of %s", other, tr.File(n), tr.File(file), path)
				}
			}
		}
	})
	t.Run("extended attributes", func(t *testing.T) {
		var got []string
		for name, value := range tr.Xattrs(at("again")) {
			got = append(got, fmt.Sprintf("%s=%x", name, value))
		}
		if diff := cmp.Diff([]string{"system.posix_acl_access=02000000", "user.a=", "user.b=32"}, got); diff != "" {
			t.Error(diff)
		}
		if value, ok := tr.Xattr(Root, []byte("user.b")); !ok || string(value) != "2" {
			t.Errorf("got %q, %v, want 2", value, ok)
		}
		if _, ok := tr.Xattr(Root, []byte("user")); ok {
			t.Error("found an attribute by a part of its name")
		}
		if !tr.HasXattrs() || begin(Whole).tree(t).HasXattrs() {
			t.Error("got HasXattrs wrong")
		}
		// Two different lists, of three files.
		want := 2 + 3*5 + len("system.posix_acl_access") + 4 + len("user.a") + len("user.b") + 1 + 2 + 5 + len("user.b") + 1
		if got := len(tr.section[secXattrs]); got != want {
			t.Errorf("got %d bytes of extended attributes, want %d: each list once", got, want)
		}
	})
	t.Run("symbolic link", func(t *testing.T) {
		want := "../\xff no \n where"
		n := at("docs/deep/link too")
		if got := string(tr.Symlink(n)); got != want || tr.Attr(n).Size != int64(len(want)) {
			t.Errorf("got %q of size %d, want %q", got, tr.Attr(n).Size, want)
		}
		if got := tr.Symlink(at("empty")); got != nil {
			t.Errorf("got target %q of a directory", got)
		}
	})
	t.Run("extents", func(t *testing.T) {
		n := at("docs/sparse")
		want := []Extent{{0, block(1, 2)}, {5000, block(2, 1)}, {1 << 40, block(1, 2)}}
		if diff := cmp.Diff(want, slices.Collect(tr.Extents(n))); diff != "" {
			t.Error(diff)
		}
		for _, c := range []struct {
			offset int64
			want   int // of want; 3: none
		}{{-1, 0}, {0, 0}, {999, 0}, {1000, 1}, {5000, 1}, {5999, 1}, {6000, 2}, {1<<40 + 999, 2}, {1<<40 + 1000, 3}, {math.MaxInt64, 3}} {
			got, ok := tr.ExtentAt(n, c.offset)
			if ok != (c.want < 3) || ok && got != want[c.want] {
				t.Errorf("at %d: got %v, %v, want number %d", c.offset, got, ok, c.want)
			}
		}
		if _, ok := tr.ExtentAt(at("docs/hole"), 0); ok {
			t.Error("an empty file has data")
		}
	})
	t.Run("directories", func(t *testing.T) {
		if _, count := tr.Children(at("empty")); count != 0 {
			t.Errorf("got %d children, want 0", count)
		}
		if _, count := tr.Children(at("docs/sparse")); count != 0 {
			t.Errorf("got %d children of a file, want 0", count)
		}
		first, count := tr.Children(at("docs"))
		var got []string
		for i := range count {
			got = append(got, string(tr.Name(first+Node(i))))
		}
		if diff := cmp.Diff([]string{"again", "deep", "hole", "sparse"}, got); diff != "" {
			t.Error(diff)
		}
		for _, path := range []string{"nothing", "docs/nothing", "docs/deep/several/x", ".", "docs/.."} {
			if n, ok := tr.LookupPath([]byte(path)); ok {
				t.Errorf("%q: got row %d, want none", path, n)
			}
		}
		if n, ok := tr.LookupPath([]byte("//docs///deep/")); !ok || n != at("docs/deep") {
			t.Errorf("got %d, %v, want the path without empty names", n, ok)
		}
	})
	t.Run("names of any bytes", func(t *testing.T) {
		if got := tr.Attr(at("\xfe\x01 name\n")).Mode; got != modeFIFO {
			t.Errorf("got mode %o, want %o", got, modeFIFO)
		}
		at(strings.Repeat("n", 255))
	})
	t.Run("blocks", func(t *testing.T) {
		if tr.Blobs() != 3 || tr.Packs() != 2 {
			t.Fatalf("got %d blocks in %d packs, want 3 in 2", tr.Blobs(), tr.Packs())
		}
		for _, want := range []Blob{block(1, 2), block(2, 1), block(3, 2)} {
			if got, ok := tr.Find(want.Hash); !ok || got != want {
				t.Errorf("got %v, %v, want %v", got, ok, want)
			}
		}
		for _, h := range []Hash{{}, {1}, {1, 0xb2}, {0xff}} {
			if b, ok := tr.Find(h); ok {
				t.Errorf("%s: got %v, want none", h, b)
			}
		}
		for id, want := range map[PackID]uint32{{1, 0xac}: testPackSize, {2, 0xac}: testPackSize, {}: 0, {1, 0xad}: 0, {3}: 0} {
			if got := tr.PackSize(id); got != want {
				t.Errorf("%s: got %d bytes, want %d", id, got, want)
			}
		}
	})
	t.Run("order", func(t *testing.T) {
		if diff := cmp.Diff([]uint64{7, 2, 1 << 63}, slices.Collect(tr.Order())); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("total", func(t *testing.T) {
		files, size := tr.Total()
		if want := int64(1<<41 + 1000); files != 6 || size != want {
			t.Errorf("got %d files of %d bytes, want 6 of %d", files, size, want)
		}
	})
}

// TestIterationsStop holds the sequences to what range does at a break.
func TestIterationsStop(t *testing.T) {
	tr := everything(t, Whole)
	n, _ := tr.LookupPath([]byte("docs/sparse"))
	for e := range tr.Extents(n) {
		if e.Offset > 0 {
			t.Error("went on")
		}
		break
	}
	for range tr.Order() {
		break
	}
	for range tr.Xattrs(Root) {
		break
	}
}

// TestBuilderOrder adds the same files in different orders.
func TestBuilderOrder(t *testing.T) {
	names := []string{"a", "a-", "a.b", "b", "\x01", "\xff", "ab"}
	var want []byte
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		b := begin(Whole)
		rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for _, dir := range names {
			b.add(entry(dir, modeDir))
			for _, name := range names {
				b.add(entry(dir+"/"+name, modeFile))
			}
		}
		got := b.tree(t)
		if want == nil {
			want = []byte(dump(got))
		}
		if diff := cmp.Diff(string(want), dump(got)); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
	}
}

func TestBuilderRefuses(t *testing.T) {
	long := strings.Repeat("x", 1<<16+3) // its length would be 3 in 16 bits
	xattrs := func(list ...Xattr) Entry {
		e := entry("f", modeFile)
		e.Xattrs = list
		return e
	}
	extents := func(size int64, list ...Extent) Entry {
		e := entry("f", modeFile)
		e.Size, e.Extents = size, list
		return e
	}
	symlink := func(target string) Entry {
		e := entry("l", modeLink)
		e.Symlink = []byte(target)
		return e
	}
	for name, entries := range map[string][]Entry{
		"a name twice":                   {entry("x", modeFile), entry("x", modeDir)},
		"an empty name":                  {entry("", modeFile)},
		"a dot":                          {entry(".", modeDir)},
		"two dots":                       {entry("..", modeDir)},
		"a slash":                        {entry("a/b", modeFile)},
		"a zero":                         {entry("a\x00b", modeFile)},
		"a name of 256 bytes":            {entry(long[:256], modeFile)},
		"a name of 64 KiB":               {entry(long, modeFile)},
		"a type that is not saved":       {entry("x", 0o140644)},
		"no type":                        {entry("x", 0o644)},
		"flags in a whole tree":          {entry("x", modeDir).flagged(Opaque, "")},
		"gone in a whole tree":           {{Name: []byte("x"), Flags: Gone}},
		"a symbolic link to nothing":     {symlink("")},
		"a symbolic link of 4096 bytes":  {symlink(long[:4096])},
		"a symbolic link with a zero":    {symlink("a\x00b")},
		"an extended attribute twice":    {xattrs(Xattr{Name: "a"}, Xattr{Name: "b"}, Xattr{Name: "a"})},
		"an extended attribute unnamed":  {xattrs(Xattr{})},
		"an extended attribute's zero":   {xattrs(Xattr{Name: "a\x00"})},
		"an extended attribute's length": {xattrs(Xattr{Name: long[:256]})},
		"65536 extended attributes":      {xattrs(make([]Xattr, 1<<16)...)},
		"extents in disorder":            {extents(1<<20, Extent{5000, block(1, 1)}, Extent{0, block(2, 1)})},
		"extents that overlap":           {extents(1<<20, Extent{0, block(1, 1)}, Extent{999, block(2, 1)})},
		"extents beyond the end":         {extents(999, Extent{0, block(1, 1)})},
		"extents before the start":       {extents(1<<20, Extent{-1, block(1, 1)})},
		"extents beyond all files":       {extents(math.MaxInt64, Extent{math.MaxInt64 - 1, block(1, 1)})},
		"a negative size":                {extents(-1)},
		"an empty block":                 {file("f", Blob{Hash: Hash{1}, Stored: 1})},
		"a block outside its pack":       {file("f", Blob{Hash: Hash{1}, Offset: testPackSize, Stored: 1, Raw: 1})},
		"a block that is longer stored":  {file("f", Blob{Hash: Hash{1}, Stored: 30, Raw: 1})},
		"a block of more than 1 MiB":     {file("f", Blob{Hash: Hash{1}, Stored: 1, Raw: 1<<20 + 1})},
	} {
		t.Run(name, func(t *testing.T) {
			b := NewBuilder(Whole, entry("", modeDir))
			for _, e := range entries {
				b.Add(0, e)
			}
			if _, err := b.Finish(sizeOf); err == nil {
				t.Error("got no error")
			}
		})
	}
	for name, wrong := range map[string]func(b *builder){
		"a link to a directory":         func(b *builder) { b.add(entry("d", modeDir)).link("x", "d") },
		"a link to the root":            func(b *builder) { b.link("x", "") },
		"a link to a link":              func(b *builder) { b.add(entry("f", modeFile)).link("g", "f"); b.Link(0, []byte("h"), 2) },
		"a link to what is gone":        func(b *builder) { b.add(Entry{Name: []byte("x"), Flags: Gone}).link("y", "x") },
		"a link with a bad name":        func(b *builder) { b.add(entry("f", modeFile)); b.Link(0, []byte("."), 1) },
		"a link whose name is there":    func(b *builder) { b.add(entry("f", modeFile)).link("f", "f") },
		"entries of a file":             func(b *builder) { b.add(entry("f", modeFile)).add(entry("f/x", modeFile)) },
		"entries of a link":             func(b *builder) { b.add(entry("f", modeFile)).link("g", "f"); b.Add(2, entry("x", modeFile)) },
		"gone and yet there":            func(b *builder) { b.add(entry("x", modeFile).flagged(Gone, "")) },
		"gone and moved":                func(b *builder) { b.add(Entry{Name: []byte("x"), Flags: Gone | Moved, Origin: []byte("y")}) },
		"moved from nowhere":            func(b *builder) { b.add(entry("x", modeDir).flagged(Moved, "")) },
		"opaque and moved":              func(b *builder) { b.add(entry("x", modeDir).flagged(Opaque|Moved, "y")) },
		"a directory's attributes":      func(b *builder) { b.add(entry("x", modeDir).flagged(Meta, "")) },
		"an opaque file":                func(b *builder) { b.add(entry("x", modeFile).flagged(Opaque, "")) },
		"a file moved with its content": func(b *builder) { b.add(entry("x", modeFile).flagged(Moved, "y")) },
		"a FIFO's attributes":           func(b *builder) { b.add(entry("x", modeFIFO).flagged(Meta, "")) },
		"an unknown flag":               func(b *builder) { b.add(entry("x", modeDir).flagged(1<<5, "")) },
		"the flag of links":             func(b *builder) { b.add(entry("x", modeFile).flagged(flagLink, "")) },
	} {
		t.Run(name, func(t *testing.T) {
			b := begin(Patch)
			wrong(b)
			if _, err := b.Finish(sizeOf); err == nil {
				t.Error("got no error")
			}
		})
	}
	t.Run("a root that is moved", func(t *testing.T) {
		if _, err := NewBuilder(Patch, entry("", modeDir).flagged(Moved, "x")).Finish(nil); err == nil {
			t.Error("got no error")
		}
	})
	t.Run("a root that is a file", func(t *testing.T) {
		if _, err := NewBuilder(Whole, entry("", modeFile)).Finish(nil); err == nil {
			t.Error("got no error")
		}
	})
	t.Run("a kind that is unknown", func(t *testing.T) {
		if _, err := NewBuilder(Patch+1, entry("", modeDir)).Finish(nil); !errors.Is(err, ErrCorrupt) {
			t.Errorf("got %v, want ErrCorrupt", err)
		}
	})
}

// TestFinishRefusesTooMuch hands finish sections that are too long, whose memory may not
// be touched.
func TestFinishRefusesTooMuch(t *testing.T) {
	for name, set := range map[string]func(w *writer, p []byte){
		"names":               func(w *writer, p []byte) { w.strings = p },
		"extended attributes": func(w *writer, p []byte) { w.xattrs = p },
	} {
		t.Run(name, func(t *testing.T) {
			p, err := unix.Mmap(-1, 0, math.MaxUint32, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Munmap(p) })
			w := newWriter()
			set(w, p)
			if _, err := w.finish(Whole); err == nil {
				t.Error("got no error")
			}
		})
	}
}

// TestBuilderKeepsNothing changes what it was given after the call.
func TestBuilderKeepsNothing(t *testing.T) {
	b := begin(Patch)
	e := entry("name", modeDir).flagged(Moved, "origin")
	e.Xattrs = []Xattr{{"user.b", []byte("v")}, {"user.a", []byte("v")}}
	ref := b.Add(0, e)
	f := file("file", block(1, 1))
	to := b.Add(ref, f)
	name := []byte("link")
	b.Link(ref, name, to)
	order := slices.Clone(e.Xattrs)
	for _, p := range [][]byte{e.Name, e.Origin, f.Name, name} {
		copy(p, bytes.Repeat([]byte("!"), len(p)))
	}
	if diff := cmp.Diff(order, e.Xattrs); diff != "" {
		t.Errorf("it sorted the caller's list: %s", diff)
	}
	e.Xattrs[0].Value[0] = '!'
	f.Extents[0].Offset = 1
	if text := dump(b.tree(t)); strings.Contains(text, "!") || strings.Contains(text, "\t1 ") {
		t.Errorf("got %s", text)
	}
}

func TestPackID(t *testing.T) {
	id := PackID{0xab, 15: 1}
	if got, err := ParsePackID(id.String()); err != nil || got != id {
		t.Errorf("got %s, %v, want %s", got, err, id)
	}
	for _, s := range []string{"", "ab", strings.ToUpper(id.String()), id.String() + "0", strings.Repeat("g", 32)} {
		if id, err := ParsePackID(s); err == nil {
			t.Errorf("%q: got %s, want an error", s, id)
		}
	}
}
