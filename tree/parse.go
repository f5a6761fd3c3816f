package tree

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// ErrCorrupt marks bytes that are not a tree, or a damaged one.
var ErrCorrupt = errors.New("tree is corrupt")

// limits of the format.
const (
	maxName   = 255
	maxTarget = 4095 // of a symbolic link
	maxBlock  = 1 << 20
	maxSealed = 28 // by so much a block grows at most that is encrypted
)

// Parse reads a tree. data must not change afterwards; it is not copied. What is no tree
// or a damaged one is ErrCorrupt; one of another version of the format is not.
func Parse(data []byte) (*Tree, error) {
	if len(data) > len(magic) && string(data[:7]) == magic[:7] && data[7] != magic[7] {
		return nil, fmt.Errorf("tree: its version is %d, this program reads version %d", data[7], magic[7])
	}
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
// Until Close releases it the file must stay as it is: a shorter one would end the
// process.
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

// Close releases a mapped tree, which must not be used afterwards but to close it again.
func (t *Tree) Close() error {
	release := t.release
	t.release = nil
	if release == nil {
		return nil
	}
	return release()
}

// sections cuts data into its parts and compares the checksum.
func (t *Tree) sections() error {
	p := t.data
	if len(p) < headerSize || string(p[:8]) != magic {
		return errors.New("it does not begin as one")
	}
	if sum := checksum(p); !bytes.Equal(sum[:], p[sumAt:tableAt]) {
		return errors.New("wrong checksum")
	}
	t.kind = Kind(le.Uint32(p[8:]))
	if t.kind > Patch {
		return fmt.Errorf("unknown kind %d", t.kind)
	}
	end := uint64(headerSize)
	for i := range t.section {
		offset, length := le.Uint64(p[tableAt+16*i:]), le.Uint64(p[tableAt+16*i+8:])
		if offset < end || offset > uint64(len(p)) || length > uint64(len(p))-offset || length%uint64(entrySize[i]) != 0 ||
			length/uint64(entrySize[i]) > math.MaxUint32-1 {
			return fmt.Errorf("section %d lies wrong", i)
		}
		t.section[i] = p[offset : offset+length : offset+length]
		end = offset + length
	}
	return nil
}
