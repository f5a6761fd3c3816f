package tree

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func gone(name string) Entry { return Entry{Name: []byte(name), Flags: Gone} }

func mustApply(t testing.TB, base, patch *Tree) *Tree {
	t.Helper()
	out, err := Apply(base, patch)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// brief is the rows of a tree (path, links, blocks and the packs of these), and its packs.
func brief(t *Tree) []string {
	var out []string
	for i := range t.Len() {
		n := Node(i)
		s := fmt.Sprintf("%s %d", t.Path(n), t.Attr(n).Nlink)
		if to := t.File(n); to != n {
			s += " = " + string(t.Path(to))
		}
		for e := range t.Extents(n) {
			s += fmt.Sprintf(" %d/%d", e.Blob.Hash[0], e.Blob.Pack[0])
		}
		out = append(out, s)
	}
	for i := range t.Packs() {
		id, _ := t.Pack(i)
		out = append(out, fmt.Sprintf("pack %d", id[0]))
	}
	return out
}

func TestApply(t *testing.T) {
	for _, c := range []struct {
		name        string
		base, patch func(b *builder)
		want        []string
	}{
		{"nothing", func(b *builder) {}, func(b *builder) {}, []string{" 2"}},
		{
			"a name of three is gone",
			func(b *builder) { b.add(file("a", block(1, 1))).link("b", "a").link("c", "a") },
			func(b *builder) { b.add(gone("a")) },
			[]string{" 2", "b 2 1/1", "c 2 = b 1/1", "pack 1"},
		},
		{
			"all names but one are gone",
			func(b *builder) { b.add(file("a", block(1, 1))).link("b", "a").link("c", "a") },
			func(b *builder) { b.add(gone("a")).add(file("c", block(2, 2))) },
			[]string{" 2", "b 1 1/1", "c 1 2/2", "pack 1", "pack 2"},
		},
		{
			"all names are gone, with blocks and packs",
			func(b *builder) { b.add(file("a", block(1, 1))).link("b", "a") },
			func(b *builder) { b.add(gone("a")).add(gone("b")).add(file("c", block(2, 2))) },
			[]string{" 2", "c 1 2/2", "pack 2"},
		},
		{
			"a further name becomes the first",
			func(b *builder) { b.add(entry("d", modeDir)).add(file("d/a", block(1, 1))).link("d/b", "d/a") },
			func(b *builder) { b.add(entry("d", modeDir)).add(gone("d/a")) },
			[]string{" 3", "d 2", "d/b 1 1/1", "pack 1"},
		},
		{
			"one name gets attributes of its own",
			func(b *builder) { b.add(file("a", block(1, 1))).link("b", "a") },
			func(b *builder) { b.add(entry("b", modeFile).flagged(Meta, "")) },
			[]string{" 2", "a 1 1/1", "b 1 1/1", "pack 1"},
		},
		{
			"a name that comes before the row with the attributes",
			func(b *builder) { b.add(entry("d", modeDir)) },
			func(b *builder) { b.add(entry("d", modeDir)).add(file("d/f", block(1, 1))).link("a", "d/f") },
			[]string{" 3", "a 2 1/1", "d 2", "d/f 2 = a 1/1", "pack 1"},
		},
		{
			"such a name, with the content of its own name in the base",
			func(b *builder) {
				b.add(file("a", block(1, 1))).add(entry("d", modeDir)).add(entry("d/e", modeDir)).add(file("d/e/f", block(2, 2)))
			},
			func(b *builder) {
				b.add(entry("d", modeDir)).add(entry("d/e", modeDir)).add(entry("d/e/f", modeFile).flagged(Meta, "")).link("a", "d/e/f")
			},
			[]string{" 3", "a 2 2/2", "d 3", "d/e 2", "d/e/f 2 = a 2/2", "pack 2"},
		},
		{
			"the same in a directory that was moved",
			func(b *builder) { b.add(entry("d", modeDir)).add(file("d/f", block(2, 2))).add(file("f", block(1, 1))) },
			func(b *builder) {
				b.add(gone("d")).add(entry("m", modeDir).flagged(Moved, "d")).add(entry("m/f", modeFile).flagged(Meta, "")).link("f", "m/f")
			},
			[]string{" 3", "f 2 2/2", "m 2", "m/f 2 = f 2/2", "pack 2"},
		},
		{
			"a directory is moved, and another into its place",
			func(b *builder) {
				b.add(entry("x", modeDir)).add(file("x/f", block(1, 1))).add(entry("y", modeDir)).add(file("y/f", block(2, 2)))
			},
			func(b *builder) {
				b.add(entry("x", modeDir).flagged(Moved, "y")).add(entry("y", modeDir).flagged(Moved, "x"))
			},
			[]string{" 4", "x 2", "y 2", "x/f 1 2/2", "y/f 1 1/1", "pack 1", "pack 2"},
		},
		{
			"a directory is moved into one that it contained",
			func(b *builder) {
				b.add(entry("x", modeDir)).add(entry("x/y", modeDir)).add(file("x/y/f", block(1, 1)))
			},
			func(b *builder) {
				b.add(gone("x")).add(entry("y", modeDir).flagged(Moved, "x/y")).add(entry("y/x", modeDir).flagged(Moved, "x")).add(gone("y/x/y"))
			},
			[]string{" 3", "y 3", "y/f 1 1/1", "y/x 2", "pack 1"},
		},
		{
			"a directory is there twice",
			func(b *builder) {
				b.add(entry("x", modeDir)).add(file("x/f", block(1, 1))).add(file("x/g", block(2, 1))).link("x/h", "x/g")
			},
			func(b *builder) { b.add(entry("y", modeDir).flagged(Moved, "x")) },
			[]string{" 4", "x 2", "y 2", "x/f 1 1/1", "x/g 4 2/1", "x/h 4 = x/g 2/1", "y/f 1 1/1", "y/g 4 = x/g 2/1", "y/h 4 = x/g 2/1", "pack 1"},
		},
		{
			"a directory replaces a file, and a file a directory",
			func(b *builder) {
				b.add(file("f", block(1, 1))).add(entry("d", modeDir)).add(file("d/g", block(2, 2)))
			},
			func(b *builder) { b.add(entry("f", modeDir)).add(entry("f/x", modeFIFO)).add(entry("d", modeFile)) },
			[]string{" 3", "d 1", "f 2", "f/x 1"},
		},
		{
			"an opaque root",
			func(b *builder) { b.add(file("f", block(1, 1))) },
			func(b *builder) { b.restart(Opaque).add(file("g", block(2, 2))) },
			[]string{" 2", "g 1 2/2", "pack 2"},
		},
		{
			"a block that the patch has elsewhere is the patch's",
			func(b *builder) { b.add(file("f", block(1, 1), block(2, 1))) },
			func(b *builder) { b.add(file("g", block(1, 2), block(3, 2))) },
			[]string{" 2", "f 1 1/2 2/1", "g 1 1/2 3/2", "pack 1", "pack 2"},
		},
		{
			"a pack of which nothing is used is dropped",
			func(b *builder) { b.add(file("f", block(1, 1))) },
			func(b *builder) { b.add(file("g", block(1, 2))) },
			[]string{" 2", "f 1 1/2", "g 1 1/2", "pack 2"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, p := begin(Whole), begin(Patch)
			c.base(b)
			c.patch(p)
			got := mustApply(t, b.tree(t), p.tree(t))
			if diff := cmp.Diff(c.want, brief(got)); diff != "" {
				t.Error(diff)
			}
			walk(t, got)
		})
	}
}

// restart begins again with a root that has flags.
func (b *builder) restart(f Flags) *builder {
	b.Builder = NewBuilder(b.kind, entry("", modeDir).flagged(f, ""))
	return b
}

func TestApplyRefuses(t *testing.T) {
	whole := begin(Whole).add(entry("d", modeDir)).add(file("d/f", block(1, 1))).add(entry("d/fifo", modeFIFO)).tree(t)
	for name, patch := range map[string]func(p *builder){
		"a directory moved from nowhere":      func(p *builder) { p.add(entry("x", modeDir).flagged(Moved, "nothing")) },
		"a directory moved from a file":       func(p *builder) { p.add(entry("x", modeDir).flagged(Moved, "d/f")) },
		"a directory moved from below a file": func(p *builder) { p.add(entry("x", modeDir).flagged(Moved, "d/f/x")) },
		"content from nowhere":                func(p *builder) { p.add(entry("x", modeFile).flagged(Meta|Moved, "nothing")) },
		"content from a directory":            func(p *builder) { p.add(entry("x", modeFile).flagged(Meta|Moved, "d")) },
		"content from a FIFO":                 func(p *builder) { p.add(entry("x", modeFile).flagged(Meta|Moved, "d/fifo")) },
		"attributes of nothing":               func(p *builder) { p.add(entry("x", modeFile).flagged(Meta, "")) },
		"attributes of a directory":           func(p *builder) { p.add(entry("d", modeFile).flagged(Meta, "")) },
		"attributes below a hidden directory": func(p *builder) {
			p.add(entry("d", modeDir).flagged(Opaque, "")).add(entry("d/f", modeFile).flagged(Meta, ""))
		},
		"attributes of a further name below a hidden directory": func(p *builder) {
			p.add(entry("d", modeDir).flagged(Opaque, "")).add(entry("d/f", modeFile).flagged(Meta, "")).link("a", "d/f")
		},
		"attributes of a further name below a new directory": func(p *builder) {
			p.add(entry("n", modeDir)).add(entry("n/d", modeDir)).add(entry("n/d/f", modeFile).flagged(Meta, "")).link("a", "n/d/f")
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := begin(Patch)
			patch(p)
			if _, err := Apply(whole, p.tree(t)); !errors.Is(err, ErrBase) {
				t.Errorf("got %v, want ErrBase", err)
			}
		})
	}
	patch := begin(Patch).tree(t)
	for name, trees := range map[string][2]*Tree{"two patches": {patch, patch}, "two whole trees": {whole, whole}, "the wrong way round": {patch, whole}} {
		t.Run(name, func(t *testing.T) {
			if _, err := Apply(trees[0], trees[1]); err == nil {
				t.Error("got no error")
			}
		})
	}
}

// TestApplyDeep is of paths that are longer than any system call takes.
func TestApplyDeep(t *testing.T) {
	const depth = 20000
	deep := func(kind Kind, bottom Entry) *Tree {
		b := NewBuilder(kind, entry("", modeDir))
		dir := Ref(0)
		for range depth {
			dir = b.Add(dir, entry("d", modeDir))
		}
		at := b.Add(dir, bottom)
		b.Link(0, []byte("a"), at)
		out, err := b.Finish(sizeOf)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	got := mustApply(t, deep(Whole, file("f", block(1, 1))), deep(Patch, entry("f", modeFile).flagged(Meta, "")))
	path := strings.Repeat("d/", depth) + "f"
	n, ok := got.LookupPath([]byte(path))
	if !ok || string(got.Path(n)) != path || got.Attr(n).Nlink != 2 || got.Attr(n).Size != 1000 {
		t.Errorf("got row %d, %v with %+v", n, ok, got.Attr(n))
	}
}
