package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"valise/store"
)

// Finish saves what an earlier mount of the profile left unsaved on this host, without
// mounting it. It reports whether there was anything. An error that wraps ErrUnsaved
// says that there still is.
func Finish(ctx context.Context, cfg Config) (bool, error) {
	cfg.defaults()
	s := &Session{cfg: cfg, log: cfg.Log, ending: make(chan struct{})}
	s.work, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	found, err := s.finishPending(ctx)
	if err != nil {
		err = fmt.Errorf("%w: finish saving %s: %w", ErrUnsaved, cfg.URL, err)
	}
	err = errors.Join(err, s.release())
	if s.home != nil {
		err = errors.Join(err, s.home.emptyTrash())
	}
	return found, err
}

func (s *Session) finishPending(ctx context.Context) (bool, error) {
	if err := s.openHome(); err != nil {
		return false, err
	}
	if err := s.clearSocket(); err != nil {
		return false, err
	}
	old, pending, err := s.home.load()
	if err != nil || !pending {
		return false, err
	}
	if err := s.clearStale(old); err != nil {
		return true, err
	}
	s.meter = &store.Meter{Bucket: s.cfg.Bucket}
	s.repo, err = store.Open(ctx, store.Config{Bucket: s.meter, Log: s.log})
	switch {
	case old.Complete && err == nil:
		return false, s.settle(ctx, old)
	case old.Complete:
		return false, s.home.drop(old)
	case err != nil:
		return true, err
	}
	if err := s.takeUp(ctx, old); err != nil {
		return true, err
	}
	if s.state.Mount != old.Mount {
		// takeUp has saved it beside the main line, and begun a mount that nobody wants.
		s.state.Complete = true
		return true, errors.Join(s.home.save(s.state), s.home.drop(s.state), s.lease.Release(ctx), s.repo.Unpin(ctx, s.state.Mount))
	}
	if err := s.openCache(); err != nil {
		return true, err
	}
	if err := s.renew(s.base); err != nil {
		return true, err
	}
	return true, s.finish(ctx, true)
}

// Pending returns the status of the profiles in stateDir that have unsaved changes and
// are not mounted.
func Pending(stateDir string) ([]Status, error) {
	profiles, err := os.ReadDir(filepath.Join(stateDir, "s3"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var out []Status
	for _, profile := range profiles {
		dir := filepath.Join(stateDir, "s3", profile.Name())
		if !exists(filepath.Join(dir, "state.json")) {
			continue
		}
		h, err := openHome(dir, nil)
		if errors.Is(err, ErrLocked) || errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		old, found, err := h.load()
		if err = errors.Join(err, h.close()); err != nil {
			return nil, err
		}
		if found && !old.Complete {
			st := Status{URL: old.URL, Dir: old.Dir, Mount: old.Mount, State: "pending", Base: old.Base.Name(), Conflict: old.Saved.Conflict}
			st.saved(old.Saved)
			out = append(out, st)
		}
	}
	return out, nil
}
