package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/moby/sys/mountinfo"

	"valise/cache"
	"valise/fusefs"
	"valise/layer"
	"valise/store"
)

// mount shows the base with the upper on it at Dir, or goes on with what a process that
// died had mounted there.
func (s *Session) mount(ctx context.Context) error {
	if err := s.openCache(); err != nil {
		return err
	}
	if err := s.renew(s.base); err != nil {
		return err
	}
	lower, upper := s.home.file("lower"), s.home.layer(s.state.Mount, "upper")
	s.stack = &layer.Stack{Lower: lower, Upper: upper, Work: s.home.layer(s.state.Mount, "work"), Target: s.cfg.Dir}
	if err := s.listen(ctx); err != nil {
		return err
	}
	if s.server != nil {
		s.content.arrive(s.packs)
		return nil
	}
	if err := os.MkdirAll(lower, 0o700); err != nil {
		return err
	}
	if err := s.serve(lower, s.packs); err != nil {
		return err
	}
	if err := s.limitUpper(); err != nil {
		return err
	}
	if err := s.stack.Mount(); err != nil {
		s.stack = nil
		return err
	}
	return nil
}

// mountReadOnly shows a snapshot at Dir and nothing else.
func (s *Session) mountReadOnly(ctx context.Context) error {
	if !s.cfg.resumes() {
		snapshot, err := s.repo.Find(ctx, s.cfg.Snapshot)
		if err != nil && !(errors.Is(err, store.ErrNoSnapshot) && s.cfg.Snapshot == "") {
			return err
		}
		s.state = state{URL: s.cfg.URL, Dir: s.cfg.Dir, Profile: s.repo.ID(), Mount: store.NewID(), Base: snapshot, Saved: snapshot}
		if err := s.repo.Pin(ctx, s.claim(s.state.Mount), snapshot); err != nil {
			return err
		}
	}
	err := s.persist(ctx, func() (err error) {
		s.base, err = s.tree(ctx, s.state.Base)
		return err
	})
	if err != nil {
		return err
	}
	if err := s.openCache(); err != nil {
		return err
	}
	if err := s.listen(ctx); err != nil {
		return err
	}
	err = s.serve(s.cfg.Dir, s.packs)
	if s.cfg.resumes() {
		return s.resumed(err)
	}
	return err
}

func (s *Session) openCache() (err error) {
	s.packs, err = cache.Open(cache.Config{
		Dir: s.cfg.CacheDir, Limit: s.cfg.CacheSize, Bucket: s.repo.Bucket(), Coder: s.repo.Coder(),
		Patience: s.cfg.Patience, Rate: max(0, s.cfg.Prefetch), Log: s.log,
	})
	return err
}

// serve mounts the lower, or goes on serving it.
func (s *Session) serve(dir string, content fusefs.Content) error {
	cfg := fusefs.Config{Tree: s.base, Content: content, Generation: s.state.Base.Seq + 1, Patience: s.cfg.Patience, Name: "valise", Log: s.log}
	var err error
	if s.cfg.resumes() {
		s.server, err = fusefs.Resume(cfg, dir, s.cfg.Files[fileDevice], s.cfg.Init)
	} else {
		s.server, err = fusefs.Mount(cfg, dir)
	}
	if err != nil {
		return err
	}
	return s.keep()
}

// start runs what goes on beside the mount.
func (s *Session) start() {
	s.opened.Store(true)
	s.setStatus(func(st *Status) {
		st.URL, st.Dir, st.Host, st.Mount = s.cfg.URL, s.cfg.Dir, s.cfg.Host, s.state.Mount
		st.ReadOnly, st.Base, st.State = s.cfg.ReadOnly, s.state.Base.Name(), StateMounted
		st.saved(s.state.Saved)
		st.Limit = s.cfg.SizeLimit
	})
	if !s.cfg.ReadOnly {
		s.running.Go(func() {
			if err := s.home.emptyTrash(); err != nil {
				s.log.Warn("deleting what is saved", "url", s.cfg.URL, "error", err)
			}
		})
		s.running.Go(func() { s.keepLease(s.work) })
		s.running.Go(s.saveRegularly)
	}
	if s.cfg.Prefetch >= 0 {
		s.running.Go(func() {
			select { // the first programs of a login come first
			case <-time.After(prefetchAfter):
			case <-s.work.Done():
				return
			}
			if err := fusefs.Prefetch(s.work, s.base, s.packs, s.log); err != nil && s.work.Err() == nil {
				s.log.Info("background prefetch has ended early", "url", s.cfg.URL, "error", err)
			}
		})
	}
}

