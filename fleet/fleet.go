package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"sync"
	"time"

	"valise/session"
)

// Config says where processes are found and how they are started.
type Config struct {
	StateDir, RunDir string
	Program          string   // the valise binary
	Cgroups          []string // directories of the cgroups that processes enter
	Log              *slog.Logger

	// Session are the settings of a session, with the bucket opened.
	Session func(context.Context, Settings) (session.Config, error)
}

// Fleet starts and finds the processes of one state directory.
type Fleet struct {
	cfg Config

	mu     sync.Mutex         // guards failed
	failed map[string]failure // by URL: the last try to save what is pending
}

// New returns a Fleet. Processes that run are found when they are asked for.
func New(cfg Config) *Fleet { return &Fleet{cfg: cfg, failed: map[string]failure{}} }

// Mount mounts the profile at s.Dir, by the process that serves it there already or by a
// new one. One that serves it with other settings, read-only, or without the lease goes on
// only if it is in use. An error is what the process said.
func (f *Fleet) Mount(ctx context.Context, s Settings, inUse bool) error {
	s.StateDir, s.RunDir, s.Cgroups, s.LogSocket = f.cfg.StateDir, f.cfg.RunDir, f.cfg.Cgroups, f.cfg.logSocket()
	running, err := f.resume(ctx, s, inUse)
	if err != nil || running {
		return err
	}
	if !f.fits(s) {
		if err := s.save(); err != nil {
			return fmt.Errorf("keep the settings of %s: %w", s.URL, err)
		}
	}
	if s.Source != nil && !session.Migrated(s.StateDir, s.URL) {
		if err := f.migrate(ctx, s); err != nil {
			return err
		}
	}
	return f.start(ctx, s)
}

// fits reports whether the process of the profile was started with the settings s.
func (f *Fleet) fits(s Settings) bool {
	last, err := f.Last(s.URL)
	return err == nil && reflect.DeepEqual(last, s)
}

// migrate runs the process that makes a profile from its source. It goes on after ctx has
// ended, and a later Mount finds it.
func (f *Fleet) migrate(ctx context.Context, s Settings) error {
	err := f.complete(ctx, "import", s)
	if ctx.Err() != nil {
		return f.migrating(context.WithoutCancel(ctx), s)
	}
	return err
}

// migrating is the error of a mount that can't wait for the end of a migration.
func (f *Fleet) migrating(ctx context.Context, s Settings) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	st, err := f.Status(ctx, s.Dir)
	if err != nil {
		return fmt.Errorf("%s is being made from what was there before: try again in a while", s.URL)
	}
	return fmt.Errorf("%s is being made from what was there before (%s): try again in a while", s.URL, st.Progress)
}

// resume goes on with the process that serves the profile at s.Dir. It has one that is
// ending leave the rest to the next.
func (f *Fleet) resume(ctx context.Context, s Settings, inUse bool) (running bool, err error) {
	locked, err := session.Locked(f.cfg.StateDir, s.URL)
	if err != nil {
		return false, err
	}
	reach := session.Dial
	if !locked { // who has died has left its socket, and nobody takes its place
		reach = session.Reach
	}
	for yielded := false; ; {
		c, err := reach(f.cfg.RunDir, s.Dir)
		if errors.Is(err, session.ErrNotMounted) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		st, err := c.Status(ctx)
		switch {
		case ctx.Err() != nil:
			return false, fmt.Errorf("the process that serves %s does not answer: %w", s.URL, ctx.Err())
		case err != nil: // it has just ended
		case st.State == session.StateMounted && (inUse || f.fits(s) && !st.Conflict && !st.ReadOnly):
			return true, c.Resume(ctx)
		case st.State == session.StateMounted:
			if err := c.End(ctx); err != nil {
				return false, err
			}
		case st.State == session.StateMigrating:
		case !yielded:
			yielded = true
			_ = c.Yield(ctx) // or it ends by itself
		}
		select {
		case <-ctx.Done():
			if st.State == session.StateMigrating {
				return false, f.migrating(context.WithoutCancel(ctx), s)
			}
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Migrated reports whether this host knows that the profile at url is made already.
func (f *Fleet) Migrated(url string) bool { return session.Migrated(f.cfg.StateDir, url) }

// Idle says that nobody uses the mount at dir for now, and returns when what was written
// there is durable on this host.
func (f *Fleet) Idle(ctx context.Context, dir string) error {
	c, err := session.Dial(f.cfg.RunDir, dir)
	if errors.Is(err, session.ErrNotMounted) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.Idle(ctx)
}

// End unmounts what is at dir, and returns when that is done. The process goes on until
// everything is saved, and then ends.
func (f *Fleet) End(ctx context.Context, dir string) error {
	c, err := session.Reach(f.cfg.RunDir, dir)
	if errors.Is(err, session.ErrNotMounted) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.End(ctx); err != nil {
		return err
	}
	for {
		mounted, err := isMountpoint(dir)
		if err != nil || !mounted {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is still mounted: %w", dir, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Status asks the process that serves dir, or is session.ErrNotMounted.
func (f *Fleet) Status(ctx context.Context, dir string) (session.Status, error) {
	c, err := session.Reach(f.cfg.RunDir, dir)
	if err != nil {
		return session.Status{}, err
	}
	return c.Status(ctx)
}

// Look tells how the profile at url is on this host, which is mounted at dir or nowhere.
// ok is false where there is nothing to tell: it is not mounted, and all is saved.
func (f *Fleet) Look(ctx context.Context, url, dir string) (st session.Status, ok bool) {
	st, err := f.Status(ctx, dir)
	if err == nil {
		return st, true
	}
	if !errors.Is(err, session.ErrNotMounted) {
		return session.Status{URL: url, Dir: dir, Error: err.Error()}, true
	}
	st, ok, err = session.PendingOf(f.cfg.StateDir, url)
	if err != nil {
		return session.Status{URL: url, Dir: dir, State: session.StatePending, Error: err.Error()}, true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if why := f.failed[url].reason; ok && why != "" {
		st.Error = why
	}
	return st, ok
}

// Statuses asks every process, and tells of the profiles that have unsaved changes and no
// process.
func (f *Fleet) Statuses(ctx context.Context) ([]session.Status, error) {
	pending, err := session.Pending(f.cfg.StateDir)
	if err != nil {
		return nil, err
	}
	clients, err := session.Mounts(f.cfg.RunDir)
	if err != nil {
		return nil, err
	}
	var out []session.Status
	for _, c := range clients {
		if st, err := c.Status(ctx); err == nil { // else it has just ended
			out = append(out, st)
		}
	}
	for _, st := range pending {
		f.mu.Lock()
		st.Error = f.failed[st.URL].reason
		f.mu.Unlock()
		out = append(out, st)
	}
	return out, nil
}

// Abandoned reports whether a process that served dir has died without unmounting it.
func (f *Fleet) Abandoned(dir string) (bool, error) {
	mounted, err := isMountpoint(dir)
	if err != nil || !mounted {
		return false, err
	}
	_, err = session.Dial(f.cfg.RunDir, dir)
	if errors.Is(err, session.ErrNotMounted) {
		return true, nil
	}
	return false, err
}

// Last returns the settings with which the profile at url was last mounted on this host.
func (f *Fleet) Last(url string) (Settings, error) {
	s, err := ReadSettings(Settings{URL: url, StateDir: f.cfg.StateDir}.Path())
	if errors.Is(err, os.ErrNotExist) {
		return s, fmt.Errorf("%s was not mounted on this host by the driver: %w", url, err)
	}
	return s, err
}
