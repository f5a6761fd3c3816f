package layer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"valise/store"
	"valise/tree"
)

// buffers is how many blocks are in memory at a time.
const buffers = 8

// piece is a block of a file, and where the sink put it.
type piece struct {
	offset int64
	blob   tree.Blob
}

// copier reads content and hands it to the sink, which works on earlier blocks in the
// meantime. It looks after the leases while it waits for the sink, so that a sink which
// takes long holds up nobody.
type copier struct {
	s        *Scanner
	leases   []*lease
	deadline time.Time // zero: none
	sinks    errgroup.Group
	files    int64
	bytes    int64
}

// copy reads the data of a file; holes have no pieces. The blobs are known after wait.
func (c *copier) copy(ctx context.Context, fd int, size int64) (pieces []*piece, err error) {
	c.files++
	for at := int64(0); at < size; {
		data, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) || err == nil && data >= size {
			break // a hole up to the end
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errIO, err)
		}
		end, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errIO, err)
		}
		end = min(end, size)
		for at = data; at < end; {
			n := min(end, at-at%store.BlockSize+store.BlockSize) - at
			p, err := c.block(ctx, fd, at, int(n))
			if err != nil || p == nil {
				return pieces, err
			}
			pieces = append(pieces, p)
			at += n
		}
	}
	return pieces, nil
}

// block reads one block and starts its storing. It is nil where the file ends before.
func (c *copier) block(ctx context.Context, fd int, offset int64, size int) (*piece, error) {
	buf, err := c.buffer(ctx)
	if err != nil {
		return nil, err
	}
	n, err := readFull(fd, buf[:size], offset)
	if err != nil || n < size {
		c.s.buffers <- buf
		return nil, err
	}
	c.bytes += int64(n)
	p := &piece{offset: offset}
	c.sinks.Go(func() error {
		defer func() { c.s.buffers <- buf }()
		var err error
		p.blob, err = c.s.Sink.Block(ctx, buf[:size])
		return err
	})
	return p, nil
}

// buffer waits for a free buffer, and gives up leases that somebody waits for.
func (c *copier) buffer(ctx context.Context) ([]byte, error) {
	for {
		for _, l := range c.leases {
			l.held()
		}
		if !c.deadline.IsZero() && time.Now().After(c.deadline) {
			return nil, errLocked
		}
		select {
		case buf := <-c.s.buffers:
			if buf == nil {
				buf = make([]byte, store.BlockSize)
			}
			return buf, nil
		case <-time.After(leaseCheck):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// leaseCheck is how long a process may wait that opens a file which is being read.
const leaseCheck = 10 * time.Millisecond

// wait returns when the sink has stored all.
func (c *copier) wait() error { return c.sinks.Wait() }

func readFull(fd int, p []byte, offset int64) (n int, err error) {
	for n < len(p) {
		m, err := unix.Pread(fd, p[n:], offset+int64(n))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return n, fmt.Errorf("%w: %w", errIO, err)
		case m == 0:
			return n, nil
		default:
			n += m
		}
	}
	return n, nil
}

// extentsOf makes extents of pieces. Where the earlier version has the same block, it
// is that version's, which a snapshot holds.
func extentsOf(pieces []*piece, earlier *version) []tree.Extent {
	var old []tree.Extent
	if earlier != nil {
		old = earlier.extents
	}
	out := make([]tree.Extent, 0, len(pieces))
	for _, p := range pieces {
		e := tree.Extent{Offset: p.offset, Blob: p.blob}
		i, same := slices.BinarySearchFunc(old, p.offset, func(e tree.Extent, at int64) int {
			return int(max(-1, min(1, e.Offset-at)))
		})
		if same && old[i].Blob.Hash == p.blob.Hash {
			e = old[i]
		}
		out = append(out, e)
	}
	return out
}
