package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sync/semaphore"

	"valise/store"
)

// What is fetched at once. Nothing that hangs in one lane stands in the way of another,
// and one pack cannot take the whole lane that readers wait for.
const (
	demandFetches   = 24
	packFetches     = 6 // of those, for one pack
	aheadFetches    = 4
	prefetchFetches = 4

	maxRun = 8 // segments in one request
)

// kind is on whose behalf a fetch is.
type kind int

const (
	demand kind = iota // a reader waits for it; it enters its lanes by itself
	ahead              // read-ahead; has entered its lane
	bulk               // Prefetch; has entered its lane, and evicts nothing
)

// fetch is one request for neighbouring segments of a pack, and then the writing of
// them. It is among its pack's fetches from begin until the disk has them or it failed;
// if the disk does not take them, until others need the memory.
type fetch struct {
	pack     *pack
	lo, hi   int
	kind     kind
	segments segments           // lo to hi
	cancel   context.CancelFunc // for Close alone

	done chan struct{} // closed when body and err are set
	body []byte
	err  error

	settled chan struct{} // closed when kept is set
	kept    bool          // the disk has them
}

// lanes are what f takes a place in, in this order.
func (c *Cache) lanes(f *fetch) []*semaphore.Weighted {
	switch f.kind {
	case ahead:
		return []*semaphore.Weighted{c.ahead}
	case bulk:
		return []*semaphore.Weighted{c.prefetch}
	}
	return []*semaphore.Weighted{f.pack.share, c.demand}
}

// begin starts a fetch, of which pack, lo, hi and kind are set. It is not bound to ctx.
// The caller holds Cache.mu, and the cache is not closed.
func (c *Cache) begin(ctx context.Context, f *fetch) *fetch {
	f.segments, f.done, f.settled = span(f.lo, f.hi), make(chan struct{}), make(chan struct{})
	ctx, f.cancel = context.WithTimeout(context.WithoutCancel(ctx), c.patience)
	f.pack.users++
	f.pack.fetches = append(f.pack.fetches, f)
	c.work.Go(func() { c.run(ctx, f) })
	return f
}

// run is the life of a fetch. Its place in the lanes, which bounds the memory, it gives
// back when the bytes are on the disk.
func (c *Cache) run(ctx context.Context, f *fetch) {
	defer f.cancel()
	leave, err := c.enter(ctx, f)
	if err == nil {
		f.body, err = c.receive(ctx, f)
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		err = fmt.Errorf("cache: %w", os.ErrClosed)
	case err != nil && ctx.Err() != nil:
		err = fmt.Errorf("no answer in %s: %w: %w", c.patience, err, store.ErrUnavailable)
	}
	if err != nil {
		f.body, f.err = nil, fmt.Errorf("pack %s: %w", f.pack.id, err)
	}
	close(f.done)
	if f.err == nil {
		f.kept = c.write(f.pack, f.segments, f.body, f.kind != bulk)
	}
	c.settle(f)
	leave()
}

// enter waits for f's place in its lanes.
func (c *Cache) enter(ctx context.Context, f *fetch) (leave func(), err error) {
	lanes := c.lanes(f)
	leave = func() {
		for _, l := range lanes {
			l.Release(1)
		}
	}
	if f.kind != demand {
		return leave, nil
	}
	for i, l := range lanes {
		if err := l.Acquire(ctx, 1); err != nil {
			lanes = lanes[:i]
			return leave, err
		}
	}
	return leave, nil
}

func (c *Cache) receive(ctx context.Context, f *fetch) ([]byte, error) {
	from, to := extent(f.lo, f.hi, f.pack.size)
	body := make([]byte, to-from)
	c.count.fetches.Add(1)
	if err := c.bucket.GetRange(ctx, store.Key("packs/"+f.pack.id.String()), from, body); err != nil {
		return nil, err
	}
	c.count.fetched.Add(uint64(len(body)))
	return body, nil
}

// settle takes f from its pack's fetches, or has its bytes stay in memory for a while.
func (c *Cache) settle(f *fetch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(f.settled)
	if f.err != nil || f.kept || c.closed {
		if f.kept {
			c.letGo(func(*fetch) bool { return true })
		}
		c.remove(f)
		return
	}
	c.unkept.fetches = append(c.unkept.fetches, f)
	c.unkept.size += int64(len(f.body))
	for len(c.unkept.fetches) > 1 && c.unkept.size > c.unkept.limit {
		oldest := c.unkept.fetches[0]
		c.letGo(func(f *fetch) bool { return f == oldest })
	}
}

// remove takes f from its pack's fetches. The caller holds Cache.mu.
func (c *Cache) remove(f *fetch) {
	p := f.pack
	p.fetches = slices.DeleteFunc(p.fetches, func(g *fetch) bool { return g == f })
	c.release(p)
}

// unkept are the last fetches that the disk did not take.
type unkept struct {
	limit, size int64
	fetches     []*fetch // the oldest first
}

// letGo frees the memory of the unkept fetches that are chosen. The caller holds Cache.mu.
func (c *Cache) letGo(chosen func(*fetch) bool) {
	c.unkept.fetches = slices.DeleteFunc(c.unkept.fetches, func(f *fetch) bool {
		if !chosen(f) {
			return false
		}
		c.unkept.size -= int64(len(f.body))
		c.remove(f)
		return true
	})
}

// coming is the set of the segments that are being fetched or were and are in memory.
// The caller holds Cache.mu.
func (p *pack) coming() segments {
	var s segments
	for _, f := range p.fetches {
		s |= f.segments
	}
	return s
}
