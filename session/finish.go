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
// says that there still is. Meanwhile it answers Client as a session that is ending.
func Finish(ctx context.Context, cfg Config) (found bool, err error) {
	cfg.defaults()
	s := &Session{cfg: cfg, log: cfg.Log, ending: make(chan struct{}), yield: make(chan struct{}), closed: make(chan struct{})}
	s.status = Status{URL: cfg.URL, Dir: cfg.Dir, Host: cfg.Host, State: StateEnding}
	s.work, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.work, cancel)()
	go func() {
		select {
		case <-s.yield:
			cancel()
		case <-ctx.Done():
		}
	}()
	hangUp := func() error { return nil }
	if err = s.openHome(); err == nil {
		hangUp, err = s.answer(ctx)
	}
	if err == nil {
		found, err = s.finishPending(ctx)
	}
	if err != nil {
		err = fmt.Errorf("%w: finish saving %s: %w", ErrUnsaved, cfg.URL, err)
	}
	close(s.closed)
	err = errors.Join(err, hangUp(), s.release())
	if s.home != nil {
		err = errors.Join(err, s.home.emptyTrash())
	}
	return found, err
}

// answer serves Control until hangUp is called.
func (s *Session) answer(ctx context.Context) (hangUp func() error, err error) {
	hangUp = func() error { return nil }
	if err := s.clearSocket(); err != nil || s.cfg.RunDir == "" {
		return hangUp, err
	}
	if err := s.listen(ctx); err != nil {
		if errors.Is(err, ErrMounted) {
			return hangUp, nil // another profile is mounted there
		}
		return hangUp, err
	}
	control, stop := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- s.Control(control) }()
	return func() error { stop(); return <-served }, nil
}

func (s *Session) finishPending(ctx context.Context) (bool, error) {
	old, pending, err := s.home.load()
	if err != nil || !pending {
		return false, err
	}
	if err := s.clearStale(old); err != nil {
		return true, err
	}
	s.meter = &store.Meter{Bucket: s.cfg.Bucket}
	s.repo, err = store.Open(ctx, s.cfg.Store(s.meter))
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
		st, pending, err := pendingIn(filepath.Join(stateDir, "s3", profile.Name()))
		if err != nil { // one that can't be read must not hide the others
			st, pending = Status{State: StatePending, Error: err.Error()}, true
		}
		if pending {
			out = append(out, st)
		}
	}
	return out, nil
}

// PendingOf returns the status of the profile at url, if it has unsaved changes in
// stateDir and is not mounted.
func PendingOf(stateDir, url string) (Status, bool, error) {
	return pendingIn(HomePath(stateDir, url))
}

func pendingIn(dir string) (Status, bool, error) {
	if !exists(filepath.Join(dir, "state.json")) {
		return Status{}, false, nil
	}
	h, err := openHome(dir, nil)
	if errors.Is(err, ErrLocked) || errors.Is(err, os.ErrNotExist) {
		return Status{}, false, nil
	}
	if err != nil {
		return Status{}, false, err
	}
	old, found, err := h.load()
	if err = errors.Join(err, h.close()); err != nil || !found || old.Complete {
		return Status{}, false, err
	}
	st := Status{URL: old.URL, Dir: old.Dir, Mount: old.Mount, State: StatePending, Base: old.Base.Name(), Conflict: old.Saved.Conflict}
	st.saved(old.Saved)
	return st, true, nil
}
