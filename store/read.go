package store

import (
	"context"

	"valise/tree"
)

// Read returns the plain bytes of a block straight from the store.
func (r *Repo) Read(ctx context.Context, b tree.Blob) ([]byte, error) {
	stored := make([]byte, b.Stored)
	if err := r.bucket.GetRange(ctx, PackKey(b.Pack), int64(b.Offset), stored); err != nil {
		return nil, err
	}
	return r.coder.Decode(b, stored)
}
