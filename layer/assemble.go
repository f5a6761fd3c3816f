package layer

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"valise/tree"
)

// fingerprint tells patches apart.
type fingerprint [sha256.Size]byte

// assemble makes the patch of a walk.
func (s *Scanner) assemble(w *walk) {
	out := w.out
	a := &assembly{s: s, out: out, refs: make([]tree.Ref, len(w.items)), first: map[*record]tree.Ref{}, sum: sha256.New()}
	for i := range w.items {
		if !a.add(i, &w.items[i]) {
			w.torn = true
		}
	}
	a.movedOut(w)
	a.sum.Sum(out.mark[:0])
	out.Changed = out.mark != s.committed
	if s.committed == (fingerprint{}) {
		out.Changed = len(w.items) > 1 || !s.isBaseRoot(w.items[0].rec.now)
	}
	out.Quiescent = w.disturbed == "" && !w.torn
	slices.SortFunc(w.skipped, func(a, b Skipped) int { return strings.Compare(a.Path, b.Path) })
	out.Skipped = slices.Compact(w.skipped)
	if !out.Changed && s.committed != (fingerprint{}) {
		s.keep()
	}
}

// isBaseRoot reports whether v is as the base's root, but for the change time, which
// nobody can set.
func (s *Scanner) isBaseRoot(v *version) bool {
	want := s.Base.Attr(tree.Root)
	if v.attr.Mode != want.Mode || v.attr.UID != want.UID || v.attr.GID != want.GID || v.attr.Mtime != want.Mtime {
		return false
	}
	count := 0
	for range s.Base.Xattrs(tree.Root) {
		count++
	}
	for _, x := range v.xattrs {
		if value, ok := s.Base.Xattr(tree.Root, []byte(x.Name)); !ok || string(value) != string(x.Value) {
			return false
		}
	}
	return count == len(v.xattrs)
}

// assembly adds the items of a walk to a Builder.
type assembly struct {
	s     *Scanner
	out   *Scan
	refs  []tree.Ref
	first map[*record]tree.Ref // of files: the first name
	sum   hash.Hash
	buf   []byte
}

// add adds item i; it is false where there is no content to save.
func (a *assembly) add(i int, it *item) bool {
	if it.void {
		return true
	}
	if it.rec == nil {
		a.out.Builder.Add(a.refs[it.dir], tree.Entry{Name: []byte(it.name), Flags: tree.Gone})
		a.digest(it, 0, nil)
		return true
	}
	v := it.rec.now
	if v == nil {
		return false
	}
	it.rec.row = a.s.seq
	ino := a.s.inodes.of(it.rec.ino)
	a.digest(it, ino, v)
	if ref, again := a.first[it.rec]; again {
		a.out.Builder.Link(a.refs[it.dir], []byte(it.name), ref)
		return true
	}
	e := tree.Entry{
		Name: []byte(it.name), Attr: v.attr, Flags: it.flags, Origin: it.origin,
		Symlink: v.symlink, Xattrs: v.xattrs, Extents: v.extents,
	}
	e.Ino = ino
	if i == 0 {
		a.out.Builder = tree.NewBuilder(tree.Patch, e)
	} else {
		a.refs[i] = a.out.Builder.Add(a.refs[it.dir], e)
	}
	switch v.attr.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return true
	case unix.S_IFREG:
		if !v.settled && it.flags&tree.Meta == 0 {
			a.out.Hot++
		}
	}
	a.first[it.rec] = a.refs[i]
	return true
}

// movedOut hides what the user moved out of a directory that is not looked into: its
// whiteout there is not seen, and in the base it is still at its old place.
func (a *assembly) movedOut(w *walk) {
	base, rows := a.s.Base, map[tree.Node]tree.Ref{}
	for n, item := range w.closed {
		if !w.items[item].void {
			rows[n] = a.refs[item]
		}
	}
	gone := map[tree.Node]bool{}
	slices.Sort(w.moved) // a directory comes before what is in it
	for _, origin := range slices.Compact(w.moved) {
		var way []tree.Node
		at := base.Parent(origin)
		for ; at != tree.Root && !gone[at]; at = base.Parent(at) {
			if _, ok := rows[at]; ok {
				break
			}
			way = append(way, at)
		}
		dir, ok := rows[at]
		if !ok || gone[at] {
			continue
		}
		for _, n := range slices.Backward(way) {
			e := tree.Entry{Name: base.Name(n), Attr: base.Attr(n)}
			for name, value := range base.Xattrs(n) {
				e.Xattrs = append(e.Xattrs, tree.Xattr{Name: string(name), Value: value})
			}
			dir = a.out.Builder.Add(dir, e)
			rows[n] = dir
		}
		a.out.Builder.Add(dir, tree.Entry{Name: base.Name(origin), Flags: tree.Gone})
		gone[origin] = true
	}
}

// digest adds an item to the patch's fingerprint. Every part has a fixed size or its
// length in front.
func (a *assembly) digest(it *item, ino uint64, v *version) {
	p := binary.LittleEndian.AppendUint64(a.buf[:0], uint64(it.dir))
	text := func(s string) {
		p = binary.LittleEndian.AppendUint64(p, uint64(len(s)))
		p = append(p, s...)
	}
	number := func(n ...uint64) {
		for _, n := range n {
			p = binary.LittleEndian.AppendUint64(p, n)
		}
	}
	text(it.name)
	text(string(it.origin))
	number(uint64(it.flags), ino)
	if v != nil {
		number(uint64(v.attr.Mode), uint64(v.attr.UID), uint64(v.attr.GID), uint64(v.attr.Size),
			uint64(v.attr.Mtime), uint64(v.attr.Ctime), uint64(len(v.xattrs)), uint64(len(v.extents)))
		text(string(v.symlink))
		for _, x := range v.xattrs {
			text(x.Name)
			text(string(x.Value))
		}
		for _, e := range v.extents {
			number(uint64(e.Offset))
			p = append(p, e.Blob.Hash[:]...)
		}
	}
	a.buf = p
	a.sum.Write(p)
}
