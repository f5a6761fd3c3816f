package tree

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"syscall"
)

// verifier checks all that the accessors and Apply rely on, and that the rows are a
// tree. It takes time in proportion to the bytes, whatever they say.
type verifier struct {
	*Tree
	lists   map[uint32]bool   // where lists of extended attributes begin
	further map[uint32]uint32 // row of a file → how many further names point to it
	next    uint32            // the row after the children of the directories so far
	used    uint64            // extents of the files so far
}

func (t *Tree) verify() error {
	v := &verifier{Tree: t, lists: map[uint32]bool{}, further: map[uint32]uint32{}, next: 1}
	if err := v.content(); err != nil {
		return err
	}
	if err := v.xattrs(); err != nil {
		return err
	}
	if t.Len() == 0 {
		return errors.New("there is no root")
	}
	for i := range t.Len() {
		if r := t.row(Node(i)); Flags(r.flags)&flagLink != 0 {
			v.further[r.a]++
		}
	}
	for i := range t.Len() {
		if err := v.checkRow(Node(i), t.row(Node(i))); err != nil {
			return fmt.Errorf("row %d: %w", i, err)
		}
	}
	return nil
}

// content checks the blocks and the packs.
func (v *verifier) content() error {
	for i := range v.Packs() {
		if i > 0 && bytes.Compare(v.section[secPacks][(i-1)*packSize:][:16], v.section[secPacks][i*packSize:][:16]) >= 0 {
			return errors.New("packs are not sorted")
		}
	}
	for i := range v.Blobs() {
		p := v.section[secBlobs][i*blobSize:]
		if i > 0 && bytes.Compare(v.section[secBlobs][(i-1)*blobSize:][:32], p[:32]) >= 0 {
			return errors.New("blocks are not sorted")
		}
		if int64(le.Uint32(p[32:])) >= int64(v.Packs()) {
			return fmt.Errorf("block %d lies in no pack", i)
		}
		b := v.Blob(i)
		_, size := v.Pack(int(le.Uint32(p[32:])))
		if b.Raw == 0 || b.Raw > maxBlock || b.Stored == 0 || b.Stored > b.Raw+maxSealed || uint64(b.Offset)+uint64(b.Stored) > uint64(size) {
			return fmt.Errorf("block %d lies wrong in its pack", i)
		}
	}
	return nil
}

// xattrs finds the lists, which follow one another.
func (v *verifier) xattrs() error {
	all := v.section[secXattrs]
	for p := all; len(p) > 0; {
		at := uint32(len(all) - len(p))
		if len(p) < 2 {
			return errors.New("extended attributes are cut short")
		}
		count := le.Uint16(p)
		p = p[2:]
		var before []byte
		for range count {
			if len(p) < 5 || uint64(len(p)-5) < uint64(p[0])+uint64(le.Uint32(p[1:])) {
				return errors.New("extended attributes are cut short")
			}
			name := p[5:][:p[0]]
			if len(name) == 0 || bytes.IndexByte(name, 0) >= 0 || bytes.Compare(before, name) >= 0 {
				return fmt.Errorf("extended attribute %q is no name or not in order", name)
			}
			before = name
			p = p[5+len(name)+int(le.Uint32(p[1:])):]
		}
		v.lists[at] = true
	}
	return nil
}

// checkRow checks row n. Its name is checked already, with the other children of its parent.
func (v *verifier) checkRow(n Node, r row) error {
	flags := Flags(r.flags)
	isDir := r.mode&syscall.S_IFMT == syscall.S_IFDIR
	switch {
	case n == Root && (!isDir || r.name > uint32(len(v.section[secStrings])) || r.nameLen != 0 || r.parent != 0 || flags&^Opaque != 0):
		return errors.New("it is no root")
	case n != Root && uint32(n) >= v.next:
		return errors.New("it is in no directory")
	case v.kind == Whole && flags&^flagLink != 0 || flags >= flagLink<<1:
		return fmt.Errorf("unknown flags %#x", r.flags)
	case flags&(flagLink|Gone) != 0:
		return v.bare(r)
	case r.mode > 0o177777 || r.size < 0:
		return fmt.Errorf("mode %o and size %d", r.mode, r.size)
	case r.xattr != 0 && !v.lists[r.xattr-1]:
		return errors.New("its extended attributes lie wrong")
	case flags&Moved != 0 && (r.d == 0 || !v.inStrings(r.c, r.d)):
		return errors.New("its origin lies outside")
	case !isDir && r.nlink != 1+v.further[uint32(n)]:
		return fmt.Errorf("it has %d names, want %d", 1+v.further[uint32(n)], r.nlink)
	}
	switch r.mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		return v.directory(n, r)
	case syscall.S_IFREG:
		return v.file(r)
	case syscall.S_IFLNK:
		if r.b == 0 || r.b > maxTarget || !v.inStrings(r.a, r.b) || bytes.IndexByte(v.section[secStrings][r.a:][:r.b], 0) >= 0 {
			return errors.New("its target lies wrong")
		}
	case syscall.S_IFIFO:
	default:
		return fmt.Errorf("unknown type, mode %o", r.mode)
	}
	if flags != 0 {
		return fmt.Errorf("flags %#x of another type of file", r.flags)
	}
	return nil
}

