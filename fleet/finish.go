package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"valise/session"
)

// failure is why what is pending of a profile is not saved yet.
type failure struct {
	reason string
	next   time.Time // when it is tried again
	wait   time.Duration
}

// The waits between two tries to save what is pending.
const (
	firstWait   = 10 * time.Second
	longestWait = 10 * time.Minute
)

// FinishPending saves what processes left that are gone, profile by profile, but not what
// containers still write to (inUse). What can't be saved is tried again by a later call,
// less and less often.
func (f *Fleet) FinishPending(ctx context.Context, inUse func(url string) bool) {
	pending, err := session.Pending(f.cfg.StateDir)
	if err != nil {
		f.cfg.Log.Error("look for unsaved changes", "error", err)
		return
	}
	for _, st := range pending {
		f.mu.Lock()
		early := time.Now().Before(f.failed[st.URL].next)
		f.mu.Unlock()
		if !early && st.URL != "" && !inUse(st.URL) && ctx.Err() == nil {
			_ = f.finish(ctx, st.URL) // it is logged, and kept for Statuses
		}
	}
}

// finish saves what is pending of one profile.
func (f *Fleet) finish(ctx context.Context, url string) error {
	s, err := f.Last(url)
	if err == nil {
		err = f.complete(ctx, "sync", s)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil || ctx.Err() != nil {
		delete(f.failed, url)
		return err
	}
	before := f.failed[url]
	wait := min(max(firstWait, 2*before.wait), longestWait)
	f.failed[url] = failure{reason: err.Error(), wait: wait, next: time.Now().Add(wait)}
	f.cfg.Log.Warn("unsaved changes wait on this host", "profile", url, "error", err, "again_in", wait)
	return err
}

// complete runs a process of a profile to its end. When ctx ends, the process goes on.
func (f *Fleet) complete(ctx context.Context, verb string, s Settings) error {
	p, stop, err := f.run(verb, "--settings", s.Path())
	if err != nil {
		return err
	}
	defer stop()
	select {
	case <-p.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if p.cmd.ProcessState.Success() {
		return nil
	}
	if reason := last(p.said, ""); reason != "" {
		return errors.New(reason)
	}
	return fmt.Errorf("valise %s of %s ended: %s", verb, s.URL, p.cmd.ProcessState)
}