// prefetchAfter is how long after the mount the background prefetch begins.
const prefetchAfter = time.Second

// Run keeps the session until ctx ends, Unmount is asked for, or somebody unmounts the
// lower for good. It does not close it.
func (s *Session) Run(ctx context.Context) {
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.ending:
			return
		case <-s.server.Done():
			return
		case <-look.C:
			s.leave()
		}
	}
}

// lookInterval is how often a session looks whether somebody took its mount away.
const lookInterval = 5 * time.Second

// leave lets go of the lower if somebody else has unmounted Dir, so that the end of its
// last user ends the session.
func (s *Session) leave() {
	s.ends.Lock()
	defer s.ends.Unlock()
	mounted, err := mountinfo.Mounted(s.cfg.Dir)
	if err != nil || mounted || s.gone || s.ended {
		return
	}
	s.gone = true
	s.log.Warn("somebody has unmounted the profile; it is saved and ends with the last process that uses it", "url", s.cfg.URL, "dir", s.cfg.Dir)
	if s.stack == nil {
		return // it is the lower itself
	}
	if err := s.server.Detach(); err != nil {
		s.log.Warn("detach the lower", "error", err)
	}
}

// Unmount takes the mount away from Dir and ends Run. While processes use it, it is
// refused with EBUSY, unless force is set: then it ends as on SIGTERM.
func (s *Session) Unmount(force bool) error {
	s.ends.Lock()
	defer s.ends.Unlock()
	if !s.opened.Load() {
		return nil
	}
	if !force && !s.ended {
		err := error(nil)
		if s.stack != nil {
			err = s.stack.Unmount()
		} else {
			err = s.server.Unmount()
		}
		if err != nil {
			return err
		}
		s.gone = true
	}
	if !s.ended {
		s.ended = true
		// Before the answer: who asks next must not take it for mounted.
		s.setStatus(func(st *Status) { st.State = StateEnding })
		close(s.ending)
	}
	return nil
}

// ErrUnsaved says that changes remain in the state directory. They are taken up by the
// next mount of the profile on this host, or by Finish.
var ErrUnsaved = errors.New("unsaved changes remain")

// Close unmounts, saves what is left and gives the lease back. It tries for
// Config.Patience; ErrUnsaved says that it did not succeed.
func (s *Session) Close(ctx context.Context) error {
	s.setStatus(func(st *Status) { st.State = StateEnding })
	s.closeErr = s.close(ctx)
	close(s.closed)
	return s.closeErr
}

// Clean deletes what Close has no more use for, which may take long.
func (s *Session) Clean() error {
	if s.home == nil {
		return nil
	}
	return s.home.emptyTrash()
}

