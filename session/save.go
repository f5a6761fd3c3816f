package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"valise/layer"
	"valise/store"
	"valise/tree"
)

// ErrOverLimit says that the home is larger than its limit: nothing is saved until it
// fits again, and nothing is dropped.
var ErrOverLimit = errors.New("the home exceeds its size limit")

// renew makes a scanner and a writer that remember nothing. The writer does not store
// again what known has.
func (s *Session) renew(known *tree.Tree) error {
	if s.scanner != nil {
		if err := s.scanner.Close(); err != nil {
			return err
		}
	}
	s.writer = s.repo.NewWriter(known, func(id tree.PackID, body []byte) {
		_ = s.packs.Add(id, body) // nothing is lost if the cache has no room
	})
	var err error
	s.scanner, err = layer.NewScanner(s.scannerConfig(s.writer))
	return err
}

func (s *Session) scannerConfig(sink layer.Sink) layer.ScannerConfig {
	return layer.ScannerConfig{
		Upper: s.home.layer(s.state.Mount, "upper"), Merged: s.cfg.Dir, Base: s.base, Filter: s.cfg.Filter, Sink: sink, Log: s.log,
	}
}

// Sync saves: when it returns nil, everything written before the call is in a durable
// snapshot.
func (s *Session) Sync(ctx context.Context) error {
	if s.cfg.ReadOnly {
		return nil
	}
	var scan *layer.Scan
	for range syncTries {
		var err error
		if scan, err = s.save(ctx, layer.Thorough); err != nil {
			return err
		}
		if !scan.Moving && len(scan.Stale) == 0 {
			return nil
		}
	}
	if len(scan.Stale) > 0 {
		return fmt.Errorf("%w, so that the snapshot has them as they were: %q", ErrBusy, scan.Stale)
	}
	s.log.Warn("names change without a pause: what was moved in these moments may be missing from the snapshot until the next", "url", s.cfg.URL)
	return nil
}

// syncTries is how often Sync saves for a snapshot of a quiet moment.
const syncTries = 3

// ErrBusy says that databases were locked all the time while they were to be read.
var ErrBusy = errors.New("files were in use without a pause")

// save makes a snapshot of what is new; the scan is nil with an error.
func (s *Session) save(ctx context.Context, mode layer.Mode) (*layer.Scan, error) {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	started, before := time.Now(), s.meter.Traffic()
	scan, saved, err := s.saveOnce(ctx, mode)
	if errors.Is(err, store.ErrMarked) {
		// The objects are about to go: store everything anew, as if the base had nothing.
		if err = s.renew(emptyTree()); err == nil {
			scan, saved, err = s.saveOnce(ctx, mode)
		}
	}
	s.tell(started, before, scan, saved, err)
	s.setStatus(func(st *Status) {
		st.LastTry = started
		st.OverLimit = errors.Is(err, ErrOverLimit)
		st.Error = ""
		if err != nil {
			st.Error = err.Error()
			return
		}
		if saved != nil {
			st.saved(*saved)
		}
		st.LastSave = started
	})
	return scan, err
}

func emptyTree() *tree.Tree {
	t, err := tree.NewBuilder(tree.Whole, tree.Entry{Attr: tree.Attr{Mode: 0o40755}}).Finish(nil)
	if err != nil {
		panic(err) // it is a constant
	}
	return t
}

// saveOnce returns the new snapshot too, or nil if there was nothing to save.
func (s *Session) saveOnce(ctx context.Context, mode layer.Mode) (*layer.Scan, *store.Snapshot, error) {
	if err := s.checkLimit(ctx); err != nil {
		return nil, nil, err
	}
	scan, err := s.scanner.Scan(ctx, mode)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("scan: %w", err), s.writer.Flush(ctx))
	}
	s.note(scan)
	if !scan.Changed {
		return scan, nil, s.writer.Flush(ctx)
	}
	if err := s.writer.Flush(ctx); err != nil {
		return nil, nil, err
	}
	if s.server != nil {
		scan.Builder.Order(s.server.Touched())
	}
	patch, err := scan.Builder.Finish(s.writer.PackSize)
	if err != nil {
		return nil, nil, fmt.Errorf("scan: %w", err)
	}
	index, whole, err := s.repo.SaveIndex(ctx, s.state.Base.Index, s.base, patch)
	if err != nil {
		return nil, nil, err
	}
	next := store.Snapshot{Index: index, Time: time.Now().UTC()}
	next.Files, next.Size = whole.Total()
	if next, err = s.commit(ctx, next, whole); err != nil {
		return nil, nil, err
	}
	s.scanner.Committed(scan)
	s.state.Saved = next
	if err := s.home.save(s.state); err != nil {
		return nil, nil, err
	}
	if !s.lost.Load() {
		if err := s.home.keepTree(next, whole); err != nil {
			s.log.Warn("keeping the tree of the newest snapshot", "url", s.cfg.URL, "error", err)
		}
	}
	return scan, &next, nil
}

