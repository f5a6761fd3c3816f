package store

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/zeebo/blake3"
)

// envelope is the form of every small object: JSON whose body has a checksum, over
// the body's bytes as they stand.
type envelope struct {
	Format string          `json:"format"`
	Sum    string          `json:"blake3"`
	Body   json.RawMessage `json:"body"`
}

// The formats of this version.
const (
	formatProfile   = "valise-profile-1"
	formatEncrypted = "valise-profile-2" // the profile of an encrypted one
	formatSealed    = "valise-sealed-1"  // a snapshot of an encrypted profile
	formatSnapshot  = "valise-snapshot-1"
	formatLease     = "valise-lease-1"
	formatPin       = "valise-pin-1"
	formatMark      = "valise-mark-1"
)

func seal(format string, body any) ([]byte, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	sum := blake3.Sum256(raw)
	return json.Marshal(envelope{Format: format, Sum: hex.EncodeToString(sum[:]), Body: raw})
}

// unseal reads an object of the format into body.
func unseal(key Key, format string, data []byte, body any) error {
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return fmt.Errorf("%s: %w: %w", key, ErrCorrupt, err)
	}
	if e.Format != format {
		return fmt.Errorf("%s: its format is %.40q, and this version of valise reads %q: a newer one may have written it", key, e.Format, format)
	}
	sum := blake3.Sum256(e.Body)
	if hex.EncodeToString(sum[:]) != e.Sum {
		return fmt.Errorf("%s: %w: wrong checksum", key, ErrCorrupt)
	}
	if err := json.Unmarshal(e.Body, body); err != nil {
		return fmt.Errorf("%s: %w: %w", key, ErrCorrupt, err)
	}
	return nil
}

// NewID returns 16 random bytes in hex, the name of a pack, an index, a mount or a
// nonce.
func NewID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // it never fails
	return hex.EncodeToString(id[:])
}
