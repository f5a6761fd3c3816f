package tree

import (
	"encoding/hex"
	"fmt"
)

// Hash is the BLAKE3-256 of a block's plain bytes.
type Hash [32]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// PackID names a pack: 16 random bytes, written in lower-case hex.
type PackID [16]byte

func (id PackID) String() string { return hex.EncodeToString(id[:]) }

// ParsePackID reads what String wrote.
func ParsePackID(s string) (PackID, error) {
	var id PackID
	if len(s) != 2*len(id) {
		return id, fmt.Errorf("pack id %q: want %d hex digits", s, 2*len(id))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return id, fmt.Errorf("pack id %q: %w", s, err)
	}
	if id.String() != s {
		return id, fmt.Errorf("pack id %q: want lower-case digits", s)
	}
	return id, nil
}

// Blob says where a block of file content lies: its stored form (see docs/format.md)
// is Stored bytes at Offset of the pack, and Raw plain bytes whose hash is Hash.
type Blob struct {
	Hash   Hash
	Pack   PackID
	Offset uint32
	Stored uint32
	Raw    uint32
}
