package cache

import (
	"context"
	"errors"
	"fmt"
	"os"

	"valise/tree"
)

// errLost marks bytes that the disk does not give, though they were there.
var errLost = errors.New("read the cache")

// source is where the bytes of a run of segments come from.
type source struct {
	file    *os.File
	disk    segments // those in file
	fetches []*fetch // for the others
}

// plan finds out where to take the wanted segments from and starts the fetches that are
// needed: one for each run of neighbours that nobody is fetching. Those in again are
// not taken from the disk.
func (c *Cache) plan(ctx context.Context, p *pack, want, again segments) (source, error) {
	now, file := c.now(), c.handle(p)
	c.mu.Lock()
	missing := want &^ again &^ p.have &^ p.coming()
	c.mu.Unlock()
	var found segments
	if file != nil && missing != 0 { // another process may have been here
		found = scan(file, missing, p.size)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return source{}, fmt.Errorf("cache: %w", os.ErrClosed)
	}
	if p.file == file {
		p.have |= found
	}
	s := source{file: p.file, disk: want & p.have &^ again}
	rest := want &^ s.disk
	for _, f := range p.fetches {
		if f.segments&rest != 0 {
			s.fetches = append(s.fetches, f)
			rest &^= f.segments
		}
	}
	for rest != 0 {
		lo, hi := rest.run(maxRun)
		s.fetches = append(s.fetches, c.begin(ctx, &fetch{pack: p, lo: lo, hi: hi, kind: demand}))
		rest &^= span(lo, hi)
	}
	c.readAhead(ctx, p, want, now)
	return s, nil
}

// read waits for the fetches and returns the stored bytes of b, which the caller owns.
func (s source) read(b tree.Blob) ([]byte, error) {
	for _, f := range s.fetches {
		<-f.done
		if f.err != nil {
			return nil, f.err
		}
	}
	out := make([]byte, b.Stored)
	end := int64(b.Offset) + int64(b.Stored)
	for at := int64(b.Offset); at < end; {
		i, p := int(at/segment), out[at-int64(b.Offset):]
		if n := s.disk.from(i); n > 0 {
			to := min(end, int64(i+n)*segment)
			if err := readFull(s.file, p[:to-at], at); err != nil {
				return nil, fmt.Errorf("%w: %w", errLost, err)
			}
			at = to
			continue
		}
		at += int64(copy(p, s.fetched(i)[at%segment:]))
	}
	return out, nil
}

// fetched returns what was fetched from segment i on.
func (s source) fetched(i int) []byte {
	for _, f := range s.fetches {
		if f.lo <= i && i < f.hi {
			return f.body[(i-f.lo)*segment:]
		}
	}
	return nil
}
