package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// stalls is how often in a row a body may break off without another byte.
const stalls = 6

// patience is the longest wait after the first of them; it doubles. Tests shorten it.
var patience = 200 * time.Millisecond

// errEnd is a body of which all bytes came, and then an error: its checksum is wrong.
var errEnd = errors.New("its end is wrong")

// stream reads an object. Where its body breaks off it goes on from there.
type stream struct {
	ctx    context.Context
	source Source
	e      entry
	body   io.ReadCloser // nil: to be opened again
	at     int64
	broken int // times in a row
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	for {
		if err := s.ctx.Err(); err != nil {
			return 0, err
		}
		if s.body == nil {
			if err := s.reopen(); err != nil {
				return 0, err
			}
		}
		n, err := s.body.Read(p)
		if s.at += int64(n); s.at > s.e.Size {
			return 0, fmt.Errorf("the store sends more than the %d bytes that it listed", s.e.Size)
		}
		if n > 0 {
			s.broken = 0
			return n, nil // an error comes again
		}
		switch {
		case err == nil:
			continue
		case err == io.EOF && s.at == s.e.Size:
			return 0, io.EOF
		case s.at == s.e.Size:
			return 0, fmt.Errorf("%w: %w", errEnd, err)
		case err == io.EOF:
			err = io.ErrUnexpectedEOF
		}
		s.close()
		if s.broken++; s.broken > stalls {
			return 0, fmt.Errorf("it breaks off after %d of %d bytes, again and again: %w", s.at, s.e.Size, err)
		}
		select {
		case <-time.After(rand.N(patience << (s.broken - 1))):
		case <-s.ctx.Done():
		}
	}
}

func (s *stream) reopen() error {
	body, meta, err := s.source.Open(s.ctx, s.e.Key, s.e.ETag, s.at)
	if err != nil {
		return err
	}
	if meta.Size != s.e.Size {
		return errors.Join(fmt.Errorf("the store has %d bytes of it and listed %d", meta.Size, s.e.Size), body.Close())
	}
	s.body = body
	return nil
}

func (s *stream) close() {
	if s.body != nil {
		_ = s.body.Close() // it was only read
		s.body = nil
	}
}
