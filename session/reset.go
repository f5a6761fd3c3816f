package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"valise/store"
)

// Reset makes the newest snapshot of a profile an empty home, with what Config.Populate
// puts into it. Older snapshots stay as long as retention keeps them, so that a mistake can
// be undone. What this host has not saved yet becomes a snapshot first. A profile that is
// mounted is a *store.HeldError or ErrLocked. A profile that does not exist is made.
func Reset(ctx context.Context, cfg Config) error {
	cfg.defaults()
	started := time.Now()
	meter := &store.Meter{Bucket: cfg.Bucket}
	cfg.Bucket = meter
	made, err := reset(ctx, cfg)
	e := Event{Name: "reset", Snapshot: made.Name(), Files: made.Files, Duration: time.Since(started), Err: err}
	e.measured(store.Traffic{}, meter.Traffic()).Log(cfg.Log, cfg.URL, cfg.User, cfg.Workspace)
	if err != nil {
		return fmt.Errorf("reset %s: %w", cfg.URL, err)
	}
	return nil
}

func reset(ctx context.Context, cfg Config) (made store.Snapshot, err error) {
	// A limit must not keep what is over it from being put aside.
	cfg.SizeLimit, cfg.Enforce = 0, false
	if _, err := Finish(ctx, cfg); err != nil && !errors.Is(err, store.ErrNoProfile) {
		return made, err
	}
	h, err := openHome(HomePath(cfg.StateDir, cfg.URL), nil)
	if err != nil {
		return made, err
	}
	defer h.close()
	dir, err := os.MkdirTemp(h.path, "new-home-")
	if err != nil {
		return made, err
	}
	defer os.RemoveAll(dir)
	if cfg.Populate != nil {
		if err := cfg.Populate(dir); err != nil {
			return made, fmt.Errorf("fill a new home: %w", err)
		}
	}
	if err := errors.Join(os.Chown(dir, int(cfg.UID), int(cfg.GID)), os.Chmod(dir, os.FileMode(cfg.Mode))); err != nil {
		return made, err
	}
	cfg.Filter = nil
	claimant, err := h.claimant()
	if err != nil {
		return made, err
	}
	err = exclusively(ctx, cfg, claimant, func(ctx context.Context, repo *store.Repo, lease *store.Lease, head store.Snapshot) (err error) {
		made, _, err = importTree(ctx, repo, lease, head, cfg, dir, nil)
		return err
	})
	return made, err
}

// Forget deletes what this host keeps of a profile that is to be purged: unsaved changes
// too.
func Forget(stateDir, url string) error {
	path := HomePath(stateDir, url)
	if !exists(path) {
		return nil
	}
	h, err := openHome(path, nil)
	if err != nil {
		return err
	}
	defer h.close()
	return os.RemoveAll(path)
}