func (s *Session) close(ctx context.Context) error {
	if s.cfg.ReadOnly {
		err := s.unmountReadOnly(ctx)
		return errors.Join(err, s.release())
	}
	quiet := s.unmount()
	s.stop()
	s.running.Wait()
	ctx, cancel := context.WithTimeout(ctx, s.cfg.LastSave)
	defer cancel()
	go func() {
		select {
		case <-s.yield:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := s.finish(ctx, quiet)
	if err != nil {
		err = fmt.Errorf("%w in %s: %w", ErrUnsaved, s.home.path, err)
	}
	return errors.Join(err, s.release())
}

// finish does the last save and gives everything back.
func (s *Session) finish(ctx context.Context, quiet bool) error {
	if !s.lost.Load() {
		if err := s.lease.Drain(ctx); err != nil {
			s.log.Warn("draining", "url", s.cfg.URL, "error", err)
		}
	}
	if err := s.lastSave(ctx); err != nil {
		return err
	}
	if !quiet {
		return errors.New("the mount is still in use somewhere: it was detached, and what is written there from now on is not saved yet")
	}
	s.state.Complete = true
	if err := s.home.save(s.state); err != nil {
		return err
	}
	if !s.lost.Load() {
		if err := s.giveBack(ctx); err != nil {
			s.log.Warn("releasing the lease", "url", s.cfg.URL, "error", err)
		}
	}
	if err := s.repo.Unpin(ctx, s.state.Mount); err != nil {
		s.log.Warn("removing the pin", "url", s.cfg.URL, "error", err)
	}
	return s.home.drop(s.state)
}

// giveBack releases the lease, and keeps what makes the next mount on this host quick.
func (s *Session) giveBack(ctx context.Context) error {
	if err := s.lease.Release(ctx); err != nil {
		return err
	}
	known, ok := s.lease.Known(s.state.Saved)
	if !ok {
		return nil
	}
	if err := s.home.remember(known, s.state.Base); err != nil {
		return fmt.Errorf("remember what is there: %w", err)
	}
	return nil
}

// lastSave saves all there is, however often that takes, while it keeps the lease.
func (s *Session) lastSave(ctx context.Context) error {
	keeping, stop := context.WithCancel(ctx)
	var kept sync.WaitGroup
	kept.Go(func() { s.keepLease(keeping) })
	defer kept.Wait()
	defer stop()
	for wait := time.Second; ; wait = min(2*wait, lastSaveWait) {
		_, err := s.save(ctx, layer.Final)
		if err == nil {
			return nil
		}
		if _, bounded := ctx.Deadline(); !bounded || errors.Is(err, ErrOverLimit) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// lastSaveWait is the longest wait between two tries of the last save.
const lastSaveWait = time.Minute

// quietTime is how long Close waits for a mount that was in use to be let go.
const quietTime = 10 * time.Second

// unmount takes the mount away and reports whether that is proved: nothing can write
// to the upper any more. The end of the FUSE connection is the proof, for an overlay
// that lives on anywhere holds it.
func (s *Session) unmount() bool {
	s.ends.Lock()
	defer s.ends.Unlock()
	s.ended = true
	if !s.gone {
		s.detach()
	}
	if err := s.server.Unmount(); err != nil {
		if err := s.server.Detach(); err != nil {
			s.log.Warn("detach the lower", "error", err)
		}
	}
	select {
	case <-s.server.Done():
		err := s.server.Wait()
		if err != nil {
			s.log.Warn("the lower's connection", "error", err)
		}
		return err == nil
	case <-time.After(quietTime):
		return false
	}
}

func (s *Session) detach() {
	err := s.stack.Unmount()
	if err == nil {
		return
	}
	s.log.Info("the mount is in use, detaching it", "dir", s.cfg.Dir, "error", err)
	if err := s.stack.Detach(); err != nil {
		s.log.Warn("detach", "dir", s.cfg.Dir, "error", err)
	}
}

func (s *Session) unmountReadOnly(ctx context.Context) error {
	s.stop()
	s.ends.Lock()
	s.ended = true
	var err error
	if !s.gone && s.server.Unmount() != nil {
		err = s.server.Detach()
	}
	s.ends.Unlock()
	s.running.Wait()
	if unpinErr := s.repo.Unpin(ctx, s.state.Mount); unpinErr != nil {
		s.log.Warn("removing the pin", "url", s.cfg.URL, "error", unpinErr)
	}
	return err
}

// release frees what the process holds; what is mounted stays as it is.
func (s *Session) release() error {
	s.stop()
	s.running.Wait()
	var errs []error
	for _, scanner := range []*layer.Scanner{s.scanner, s.measure} {
		if scanner != nil {
			errs = append(errs, scanner.Close())
		}
	}
	if s.packs != nil {
		s.packs.Close()
	}
	if s.base != nil && (s.server == nil || isDone(s.server.Done())) {
		errs = append(errs, s.base.Close())
	}
	if s.repo != nil {
		s.repo.Close()
	}
	if s.home != nil {
		errs = append(errs, s.home.close())
	}
	return errors.Join(errs...)
}

func isDone(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
