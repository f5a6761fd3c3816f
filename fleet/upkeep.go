package fleet

import (
	"context"
	"fmt"
	"strings"
	"time"

	"valise/session"
	"valise/store"
)

// Prune forgets the snapshots of a profile that no rule keeps and deletes what nothing
// needs any more. It is safe beside mounts and other prunes on any host.
func (f *Fleet) Prune(ctx context.Context, s Settings, keep store.Retention) (res store.PruneResult, err error) {
	err = f.open(ctx, s, "prune", func(repo *store.Repo, e *session.Event) (err error) {
		res, err = repo.Prune(ctx, keep)
		e.Files = int64(res.Deleted)
		return err
	})
	return res, err
}

// Check looks whether a profile is whole, and with readData whether all content is as it
// was written. What is wrong is an error that names it.
func (f *Fleet) Check(ctx context.Context, s Settings, readData bool) (res store.CheckResult, err error) {
	err = f.open(ctx, s, "check", func(repo *store.Repo, e *session.Event) (err error) {
		res, err = repo.Check(ctx, readData, nil)
		e.Files = int64(res.Packs)
		if err == nil && len(res.Faults) > 0 {
			err = unsound(res)
		}
		return err
	})
	return res, err
}

// faultsShown is how many faults an error names.
const faultsShown = 3

func unsound(res store.CheckResult) error {
	var b strings.Builder
	for _, fault := range res.Faults[:min(len(res.Faults), faultsShown)] {
		fmt.Fprintf(&b, "; %s: %s", fault.Object, fault.Cause)
	}
	return fmt.Errorf("%d faults%s (valise check tells all)", len(res.Faults), b.String())
}

// open opens the profile for do and logs what it did.
func (f *Fleet) open(ctx context.Context, s Settings, event string, do func(*store.Repo, *session.Event) error) error {
	cfg, err := f.cfg.Session(ctx, s)
	if err != nil {
		return err
	}
	meter := &store.Meter{Bucket: cfg.Bucket}
	started := time.Now()
	e := session.Event{Name: event}
	repo, err := store.Open(ctx, cfg.Store(meter))
	if err == nil {
		err = do(repo, &e)
		repo.Close()
	}
	traffic := meter.Traffic()
	e.Bytes, e.Requests, e.Duration, e.Err = traffic.Sent, traffic.Requests, time.Since(started), err
	e.Log(cfg.Log, s.URL, s.User, s.Workspace)
	return err
}

// ForgetTrees deletes what makes the next mount of a profile quick, where the last one
// ended before a time.
func (f *Fleet) ForgetTrees(before time.Time) error {
	return session.ForgetTrees(f.cfg.StateDir, before)
}
