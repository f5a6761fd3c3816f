package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"valise/session"
	"valise/store"
)

// What is done to profiles that are not mounted is done in this process.

// InUse reports whether an error says that somebody has the profile mounted.
func InUse(err error) bool {
	var held *store.HeldError
	return errors.As(err, &held) || errors.Is(err, session.ErrLocked)
}

// Reset makes a profile an empty home; what a process is still saving is saved first.
func (f *Fleet) Reset(ctx context.Context, s Settings) error {
	return f.unused(ctx, s, false, func(cfg session.Config) error { return session.Reset(ctx, cfg) })
}

// Purge deletes a profile, with all that this host has of it, and returns what was on S3.
// With dryRun it deletes nothing.
func (f *Fleet) Purge(ctx context.Context, s Settings, dryRun bool) (store.PurgeResult, error) {
	var res store.PurgeResult
	started := time.Now()
	err := f.unused(ctx, s, !dryRun, func(cfg session.Config) (err error) {
		meter := &store.Meter{Bucket: cfg.Bucket}
		claim := store.Claim{Host: s.Host, Mount: store.NewID(), TTL: s.Lease}
		res, err = store.Purge(ctx, store.Config{Bucket: meter, Log: cfg.Log}, claim, dryRun)
		if err == nil && !dryRun {
			err = session.Forget(s.StateDir, s.URL)
			e := session.Event{Name: "purge", Files: int64(res.Objects), Requests: meter.Traffic().Requests, Duration: time.Since(started), Err: err}
			e.Log(cfg.Log, s.URL, s.User, s.Workspace)
		}
		return err
	})
	return res, err
}

// Size tells how much a profile takes on S3; 0 objects where there is none.
func (f *Fleet) Size(ctx context.Context, s Settings) (store.PurgeResult, error) {
	cfg, err := f.cfg.Session(ctx, s)
	if err != nil {
		return store.PurgeResult{}, err
	}
	return store.Size(ctx, cfg.Bucket)
}

// unused calls do when no process of this host works on the profile. One that is saving
// what a session has left is waited for, or told to leave it.
func (f *Fleet) unused(ctx context.Context, s Settings, leave bool, do func(session.Config) error) error {
	s.StateDir, s.RunDir = f.cfg.StateDir, f.cfg.RunDir
	for {
		locked, err := session.Locked(f.cfg.StateDir, s.URL)
		if err != nil {
			return err
		}
		if !locked {
			break
		}
		c, err := session.Reach(f.cfg.RunDir, s.Dir)
		if err == nil {
			st, err := c.Status(ctx)
			if err == nil && st.State == session.StateMounted {
				return fmt.Errorf("%s: %w", s.URL, session.ErrLocked)
			}
			if leave {
				_ = c.Yield(ctx) // it ends sooner or later
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: what the last session has left is still being saved: %w", s.URL, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
	cfg, err := f.cfg.Session(ctx, s)
	if err != nil {
		return err
	}
	return do(cfg)
}
