package tree

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"syscall"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"
)

// ErrCorrupt marks bytes that are not a tree, or a damaged one.
var ErrCorrupt = errors.New("tree is corrupt")

// limits of the format.
const (
	maxName  = 255
	maxBlock = 1 << 20
)

// Parse reads a tree. data must not change afterwards; it is not copied.
func Parse(data []byte) (*Tree, error) {
	t := &Tree{data: data}
	if err := t.sections(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err := t.verify(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return t, nil
}

// Map reads the tree in a file by mapping it, so that its memory is the page cache's.
// Close releases it.
func Map(path string) (*Tree, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() == 0 {
		return nil, fmt.Errorf("map %s: %w: it is empty", path, ErrCorrupt)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	t, err := Parse(data)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map %s: %w", path, err), unix.Munmap(data))
	}
	t.release = func() error { return unix.Munmap(data) }
	return t, nil
}

// Close releases a mapped tree, which must not be used afterwards.
func (t *Tree) Close() error {
	if t.release == nil {
		return nil
	}
	return t.release()
}

// sections cuts data into its parts and compares the checksum.
func (t *Tree) sections() error {
	p := t.data
	switch {
	case len(p) < headerSize || string(p[:7]) != magic[:7]:
		return errors.New("it does not begin as one")
	case p[7] != magic[7]:
		return fmt.Errorf("its version is %d, this program reads version %d", p[7], magic[7])
	}
	t.kind = Kind(le.Uint32(p[8:]))
	if t.kind > Patch {
		return fmt.Errorf("unknown kind %d", t.kind)
	}
	if sum := blake3.Sum256(p[48:]); !bytes.Equal(sum[:], p[16:48]) {
		return errors.New("wrong checksum")
	}
	end := uint64(headerSize)
	for i := range t.section {
		offset, length := le.Uint64(p[48+16*i:]), le.Uint64(p[56+16*i:])
		if offset < end || offset > uint64(len(p)) || length > uint64(len(p))-offset || length%uint64(entrySize[i]) != 0 ||
			length/uint64(entrySize[i]) > math.MaxUint32-1 {
			return fmt.Errorf("section %d lies wrong", i)
		}
		t.section[i] = p[offset : offset+length : offset+length]
		end = offset + length
	}
	return nil
}

// verify checks all that the accessors rely on, and that the rows are a tree.
func (t *Tree) verify() error {
	if err := t.verifyBlobs(); err != nil {
		return err
	}
	if t.Len() == 0 {
		return errors.New("there is no root")
	}
	next := uint32(1) // rows are in breadth-first order: the next directory's children begin here
	for i := range t.Len() {
		n := Node(i)
		r := t.row(n)
		if err := t.verifyRow(n, r); err != nil {
			return fmt.Errorf("row %d: %w", i, err)
		}
		if r.mode&syscall.S_IFMT != syscall.S_IFDIR {
			continue
		}
		if r.a != next || uint64(next)+uint64(r.b) > uint64(t.Len()) {
			return fmt.Errorf("row %d: its children are not next", i)
		}
		if err := t.verifyChildren(n, r); err != nil {
			return fmt.Errorf("row %d: %w", i, err)
		}
		next += r.b
	}
	if int(next) != t.Len() {
		return fmt.Errorf("%d rows are in no directory", t.Len()-int(next))
	}
	return nil
}

func (t *Tree) verifyBlobs() error {
	for i := range t.Packs() {
		if i > 0 && bytes.Compare(t.section[secPacks][(i-1)*packSize:][:16], t.section[secPacks][i*packSize:][:16]) >= 0 {
			return errors.New("packs are not sorted")
		}
	}
	for i := range t.Blobs() {
		p := t.section[secBlobs][i*blobSize:]
		if i > 0 && bytes.Compare(t.section[secBlobs][(i-1)*blobSize:][:32], p[:32]) >= 0 {
			return errors.New("blocks are not sorted")
		}
		if int64(le.Uint32(p[32:])) >= int64(t.Packs()) {
			return fmt.Errorf("block %d lies in no pack", i)
		}
		b := t.Blob(i)
		_, size := t.Pack(int(le.Uint32(p[32:])))
		if b.Raw == 0 || b.Raw > maxBlock || b.Stored == 0 || b.Stored > b.Raw || uint64(b.Offset)+uint64(b.Stored) > uint64(size) {
			return fmt.Errorf("block %d lies wrong in its pack", i)
		}
	}
	return nil
}

// verifyChildren checks that the children of n are sorted and know their parent.
func (t *Tree) verifyChildren(n Node, r row) error {
	var before []byte
	for i := range r.b {
		child := t.row(Node(r.a + i))
		if uint64(child.name)+uint64(child.nameLen) > uint64(len(t.section[secStrings])) {
			return errors.New("a name lies outside")
		}
		name := t.section[secStrings][child.name:][:child.nameLen]
		if err := CheckName(name); err != nil {
			return err
		}
		if Node(child.parent) != n || i > 0 && bytes.Compare(before, name) >= 0 {
			return fmt.Errorf("entry %q is not in order", name)
		}
		before = name
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

func (t *Tree) verifyRow(n Node, r row) error {
	flags := Flags(r.flags)
	if t.kind == Whole && flags&^flagLink != 0 || flags > 1<<5-1 {
		return fmt.Errorf("unknown flags %#x", r.flags)
	}
	switch {
	case n == Root && (r.mode&syscall.S_IFMT != syscall.S_IFDIR || r.nameLen != 0 || r.parent != 0 || flags&(Gone|flagLink|Meta) != 0):
		return errors.New("it is no root")
	case flags&flagLink != 0:
		return t.verifyLink(r)
	case flags&Gone != 0 && (r.mode != 0 || flags != Gone || t.kind != Patch):
		return errors.New("it is gone and yet there")
	case flags&Gone != 0:
		return nil
	}
	if r.xattr != 0 && !validXattrs(t.section[secXattrs], r.xattr-1) {
		return errors.New("its extended attributes lie wrong")
	}
	strings := uint64(len(t.section[secStrings]))
	if flags&Moved != 0 && (uint64(r.c)+uint64(r.d) > strings || r.d == 0) {
		return errors.New("its origin lies outside")
	}
	switch r.mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		if flags&Meta != 0 {
			return errors.New("a directory's attributes alone")
		}
	case syscall.S_IFREG:
		if flags&Opaque != 0 || flags&Moved != 0 && flags&Meta == 0 {
			return errors.New("a file has a directory's flags")
		}
		return t.verifyExtents(r)
	case syscall.S_IFLNK:
		if uint64(r.a)+uint64(r.b) > strings || r.b == 0 || r.b > 4095 || flags != 0 {
			return errors.New("its target lies wrong")
		}
	case syscall.S_IFIFO:
		if flags != 0 {
			return errors.New("a FIFO has flags")
		}
	default:
		return fmt.Errorf("unknown type, mode %o", r.mode)
	}
	return nil
}

func (t *Tree) verifyLink(r row) error {
	if r.mode != 0 || uint64(r.a) >= uint64(t.Len()) || Flags(r.flags) != flagLink {
		return errors.New("a further name of no file")
	}
	to := t.row(Node(r.a))
	if kind := to.mode & syscall.S_IFMT; Flags(to.flags)&(flagLink|Gone) != 0 || kind == syscall.S_IFDIR {
		return errors.New("a further name of what has none")
	}
	return nil
}

func (t *Tree) verifyExtents(r row) error {
	if Flags(r.flags)&Meta != 0 {
		return nil
	}
	if r.size < 0 || uint64(r.a)+uint64(r.b) > uint64(len(t.section[secExtents])/extentSize) {
		return errors.New("its extents lie outside")
	}
	end := int64(0)
	for i := range r.b {
		p := t.section[secExtents][int(r.a+i)*extentSize:]
		if uint64(le.Uint32(p[8:])) >= uint64(t.Blobs()) {
			return errors.New("an extent of no block")
		}
		e := t.extent(r.a + i)
		if e.Offset < end || e.Offset > math.MaxInt64-maxBlock || e.End() > r.size {
			return errors.New("its extents overlap or exceed its size")
		}
		end = e.End()
	}
	return nil
}

// validXattrs reports whether a whole list lies at offset.
func validXattrs(p []byte, offset uint32) bool {
	if uint64(offset)+2 > uint64(len(p)) {
		return false
	}
	p = p[offset:]
	count := le.Uint16(p)
	for p = p[2:]; count > 0; count-- {
		if len(p) < 5 || uint64(len(p)-5) < uint64(p[0])+uint64(le.Uint32(p[1:])) || p[0] == 0 {
			return false
		}
		p = p[5+int(p[0])+int(le.Uint32(p[1:])):]
	}
	return true
}
