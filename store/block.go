package store

import (
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"

	"valise/tree"
)

// BlockSize is the size of a file's blocks in bytes; the last one of a file or of a
// run of data before a hole may be shorter.
const BlockSize = 1 << 20

// ErrCorrupt marks data that is not what its hash, checksum or format says.
var ErrCorrupt = errors.New("data is corrupt")

// Coder turns blocks into their stored form and back. It is safe for concurrent use.
type Coder struct {
	enc    *zstd.Encoder
	dec    *zstd.Decoder
	sealer *sealer
}

// NewCoder returns a Coder that uses up to workers threads.
func NewCoder(workers int) (*Coder, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(workers), zstd.WithEncoderCRC(false), zstd.WithWindowSize(BlockSize))
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(workers), zstd.WithDecoderMaxMemory(BlockSize))
	if err != nil {
		return nil, err
	}
	return &Coder{enc: enc, dec: dec}, nil
}

// HashOf is the name of a block: the hash of its plain bytes.
func HashOf(raw []byte) tree.Hash { return blake3.Sum256(raw) }

// Encode returns the stored form of raw, whose hash is given: a zstd frame if that is
// shorter, else the bytes themselves; sealed where the profile is encrypted.
func (c *Coder) Encode(hash tree.Hash, raw []byte) []byte {
	out := c.enc.EncodeAll(raw, nil)
	if len(out) >= len(raw) {
		out = raw
	}
	if c.sealer == nil && len(out) == len(raw) {
		return slices.Clone(out)
	}
	return c.sealer.seal(blockPlace(hash), out)
}

func blockPlace(hash tree.Hash) string { return "block\n" + string(hash[:]) }

// Decode returns the plain bytes of a block from its stored form, which it may
// return as they are. What does not have b's length and hash is ErrCorrupt.
func (c *Coder) Decode(b tree.Blob, stored []byte) ([]byte, error) {
	if uint32(len(stored)) != b.Stored || b.Raw > BlockSize {
		return nil, fmt.Errorf("block %s: %d stored bytes, want %d: %w", b.Hash, len(stored), b.Stored, ErrCorrupt)
	}
	raw, err := c.sealer.open(blockPlace(b.Hash), stored)
	if err != nil {
		return nil, fmt.Errorf("block %s: %w", b.Hash, err)
	}
	if uint32(len(raw)) != b.Raw {
		if raw, err = c.dec.DecodeAll(raw, make([]byte, 0, b.Raw)); err != nil {
			return nil, fmt.Errorf("block %s: %w: %w", b.Hash, err, ErrCorrupt)
		}
	}
	if uint32(len(raw)) != b.Raw || HashOf(raw) != b.Hash {
		return nil, fmt.Errorf("block %s: its bytes hash to something else: %w", b.Hash, ErrCorrupt)
	}
	return raw, nil
}

// Close frees the threads.
func (c *Coder) Close() {
	c.dec.Close()
	_ = c.enc.Close()
}