func (v *verifier) inStrings(offset, length uint32) bool {
	return uint64(offset)+uint64(length) <= uint64(len(v.section[secStrings]))
}

// bare checks a row that has nothing but a name, and that of a file if it is a further
// one.
func (v *verifier) bare(r row) error {
	want := row{name: r.name, nameLen: r.nameLen, flags: r.flags, parent: r.parent}
	if Flags(r.flags) == Gone {
		if r != want {
			return errors.New("it is gone and yet there")
		}
		return nil
	}
	want.a = r.a
	if r != want || Flags(r.flags) != flagLink || uint64(r.a) >= uint64(v.Len()) {
		return errors.New("it is a further name of no file")
	}
	to := v.row(Node(r.a))
	if Flags(to.flags)&(flagLink|Gone) != 0 || to.mode&syscall.S_IFMT == syscall.S_IFDIR {
		return errors.New("it is a further name of what can have none")
	}
	return nil
}

// directory checks that the children of n are the next rows, sorted, and know their
// parent.
func (v *verifier) directory(n Node, r row) error {
	flags := Flags(r.flags)
	if flags&Meta != 0 || flags == Opaque|Moved {
		return fmt.Errorf("flags %#x of a directory", r.flags)
	}
	if r.a != v.next || uint64(v.next)+uint64(r.b) > uint64(v.Len()) {
		return errors.New("its children are not next")
	}
	v.next += r.b
	nlink := uint32(2)
	var before []byte
	for i := range r.b {
		child := v.row(Node(r.a + i))
		if !v.inStrings(child.name, uint32(child.nameLen)) {
			return errors.New("an entry's name lies outside")
		}
		name := v.section[secStrings][child.name:][:child.nameLen]
		if err := CheckName(name); err != nil {
			return err
		}
		if Node(child.parent) != n || bytes.Compare(before, name) >= 0 {
			return fmt.Errorf("entry %q is not in order", name)
		}
		before = name
		if child.mode&syscall.S_IFMT == syscall.S_IFDIR {
			nlink++
		}
	}
	if r.nlink != nlink {
		return fmt.Errorf("it has %d links, want %d", r.nlink, nlink)
	}
	return nil
}

// file checks a regular file's extents, which belong to it alone.
func (v *verifier) file(r row) error {
	flags := Flags(r.flags)
	if flags != 0 && flags&^Moved != Meta {
		return fmt.Errorf("flags %#x of a file", r.flags)
	}
	if flags&Meta != 0 {
		return nil
	}
	all := uint64(len(v.section[secExtents]) / extentSize)
	if uint64(r.a)+uint64(r.b) > all {
		return errors.New("its extents lie outside")
	}
	if v.used += uint64(r.b); v.used > all {
		return errors.New("its extents are another file's too")
	}
	end := int64(0)
	for i := range r.b {
		p := v.section[secExtents][int(r.a+i)*extentSize:]
		offset, blob := int64(le.Uint64(p)), le.Uint32(p[8:])
		if uint64(blob) >= uint64(v.Blobs()) {
			return errors.New("an extent has no block")
		}
		if offset < end || offset > math.MaxInt64-maxBlock {
			return errors.New("its extents overlap")
		}
		end = offset + int64(v.rawSize(int(blob)))
	}
	if end > r.size {
		return errors.New("its extents exceed its size")
	}
	return nil
}

// CheckName refuses what is no name of a directory's entry.
func CheckName(name []byte) error {
	if len(name) == 0 || len(name) > maxName || bytes.IndexByte(name, '/') >= 0 || bytes.IndexByte(name, 0) >= 0 ||
		string(name) == "." || string(name) == ".." {
		return fmt.Errorf("%q is no file name", name)
	}
	return nil
}
