package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"valise/tree"
)

// loadKey names a load: the same content elsewhere may be damaged there.
type loadKey struct {
	tree.Blob
	size uint32
}

// load is the reading and verifying of one block, on behalf of all who wait for it.
type load struct {
	done chan struct{} // closed when the rest is set
	raw  []byte
	err  error
}

func (l *load) finished() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// join returns the load of a block, which it starts if there is none. What is on the
// disk it reads by itself: waking another goroutine costs as much as a small block.
func (c *Cache) join(ctx context.Context, key loadKey) (*load, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, fmt.Errorf("block %s: cache: %w", key.Hash, os.ErrClosed)
	}
	l := c.loads[key]
	if l != nil {
		c.mu.Unlock()
		return l, nil
	}
	l = &load{done: make(chan struct{})}
	c.loads[key] = l
	p, s := c.warm(ctx, key)
	c.work.Add(1)
	c.mu.Unlock()

	if p != nil {
		if stored, err := s.read(key.Blob); err == nil {
			if raw, err := c.coder.Decode(key.Blob, stored); err == nil {
				c.count.disk.Add(1)
				c.touch(p)
				c.finish(key, l, raw, nil)
				return l, nil
			}
		}
	}
	ctx = context.WithoutCancel(ctx)
	go func() {
		raw, err := c.load(ctx, key)
		c.finish(key, l, raw, err)
	}()
	return l, nil
}

// finish tells how the load went and ends it.
func (c *Cache) finish(key loadKey, l *load, raw []byte, err error) {
	defer c.work.Done()
	l.raw, l.err = raw, err
	if err == nil {
		c.memory.put(key.Hash, raw)
	}
	c.mu.Lock()
	delete(c.loads, key)
	c.mu.Unlock()
	close(l.done)
}

// warm returns the block's pack and file if that is open and has all of it. The caller
// holds Cache.mu.
func (c *Cache) warm(ctx context.Context, key loadKey) (*pack, source) {
	p := c.packs[packKey{key.Pack, key.size}]
	if p == nil || p.file == nil || key.Stored == 0 {
		return nil, source{}
	}
	want := covering(key.Blob)
	if want&^p.have != 0 {
		return nil, source{}
	}
	c.open.MoveToFront(p.place)
	c.readAhead(ctx, p, want, c.now())
	return p, source{file: p.file, disk: want}
}

// load reads and verifies a block. If its bytes are wrong it gets them from the bucket
// once again. It ends when the fetches do, for ctx is nobody's.
func (c *Cache) load(ctx context.Context, key loadKey) ([]byte, error) {
	b := key.Blob
	if b.Stored == 0 {
		return c.coder.Decode(b, nil)
	}
	p, err := c.acquire(packKey{b.Pack, key.size})
	if err != nil {
		return nil, fmt.Errorf("block %s: %w", b.Hash, err)
	}
	defer c.done(p)
	want := covering(b)
	for again := segments(0); ; again = want {
		s, stored, err := c.gather(ctx, p, b, again)
		if err != nil {
			return nil, fmt.Errorf("block %s: %w", b.Hash, err)
		}
		raw, err := c.coder.Decode(b, stored)
		if err == nil {
			c.count.block(len(s.fetches) > 0)
			c.touch(p)
			return raw, nil
		}
		if again != 0 {
			return nil, err
		}
		if s.disk != 0 {
			c.count.corrupt.Add(1)
		}
		for _, f := range s.fetches {
			<-f.settled
		}
		c.distrust(p, want)
	}
}

// gather returns b's stored bytes and where they came from. The segments in again are
// not taken from the disk.
func (c *Cache) gather(ctx context.Context, p *pack, b tree.Blob, again segments) (source, []byte, error) {
	for try := 0; ; try++ {
		s, err := c.plan(ctx, p, covering(b), again)
		if err != nil {
			return s, nil, err
		}
		stored, err := s.read(b)
		if !errors.Is(err, errLost) {
			return s, stored, err
		}
		if errors.Is(err, os.ErrClosed) && try < 4 {
			continue // another pack needed the descriptor
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			c.report(err)
		}
		again |= s.disk
	}
}

// done ends a use of p.
func (c *Cache) done(p *pack) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.release(p)
}
