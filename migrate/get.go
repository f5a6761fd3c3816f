package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"valise/store"
)

const (
	// workers read objects at the same time.
	workers = 16
	// restarts is how often an object is read from its start again.
	restarts = 3
)

// flushEvery is how much a kill costs. Tests shorten it.
var flushEvery = time.Second

// get fetches the objects of the plan that are not done.
func (f *fetch) get(ctx context.Context, p *plan) error {
	group, ctx := errgroup.WithContext(ctx)
	work := make(chan entry, workers)
	group.Go(func() error {
		defer close(work)
		return p.entries(func(e entry) error {
			select {
			case work <- e:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	var busy atomic.Int64
	busy.Store(workers)
	idle := make(chan struct{})
	for range workers {
		group.Go(func() error {
			defer func() {
				if busy.Add(-1) == 0 {
					close(idle)
				}
			}()
			h := f.stage.handle()
			defer h.close()
			buffer := make([]byte, 128<<10)
			for e := range work {
				if err := f.getOne(ctx, h, e, p.dirs[pathID(e.Path)], buffer); err != nil {
					return fmt.Errorf("fetch %q: %w", e.Key, err)
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		tick := time.NewTicker(flushEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if err := f.journal.flush(); err != nil {
					return err
				}
			case <-idle:
				return nil
			}
		}
	})
	// What is complete is kept, whatever went wrong elsewhere.
	return errors.Join(group.Wait(), f.journal.flush())
}

// getOne fetches an object; parent says that it can be a directory only.
func (f *fetch) getOne(ctx context.Context, h *handle, e entry, parent bool, buffer []byte) error {
	if parent && e.Size > 0 {
		f.skip(e, "other objects make its name a directory")
		return nil
	}
	body, meta, err := f.cfg.Source.Open(ctx, e.Key, e.ETag, 0)
	if errors.Is(err, store.ErrNotExist) {
		f.lost(e.Key)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w (what was fetched is kept; the filter can leave it out)", err)
	}
	s := &stream{ctx: ctx, source: f.cfg.Source, e: e, body: body}
	defer func() { s.close() }()
	if meta.Size != e.Size {
		return fmt.Errorf("the store has %d bytes of it and listed %d", meta.Size, e.Size)
	}
	k, a, notes := interpret(&e, meta, f.cfg.UID, f.cfg.GID)
	if parent && k != directory {
		f.skip(e, "other objects make its name a directory")
		return nil
	}
	r := record{entry: e, Kind: k, Notes: notes}
	var more []string
	switch k {
	case regular:
		more, err = h.create(e.Path, k, "", a, func(fd int) error { return f.content(s, fd, buffer) })
	case symlink:
		var target, reason string
		if target, reason, err = linkTarget(s); reason != "" {
			f.skip(e, reason)
			return nil
		}
		if err == nil {
			f.tally.bytes(e.Size)
			more, err = h.create(e.Path, k, target, a, nil)
		}
	case fifo:
		f.tally.bytes(e.Size)
		more, err = h.create(e.Path, k, "", a, nil)
	case directory:
		r.Attributes = &a
		if e.Size > 0 {
			r.Notes = append(r.Notes, "leave out the content of the directory's object")
		}
		f.tally.bytes(e.Size)
		_, err = h.open(e.Path)
	default:
		f.skip(e, "it is "+k.String())
		return nil
	}
	if errors.Is(err, store.ErrNotExist) {
		f.lost(e.Key)
		return nil
	}
	if err != nil {
		return err
	}
	r.Notes = append(r.Notes, more...)
	f.journal.add(r)
	f.fetched.Add(1)
	f.fetchedBytes.Add(e.Size)
	f.tally.object()
	return nil
}

// content writes the object into the file fd.
func (f *fetch) content(s *stream, fd int, buffer []byte) error {
	for try := 1; ; try++ {
		err := f.copy(s, fd, buffer)
		if !errors.Is(err, errEnd) || try == restarts {
			return err
		}
		f.log.Debug("read again", "key", s.e.Key, "err", err)
		f.tally.bytes(-s.at)
		s.close()
		s.at = 0
	}
}

func (f *fetch) copy(s *stream, fd int, buffer []byte) error {
	for {
		at := s.at
		n, err := s.Read(buffer)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = write(fd, buffer[:n], at)
		}
		if err != nil {
			if errors.Is(err, store.ErrNotExist) {
				f.tally.bytes(-s.at)
			}
			return err
		}
		f.tally.bytes(int64(n))
	}
}

// linkTarget reads what the link points to, or says why it can be none.
func linkTarget(s *stream) (target, reason string, err error) {
	if s.e.Size == 0 || s.e.Size >= unix.PathMax {
		return "", fmt.Sprintf("it is a symbolic link to a name of %d bytes", s.e.Size), nil
	}
	data, err := io.ReadAll(s)
	if err != nil {
		return "", "", err
	}
	if bytes.IndexByte(data, 0) >= 0 {
		return "", "it is a symbolic link to a name with a zero byte", nil
	}
	return string(data), "", nil
}
