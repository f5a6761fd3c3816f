package tree

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
	"math"
	"slices"
	"sort"
	"strings"
)

// Blobs is the number of different blocks.
func (t *Tree) Blobs() int { return len(t.section[secBlobs]) / blobSize }

// Blob returns the i-th block; they are sorted by hash.
func (t *Tree) Blob(i int) Blob {
	p := t.section[secBlobs][i*blobSize : (i+1)*blobSize]
	b := Blob{Hash: Hash(p), Offset: le.Uint32(p[36:]), Stored: le.Uint32(p[40:]), Raw: le.Uint32(p[44:])}
	b.Pack, _ = t.Pack(int(le.Uint32(p[32:])))
	return b
}

// rawSize is the Raw of the i-th block.
func (t *Tree) rawSize(i int) uint32 { return le.Uint32(t.section[secBlobs][i*blobSize+44:]) }

// Find returns the block whose plain bytes hash to h.
func (t *Tree) Find(h Hash) (Blob, bool) {
	n := t.Blobs()
	i := sort.Search(n, func(i int) bool {
		return bytes.Compare(t.section[secBlobs][i*blobSize:i*blobSize+len(h)], h[:]) >= 0
	})
	if i == n {
		return Blob{}, false
	}
	b := t.Blob(i)
	return b, b.Hash == h
}

// Packs is the number of packs that the blocks lie in.
func (t *Tree) Packs() int { return len(t.section[secPacks]) / packSize }

// Pack returns the i-th pack and its size in bytes; they are sorted by id.
func (t *Tree) Pack(i int) (PackID, uint32) {
	p := t.section[secPacks][i*packSize : (i+1)*packSize]
	return PackID(p), le.Uint32(p[16:])
}

// PackSize returns the size in bytes of a pack that the tree names, else 0.
func (t *Tree) PackSize(id PackID) uint32 {
	n := t.Packs()
	i := sort.Search(n, func(i int) bool { return bytes.Compare(t.section[secPacks][i*packSize:i*packSize+16], id[:]) >= 0 })
	if i < n {
		if at, size := t.Pack(i); at == id {
			return size
		}
	}
	return 0
}

// Xattr is an extended attribute, such as user.comment or system.posix_acl_access.
type Xattr struct {
	Name  string
	Value []byte
}

// HasXattrs reports whether any file has an extended attribute.
func (t *Tree) HasXattrs() bool { return len(t.section[secXattrs]) > 0 }

// Xattrs yields the extended attributes of n, sorted by name.
func (t *Tree) Xattrs(n Node) iter.Seq2[[]byte, []byte] {
	_, r := t.target(n)
	return func(yield func(name, value []byte) bool) {
		if r.xattr == 0 {
			return
		}
		p := t.section[secXattrs][r.xattr-1:]
		count := le.Uint16(p)
		for p = p[2:]; count > 0; count-- {
			nameLen, valueLen := int(p[0]), int(le.Uint32(p[1:]))
			p = p[5:]
			if !yield(p[:nameLen], p[nameLen:nameLen+valueLen]) {
				return
			}
			p = p[nameLen+valueLen:]
		}
	}
}

// Xattr returns the value of one extended attribute of n.
func (t *Tree) Xattr(n Node, name []byte) ([]byte, bool) {
	for k, v := range t.Xattrs(n) {
		if bytes.Equal(k, name) {
			return v, true
		}
	}
	return nil, false
}

// appendXattrs encodes a list, sorted by name.
func appendXattrs(p []byte, list []Xattr) ([]byte, error) {
	if len(list) > math.MaxUint16 {
		return nil, fmt.Errorf("%d extended attributes are too many", len(list))
	}
	list = slices.SortedFunc(slices.Values(list), func(a, b Xattr) int { return cmp.Compare(a.Name, b.Name) })
	p = le.AppendUint16(p, uint16(len(list)))
	for i, x := range list {
		switch {
		case x.Name == "" || len(x.Name) > maxName || strings.IndexByte(x.Name, 0) >= 0:
			return nil, fmt.Errorf("%q is no name of an extended attribute", x.Name)
		case i > 0 && x.Name == list[i-1].Name:
			return nil, fmt.Errorf("extended attribute %q is there twice", x.Name)
		case len(x.Value) > math.MaxUint32:
			return nil, fmt.Errorf("extended attribute %q has %d bytes", x.Name, len(x.Value))
		}
		p = append(p, byte(len(x.Name)))
		p = le.AppendUint32(p, uint32(len(x.Value)))
		p = append(append(p, x.Name...), x.Value...)
	}
	return p, nil
}
