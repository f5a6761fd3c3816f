package cache

import (
	"context"
	"fmt"
	"os"

	"valise/tree"
)

// Prefetch brings in what is missing of a pack of size bytes, at no more than the
// configured rate and behind no reader's back: nothing is evicted for it. It returns
// ErrFull when there is no room.
func (c *Cache) Prefetch(ctx context.Context, id tree.PackID, size uint32) error {
	p, err := c.acquire(packKey{id, size})
	if err != nil {
		return fmt.Errorf("prefetch: %w", err)
	}
	defer c.done(p)
	if err := c.prefetchAll(ctx, p); err != nil {
		return fmt.Errorf("prefetch pack %s: %w", id, err)
	}
	c.touch(p)
	return nil
}

func (c *Cache) prefetchAll(ctx context.Context, p *pack) error {
	var running []*fetch // at most as many as the lane has places
	for {
		f, err := c.prefetchRun(ctx, p)
		if err != nil {
			return err
		}
		if f == nil {
			break
		}
		if running = append(running, f); len(running) == prefetchFetches {
			if err := await(ctx, running[0]); err != nil {
				return err
			}
			running = running[1:]
		}
	}
	for _, f := range append(running, c.underWay(p)...) {
		if err := await(ctx, f); err != nil {
			return err
		}
	}
	c.handle(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.have != whole(p.size) { // evicted meanwhile, or held in memory only
		return ErrFull
	}
	return nil
}

// prefetchRun starts the fetch of the next run of segments that are missing and that
// nobody is fetching, once the rate allows it. It returns nil if there is none.
func (c *Cache) prefetchRun(ctx context.Context, p *pack) (f *fetch, err error) {
	if err := c.prefetch.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer func() {
		if f == nil {
			c.prefetch.Release(1)
		}
	}()
	lo, hi := c.missing(p).run(maxRun)
	if lo == hi {
		return nil, nil
	}
	from, to := extent(lo, hi, p.size)
	if !c.room(to-from) || c.disk.broken() {
		return nil, ErrFull
	}
	if err := c.rate.WaitN(ctx, int(to-from)); err != nil {
		return nil, err
	}
	missing := c.missing(p) // others may have gone on meanwhile
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("cache: %w", os.ErrClosed)
	}
	if lo, hi = (missing &^ p.coming()).run(maxRun); lo == hi {
		return nil, nil
	}
	return c.begin(ctx, &fetch{pack: p, lo: lo, hi: hi, kind: bulk}), nil
}

// await returns when f is on the disk, or will not be.
func await(ctx context.Context, f *fetch) error {
	select {
	case <-f.settled:
	case <-ctx.Done():
		return ctx.Err()
	}
	if f.err == nil && !f.kept {
		return ErrFull
	}
	return f.err
}

// missing is the set of the segments that are neither on the disk nor under way.
func (c *Cache) missing(p *pack) segments {
	c.handle(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	return whole(p.size) &^ p.have &^ p.coming()
}

// underWay returns the fetches of p that are not settled.
func (c *Cache) underWay(p *pack) (list []*fetch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range p.fetches {
		select {
		case <-f.settled:
		default:
			list = append(list, f)
		}
	}
	return list
}
