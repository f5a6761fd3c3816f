package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"valise/store"
	"valise/tree"
)

// Between two tries of a bucket that is not available a read pauses, for longer each time.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// Block returns the verified plain bytes of b, which lies in a pack of packSize bytes.
// They are shared: nobody may change them. While the bucket is not available it tries
// again until Patience is over; the error is then store.ErrUnavailable. Bytes that are
// wrong in the bucket too are store.ErrCorrupt.
func (c *Cache) Block(ctx context.Context, b tree.Blob, packSize uint32) ([]byte, error) {
	if raw, ok := c.memory.get(b); ok {
		c.count.memory.Add(1)
		return raw, nil
	}
	if uint64(b.Offset)+uint64(b.Stored) > uint64(packSize) {
		return nil, fmt.Errorf("block %s: it ends behind its pack %s: %w", b.Hash, b.Pack, store.ErrCorrupt)
	}
	var patience *time.Timer
	last := store.ErrUnavailable
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		l, err := c.join(ctx, loadKey{b, packSize})
		if err != nil {
			return nil, err
		}
		if l.finished() && l.err == nil {
			return l.raw, nil
		}
		if patience == nil {
			patience = time.NewTimer(c.patience)
			defer patience.Stop()
		}
		select {
		case <-l.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("block %s: %w", b.Hash, ctx.Err())
		case <-patience.C:
			return nil, fmt.Errorf("block %s: no answer in %s: %w", b.Hash, c.patience, last)
		}
		if !errors.Is(l.err, store.ErrUnavailable) {
			return l.raw, l.err
		}
		last = l.err
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return nil, fmt.Errorf("block %s: %w", b.Hash, ctx.Err())
		case <-patience.C:
			return nil, fmt.Errorf("block %s: gave up after %s: %w", b.Hash, c.patience, last)
		case <-c.stop:
			return nil, fmt.Errorf("block %s: cache: %w", b.Hash, os.ErrClosed)
		}
	}
}
