package store

import (
	"encoding/binary"
	"fmt"

	"github.com/zeebo/blake3"

	"valise/tree"
)

// packMagic ends every pack; its last byte is the version.
const packMagic = "VALPACK\x01"

// A pack is blocks in their stored form, one after another, then for each 44 bytes
// (hash, offset, stored size, plain size), their number, the BLAKE3 of all that, and
// the magic. The numbers are 32 bits, little endian.
const (
	packEntry   = 44
	packTrailer = 4 + 32 + 8
)

var le = binary.LittleEndian

// PackKey is where a pack lies.
func PackKey(id tree.PackID) Key { return prefixPacks + Key(id.String()) }

// sealPack appends the table of a pack's blocks.
func (s *sealer) sealPack(id tree.PackID, body []byte, blobs []tree.Blob) []byte {
	var table []byte
	if s == nil {
		table, body = body, nil // it grows in place
	}
	at := len(table)
	for _, b := range blobs {
		table = append(table, b.Hash[:]...)
		table = le.AppendUint32(table, b.Offset)
		table = le.AppendUint32(table, b.Stored)
		table = le.AppendUint32(table, b.Raw)
	}
	table = le.AppendUint32(table, uint32(len(blobs)))
	sum := blake3.Sum256(table[at:])
	table = append(append(table, sum[:]...), packMagic...)
	if s == nil {
		return table
	}
	// The table has the hashes of the content.
	sealed := s.seal(tablePlace(id), table)
	body = append(body, sealed...)
	body = le.AppendUint32(body, uint32(len(sealed)))
	return append(body, sealedPackMagic...)
}

// sealedPackMagic ends a pack of an encrypted profile: its blocks, then the sealed table,
// the length of that, and this.
const sealedPackMagic = "VALPACK\x02"

func tablePlace(id tree.PackID) string { return "pack\n" + id.String() }

// parsePack returns the blocks of a whole pack.
func (s *sealer) parsePack(id tree.PackID, body []byte) ([]tree.Blob, error) {
	if s == nil {
		return parseTable(id, body, beforeTable)
	}
	end := len(body) - 12
	if end < 0 || string(body[end+4:]) != sealedPackMagic {
		return nil, fmt.Errorf("pack %s: %w: it does not end as one that is encrypted", id, ErrCorrupt)
	}
	at := int64(end) - int64(le.Uint32(body[end:]))
	if at < 0 {
		return nil, fmt.Errorf("pack %s: %w: its table does not fit", id, ErrCorrupt)
	}
	table, err := s.open(tablePlace(id), body[at:end])
	if err != nil {
		return nil, fmt.Errorf("pack %s: its table: %w", id, err)
	}
	return parseTable(id, table, int(at))
}

// beforeTable is the limit of blocks that stand before their table.
const beforeTable = -1

// parseTable reads the table at the end of body. Blocks end at limit at the latest.
func parseTable(id tree.PackID, body []byte, limit int) ([]tree.Blob, error) {
	corrupt := func(why string) error { return fmt.Errorf("pack %s: %w: %s", id, ErrCorrupt, why) }
	end := len(body) - packTrailer
	if end < 0 || string(body[len(body)-8:len(body)-1]) != packMagic[:7] {
		return nil, corrupt("it does not end as one")
	}
	if v := body[len(body)-1]; v != packMagic[7] {
		return nil, fmt.Errorf("pack %s: its version is %d, this program reads version %d", id, v, packMagic[7])
	}
	count := int64(le.Uint32(body[end:]))
	at := int64(end) - count*packEntry
	if at < 0 {
		return nil, corrupt("its table does not fit")
	}
	if limit == beforeTable {
		limit = int(at)
	}
	if sum := blake3.Sum256(body[at : end+4]); string(sum[:]) != string(body[end+4:end+36]) {
		return nil, corrupt("its table has a wrong checksum")
	}
	blobs := make([]tree.Blob, 0, count)
	for p := body[at:end]; len(p) > 0; p = p[packEntry:] {
		b := tree.Blob{Hash: tree.Hash(p), Pack: id, Offset: le.Uint32(p[32:]), Stored: le.Uint32(p[36:]), Raw: le.Uint32(p[40:])}
		if uint64(b.Offset)+uint64(b.Stored) > uint64(limit) || b.Raw > BlockSize {
			return nil, corrupt("a block lies outside")
		}
		blobs = append(blobs, b)
	}
	return blobs, nil
}
