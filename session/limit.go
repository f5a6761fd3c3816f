package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/docker/go-units"

	"valise/layer"
	"valise/quota"
	"valise/tree"
)

// checkLimit compares the size that the home has now with its limit, before anything
// is uploaded.
func (s *Session) checkLimit(ctx context.Context) error {
	if s.cfg.SizeLimit == 0 {
		return nil
	}
	if s.measure == nil {
		var err error
		if s.measure, err = layer.NewScanner(s.scannerConfig(nil)); err != nil {
			return err
		}
	}
	scan, err := s.measure.Scan(ctx, layer.Regular)
	if err != nil {
		return err
	}
	s.measure.Committed(scan)
	size, err := sizeOf(s.base, scan)
	if err != nil {
		return err
	}
	s.setStatus(func(st *Status) { st.Size = size })
	if err := s.renewQuota(size); err != nil {
		s.log.Warn("the home's quota is not renewed", "url", s.cfg.URL, "error", err)
	}
	limit := s.cfg.SizeLimit
	if s.cfg.Enforce {
		limit += slack
	}
	if size > limit {
		return fmt.Errorf("%w: %s of %s", ErrOverLimit, units.BytesSize(float64(size)), units.BytesSize(float64(s.cfg.SizeLimit)))
	}
	return nil
}

// sizeOf is how many bytes the files have of what a scan found on base.
func sizeOf(base *tree.Tree, scan *layer.Scan) (int64, error) {
	patch, err := scan.Builder.Finish(nil)
	if err != nil {
		return 0, err
	}
	now, err := tree.Apply(base, patch)
	if err != nil {
		return 0, err
	}
	_, size := now.Total()
	return size, nil
}

// checkFileSystem reports why the state directory can't hold the home's changes.
func (s *Session) checkFileSystem() error {
	if s.cfg.Enforce {
		if err := quota.Check(s.home.path); err != nil {
			return fmt.Errorf("limits can't be enforced: %w", err)
		}
	}
	return layer.CheckUpper(s.home.path)
}

// limitUpper sets the limit of an upper that is about to be mounted. One that an earlier
// process left keeps its own until the home is measured, and has none if limits were not
// enforced when it began.
func (s *Session) limitUpper() error {
	if !s.cfg.Enforce {
		return nil
	}
	project := s.home.layer(s.state.Mount, "")
	now, ok, err := quota.Of(project)
	switch {
	case err != nil || !ok:
		return err
	case s.cfg.SizeLimit == 0:
		return quota.Limit(project, 0)
	case now.Limit != 0:
		return nil
	}
	_, size := s.base.Total()
	return quota.Limit(project, now.Used+s.room(size))
}

// renewQuota gives the upper what is left of the limit, now that the home has this size:
// files that it no longer has make room, though they lie in the lower.
func (s *Session) renewQuota(size int64) error {
	if !s.cfg.Enforce {
		return nil
	}
	project := s.home.layer(s.state.Mount, "")
	now, ok, err := quota.Of(project)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !ok {
		return nil
	}
	if err != nil {
		return err
	}
	return quota.Limit(project, now.Used+s.room(size))
}

const (
	// slack is how far above an enforced limit a home may be and is saved: to delete a file
	// of an earlier session takes blocks, for a directory that says that it is gone.
	slack = 1 << 20
	// leastRoom is what may be added between two measures to a home that is larger still.
	leastRoom = 64 << 10
)

// room is what a home of this size may still take.
func (s *Session) room(size int64) int64 { return max(leastRoom, s.cfg.SizeLimit+slack-size) }