// commit makes next the head or, if the lease is lost, keeps it beside the main line.
func (s *Session) commit(ctx context.Context, next store.Snapshot, whole *tree.Tree) (store.Snapshot, error) {
	if !s.lost.Load() {
		done, err := s.repo.Commit(ctx, s.lease, s.state.Saved, next, whole)
		if !errors.Is(err, store.ErrLeaseLost) {
			return done, err
		}
		s.loseLease(err)
	}
	return s.repo.CommitConflict(ctx, s.claim(s.state.Mount), s.state.Saved, next)
}

func (s *Session) loseLease(err error) {
	if s.lost.Swap(true) {
		return
	}
	s.log.Error("this mount has lost the profile; its changes are kept in snapshots of their own, see valise snapshots",
		"url", s.cfg.URL, "error", err)
	s.setStatus(func(st *Status) { st.Conflict = true })
}

// saveAside keeps a pending upper beside the main line, on which another host has gone on.
func (s *Session) saveAside(ctx context.Context) error {
	s.lost.Store(true)
	defer s.lost.Store(false)
	// A limit that refuses it would keep the user out for ever.
	defer func(limit int64) { s.cfg.SizeLimit = limit }(s.cfg.SizeLimit)
	s.cfg.SizeLimit = 0
	if err := s.openCache(); err != nil {
		return err
	}
	defer func() {
		s.packs.Close()
		s.packs = nil
	}()
	if err := s.renew(s.base); err != nil {
		return err
	}
	if _, err := s.save(ctx, layer.Final); err != nil {
		return err
	}
	s.log.Warn("changes of an earlier mount are kept as a snapshot of their own, because another host has gone on meanwhile",
		"url", s.cfg.URL, "snapshot", s.state.Saved.Name())
	s.state.Complete = true
	if err := s.home.save(s.state); err != nil {
		return err
	}
	if err := s.home.drop(s.state); err != nil {
		return err
	}
	return s.repo.Unpin(ctx, s.state.Mount)
}

// tell logs a save. One that found nothing new is no event.
func (s *Session) tell(started time.Time, before store.Traffic, scan *layer.Scan, saved *store.Snapshot, err error) {
	if err == nil && saved == nil || s.work.Err() != nil && errors.Is(err, context.Canceled) {
		return
	}
	e := Event{Name: "save", Duration: time.Since(started), Err: err}.measured(before, s.meter.Traffic())
	if saved != nil {
		e.Snapshot, e.Files = saved.Name(), int64(scan.Files)
	}
	e.Log(s.log, s.cfg.URL, s.cfg.User, s.cfg.Workspace)
}

// saveRegularly saves every interval.
func (s *Session) saveRegularly() {
	timer := time.NewTicker(s.cfg.Interval)
	defer timer.Stop()
	for {
		select {
		case <-s.work.Done():
			return
		case <-timer.C:
		}
		_, _ = s.save(s.work, layer.Regular) // it is logged, and tried again
	}
}

// keepLease renews the lease in good time, until it is lost or ctx ends.
func (s *Session) keepLease(ctx context.Context) {
	interval := s.cfg.Lease / 4
	for wait := interval; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if s.lost.Load() {
			return
		}
		err := s.lease.Renew(ctx)
		wait = interval
		switch {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, store.ErrLeaseLost):
			s.loseLease(err)
		default:
			s.log.Warn("renew the lease", "url", s.cfg.URL, "error", err, "left", s.lease.Left())
			wait = interval / 4
		}
	}
}
