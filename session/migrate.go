package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"valise/durable"
	"valise/store"
)

// Progress is how far a migration is.
type Progress struct {
	Files   int64 `json:"files,omitempty"`
	OfFiles int64 `json:"of_files,omitempty"` // 0 = not known
	Bytes   int64 `json:"bytes,omitempty"`
	OfBytes int64 `json:"of_bytes,omitempty"` // 0 = not known
}

func (p Progress) String() string {
	switch {
	case p.OfBytes > 0:
		return fmt.Sprintf("%d %%", 100*p.Bytes/p.OfBytes)
	case p.OfFiles > 0:
		return fmt.Sprintf("%d of %d files", p.Files, p.OfFiles)
	}
	return fmt.Sprintf("%.1f MB so far", float64(p.Bytes)/1e6)
}

// Fetch brings what a profile is to be made from to a directory, which may be staging, a
// directory of the profile's own that outlives a Fetch that is cut off. "" says that there
// is nothing. release is called when the profile is made.
type Fetch func(ctx context.Context, staging string, told func(Progress)) (dir string, release func() error, err error)

// migratedName is the file that says that a profile needs no migration any more.
const migratedName = "migrated"

// Migrated reports whether this host knows that the profile at url needs no migration.
func Migrated(stateDir, url string) bool {
	return exists(HomePath(stateDir, url) + "/" + migratedName)
}

// Migrate makes the first snapshot of a profile from what fetch brings, unless it has one.
// Until that is made the profile is empty, so that one that is cut off is begun anew; what
// was fetched and uploaded by then is used again. Meanwhile it answers Client.
func Migrate(ctx context.Context, cfg Config, fetch Fetch) error {
	cfg.defaults()
	started := time.Now()
	meter := &store.Meter{Bucket: cfg.Bucket}
	cfg.Bucket = meter
	s := &Session{cfg: cfg, log: cfg.Log, ending: make(chan struct{}), yield: make(chan struct{}), closed: make(chan struct{})}
	s.status = Status{URL: cfg.URL, Dir: cfg.Dir, Host: cfg.Host, State: StateMigrating}
	s.work, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	hangUp := func() error { return nil }
	err := s.openHome()
	if err == nil {
		hangUp, err = s.answer(ctx)
	}
	var made store.Snapshot
	if err == nil {
		made, err = s.migrate(ctx, fetch)
	}
	if err != nil || made.Epoch != 0 {
		e := Event{Name: "import", Snapshot: made.Name(), Files: made.Files, Duration: time.Since(started), Err: err}
		e.measured(store.Traffic{}, meter.Traffic()).Log(cfg.Log, cfg.URL, cfg.User, cfg.Workspace)
	}
	if err != nil {
		err = fmt.Errorf("migrate to %s: %w", cfg.URL, err)
	}
	close(s.closed)
	return errors.Join(err, hangUp(), s.release())
}

func (s *Session) migrate(ctx context.Context, fetch Fetch) (made store.Snapshot, err error) {
	staging := s.home.file("staging")
	told := func(p Progress) { s.setStatus(func(st *Status) { st.Progress = p }) }
	claimant, err := s.home.claimant()
	if err != nil {
		return made, err
	}
	err = exclusively(ctx, s.cfg, claimant, func(ctx context.Context, repo *store.Repo, lease *store.Lease, head store.Snapshot) error {
		if head.Epoch != 0 {
			return nil // it has been in use
		}
		dir, release, err := fetch(ctx, staging, told)
		if err != nil || dir == "" {
			return err
		}
		snapshot, scan, err := importTree(ctx, repo, lease, head, s.cfg, dir, told)
		if err != nil {
			return err
		}
		if err := release(); err != nil {
			s.log.Warn("cleaning up after a migration", "url", s.cfg.URL, "error", err)
		}
		for _, skipped := range scan.Skipped {
			s.log.Warn("not migrated", "url", s.cfg.URL, "path", skipped.Path, "reason", skipped.Reason)
		}
		made = snapshot
		return nil
	})
	if err != nil {
		return made, err
	}
	if err := durable.Write(s.home.file(migratedName), nil); err != nil {
		return made, err
	}
	return made, os.RemoveAll(staging)
}
