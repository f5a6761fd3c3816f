package tree

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestApplyLikeTheModel applies random patches, each to what the one before has made.
func TestApplyLikeTheModel(t *testing.T) {
	seeds := uint64(200)
	if testing.Short() {
		seeds = 50
	}
	seen := map[string]int{}
	for seed := range seeds {
		g := &generator{rng: rand.New(rand.NewPCG(seed, 7)), seen: seen}
		model := g.dir(0)
		base := g.tree(t, Whole, model)
		if diff := cmp.Diff(model.lines(locate(base)), treeLines(base)); diff != "" {
			t.Fatalf("seed %d: the base is wrong (-want +got):\n%s", seed, diff)
		}
		for step := range 3 {
			g.begin(model, base)
			p := g.patch()
			patch := g.tree(t, Patch, p)
			got, err := Apply(base, patch)
			if err != nil {
				t.Fatalf("seed %d, step %d: %v\nbase:\n%s\npatch:\n%s", seed, step, err, dump(base), dump(patch))
			}
			model = modelApply(model, p)
			want := model.lines(locate(patch, base))
			if diff := cmp.Diff(want, treeLines(got)); diff != "" {
				t.Fatalf("seed %d, step %d (-want +got):\n%s\nbase:\n%s\npatch:\n%s", seed, step, diff, dump(base), dump(patch))
			}
			checkContent(t, got, model, locate(patch, base))
			if diff := cmp.Diff(slices.Collect(patch.Order()), slices.Collect(got.Order())); diff != "" {
				t.Errorf("seed %d, step %d: order: %s", seed, step, diff)
			}
			walk(t, got)
			if again, err := Apply(base, patch); err != nil || !bytes.Equal(again.Bytes(), got.Bytes()) {
				t.Fatalf("seed %d, step %d: it makes other bytes the second time, %v", seed, step, err)
			}
			base = got
		}
	}
	for _, what := range patchFeatures {
		if seen[what] < int(seeds)/10 {
			t.Errorf("%s: only %d times in %d seeds", what, seen[what], seeds)
		}
	}
}

// locate says where the first of the trees that has a block has it.
func locate(trees ...*Tree) func(Hash) Blob {
	return func(h Hash) Blob {
		for _, t := range trees {
			if b, ok := t.Find(h); ok {
				return b
			}
		}
		return Blob{}
	}
}

// checkContent wants the blocks that files have in t, and their packs, and no others.
func checkContent(t *testing.T, tr *Tree, model *mdir, at func(Hash) Blob) {
	t.Helper()
	blobs, packs := map[Hash]Blob{}, map[PackID]uint32{}
	for f := range model.names(map[*mfile]int{}) {
		for _, e := range f.Extents {
			b := at(e.Blob.Hash)
			blobs[b.Hash], packs[b.Pack] = b, testPackSize
		}
	}
	gotBlobs, gotPacks := map[Hash]Blob{}, map[PackID]uint32{}
	for i := range tr.Blobs() {
		b := tr.Blob(i)
		gotBlobs[b.Hash] = b
	}
	for i := range tr.Packs() {
		id, size := tr.Pack(i)
		gotPacks[id] = size
	}
	if diff := cmp.Diff(blobs, gotBlobs); diff != "" {
		t.Errorf("blocks (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(packs, gotPacks); diff != "" {
		t.Errorf("packs (-want +got):\n%s", diff)
	}
}

// patchFeatures are what a generator must have come upon.
var patchFeatures = []string{
	"gone", "gone of nothing", "file", "file for a directory", "attributes", "attributes, linked", "content moved", "directory",
	"directory for a file", "continued", "opaque", "moved", "moved below moved", "swapped", "other type", "link", "block known", "block stored again",
}

// generator makes random models.
type generator struct {
	rng    *rand.Rand
	ino    uint64
	epoch  byte // number of the patch
	seen   map[string]int
	mfiles []*mfile
	pfiles []*pfile

	base        *mdir
	baseTree    *Tree
	dirs, files []string // paths in base
	paths       map[*mdir]string
	again       map[Hash]bool
}

var randomNames = []string{"a", "b", "c", "d", "a.b", "a-", "\xff", "\n", "über", "B"}

func (g *generator) saw(what string) { g.seen[what]++ }

func (g *generator) attr(mode uint32) Attr {
	g.ino++
	return Attr{
		Mode: mode&^7 | uint32(g.rng.IntN(8)), UID: uint32(g.rng.IntN(3)), GID: g.rng.Uint32(),
		Ino: g.ino, Mtime: g.rng.Int64() - g.rng.Int64(), Ctime: g.rng.Int64(),
	}
}

func (g *generator) entry(mode uint32) Entry {
	e := Entry{Attr: g.attr(mode)}
	for _, name := range []string{"system.posix_acl_access", "user.x", "user.xx"} {
		if g.rng.IntN(6) == 0 {
			e.Xattrs = append(e.Xattrs, Xattr{name, []byte{byte(g.rng.IntN(3))}})
		}
	}
	switch mode {
	case modeLink:
		e.Symlink = []byte(randomNames[g.rng.IntN(len(randomNames))])
		e.Size = int64(len(e.Symlink))
	case modeFile:
		for range g.rng.IntN(4) {
			e.Size += int64(g.rng.IntN(3) * 500)
			e.Extents = append(e.Extents, Extent{e.Size, g.block(byte(g.rng.IntN(40)))})
			e.Size += 1000
		}
		e.Size += int64(g.rng.IntN(2) * 500)
	}
	return e
}

// block is the n-th one: where the base has it, or in a pack of this patch.
func (g *generator) block(n byte) Blob {
	b := block(n, 100+g.epoch*4+n%4)
	if g.baseTree == nil {
		return b
	}
	if known, ok := g.baseTree.Find(b.Hash); ok {
		if _, decided := g.again[b.Hash]; !decided {
			g.again[b.Hash] = g.rng.IntN(3) == 0
		}
		if !g.again[b.Hash] {
			g.saw("block known")
			return known
		}
		g.saw("block stored again")
	}
	return b
}

func (g *generator) kind() uint32 {
	return []uint32{modeFile, modeFile, modeFile, modeLink, modeFIFO}[g.rng.IntN(5)]
}

// dir is a random directory of a base.
func (g *generator) dir(depth int) *mdir {
	d := &mdir{Entry: g.entry(modeDir), children: map[string]mnode{}}
	for _, name := range randomNames {
		switch n := g.rng.IntN(10); {
		case n < 3 && depth < 4:
			d.children[name] = g.dir(depth + 1)
		case n < 5:
			f := &mfile{g.entry(g.kind())}
			g.mfiles = append(g.mfiles, f)
			d.children[name] = f
		case n < 6 && len(g.mfiles) > 0:
			d.children[name] = g.mfiles[g.rng.IntN(len(g.mfiles))]
		}
		if depth > 0 && len(d.children) > 3 {
			break
		}
	}
	return d
}

// begin gets ready to make patches of base.
func (g *generator) begin(base *mdir, baseTree *Tree) {
	g.epoch++
	g.base, g.baseTree, g.pfiles, g.again = base, baseTree, nil, map[Hash]bool{}
	g.dirs, g.files, g.paths = nil, nil, map[*mdir]string{}
	var walk func(path string, d *mdir)
	walk = func(path string, d *mdir) {
		for _, name := range slices.Sorted(maps.Keys(d.children)) {
			path := path + "/" + name
			switch c := d.children[name].(type) {
			case *mdir:
				g.dirs = append(g.dirs, path[1:])
				g.paths[c] = path[1:]
				walk(path, c)
			case *mfile:
				if c.IsRegular() {
					g.files = append(g.files, path[1:])
				}
			}
		}
	}
	walk("", base)
}

func (g *generator) patch() *pdir {
	p := &pdir{Entry: g.entry(modeDir)}
	from := g.base
	if g.rng.IntN(10) == 0 {
		p.Flags, from = Opaque, nil
	}
	g.fill(p, from, 0)
	return p
}

// fill adds entries to p, which continues from if that is not nil.
func (g *generator) fill(p *pdir, from *mdir, depth int) {
	p.children = map[string]mnode{}
	if from == nil {
		from = &mdir{}
	}
	for _, name := range randomNames {
		there := from.children[name]
		if g.rng.IntN(5) > 1 {
			continue
		}
		if c := g.change(p, name, there, depth); c != nil {
			p.children[name] = c
		}
		if depth > 0 && len(p.children) > 3 {
			break
		}
	}
	if g.rng.IntN(4) == 0 {
		g.swap(p, from, depth)
	}
}

// swap moves two directories of from into each other's places.
func (g *generator) swap(p *pdir, from *mdir, depth int) {
	var names []string
	for name, c := range from.children {
		if _, ok := c.(*mdir); ok && p.children[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if len(names) < 2 {
		return
	}
	g.saw("swapped")
	for i, name := range names[:2] {
		origin := from.children[names[1-i]].(*mdir)
		d := &pdir{Entry: g.entry(modeDir).flagged(Moved, g.paths[origin])}
		g.fill(d, origin, depth+1)
		p.children[name] = d
	}
}

func (g *generator) change(p *pdir, name string, there mnode, depth int) mnode {
	below, isDir := there.(*mdir)
	old, isFile := there.(*mfile)
	switch g.rng.IntN(9) {
	case 0:
		g.saw("gone")
		if there == nil {
			g.saw("gone of nothing")
		}
		return &pfile{Entry: Entry{Flags: Gone}}
	case 1, 2:
		e := g.entry(g.kind())
		g.saw("file")
		if isDir {
			g.saw("file for a directory")
		}
		if isFile && old.Mode>>12 != e.Mode>>12 {
			g.saw("other type")
		}
		return g.file(p, name, e)
	case 3, 4:
		if isFile && old.IsRegular() {
			g.saw("attributes")
			return g.file(p, name, g.meta(Meta, ""))
		}
		if len(g.files) == 0 {
			return nil
		}
		g.saw("content moved")
		return g.file(p, name, g.meta(Meta|Moved, g.files[g.rng.IntN(len(g.files))]))
	case 5:
		if len(g.pfiles) == 0 {
			return nil
		}
		f := g.pfiles[g.rng.IntN(len(g.pfiles))]
		g.saw("link")
		if f.Flags == Meta {
			g.saw("attributes, linked")
		}
		return f
	}
	if depth > 3 {
		return nil
	}
	d := &pdir{Entry: g.entry(modeDir)}
	switch n := g.rng.IntN(4); {
	case n == 0:
		g.saw("opaque")
		d.Flags, below = Opaque, nil
	case n == 1 && len(g.dirs) > 0:
		g.saw("moved")
		if p.Flags&Moved != 0 {
			g.saw("moved below moved")
		}
		d.Flags, d.Origin = Moved, []byte(g.dirs[g.rng.IntN(len(g.dirs))])
		below = g.base.lookup(pathOf(d.Origin)).(*mdir)
	case isDir:
		g.saw("continued")
	case there != nil:
		g.saw("directory for a file")
	default:
		g.saw("directory")
	}
	g.fill(d, below, depth+1)
	return d
}

func (g *generator) meta(f Flags, origin string) Entry {
	e := g.entry(modeFile)
	e.Flags, e.Origin, e.Extents, e.Size = f, []byte(origin), nil, 0
	return e
}

func (g *generator) file(p *pdir, name string, e Entry) *pfile {
	f := &pfile{Entry: e, in: p, name: name}
	g.pfiles = append(g.pfiles, f)
	return f
}

// tree makes a Tree of an *mdir or *pdir, which it adds to a Builder in a random order.
func (g *generator) tree(t *testing.T, kind Kind, root mnode) *Tree {
	t.Helper()
	type link struct {
		dir  Ref
		name string
		to   mnode
	}
	e, children := parts(root)
	b := NewBuilder(kind, e)
	refs := map[mnode]Ref{root: 0}
	var links []link
	type open struct {
		ref      Ref
		node     mnode
		children map[string]mnode
	}
	todo := []open{{0, root, children}}
	for len(todo) > 0 {
		i := g.rng.IntN(len(todo))
		d := todo[i]
		todo = slices.Delete(todo, i, i+1)
		names := slices.Sorted(maps.Keys(d.children))
		g.rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for _, name := range names {
			c := d.children[name]
			_, again := refs[c]
			if p, ok := c.(*pfile); ok && p.Flags&Gone == 0 {
				again = p.in != d.node || p.name != name
			}
			if again {
				links = append(links, link{d.ref, name, c})
				continue
			}
			e, children := parts(c)
			e.Name = []byte(name)
			ref := b.Add(d.ref, e)
			refs[c] = ref
			if children != nil {
				todo = append(todo, open{ref, c, children})
			}
		}
	}
	for _, l := range links {
		b.Link(l.dir, []byte(l.name), refs[l.to])
	}
	b.Order([]uint64{g.ino, uint64(g.epoch)})
	out, err := b.Finish(sizeOf)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func parts(n mnode) (Entry, map[string]mnode) {
	switch n := n.(type) {
	case *mdir:
		return n.Entry, n.children
	case *pdir:
		return n.Entry, n.children
	case *mfile:
		return n.Entry, nil
	case *pfile:
		return n.Entry, nil
	}
	panic(fmt.Sprintf("unknown node %T", n))
}
