package session

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Idle says that nobody uses the mount any more, though it stays for a while: what was
// written is made durable on this host before it returns, and other hosts that want the
// profile wait for its end instead of being refused.
func (s *Session) Idle(ctx context.Context) error {
	if s.cfg.ReadOnly {
		return nil
	}
	s.use(ctx, false)
	return s.flush()
}

// Resume takes Idle back.
func (s *Session) Resume(ctx context.Context) {
	if !s.cfg.ReadOnly {
		s.use(ctx, true)
	}
}

// use tells other hosts, in the background, whether the profile is in use, if that is
// news. Where the store is away they learn it with the next renewal of the lease.
func (s *Session) use(ctx context.Context, inUse bool) {
	if s.lost.Load() || s.work.Err() != nil || s.idle.Swap(!inUse) == !inUse {
		return
	}
	s.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Lease)
		defer cancel()
		defer context.AfterFunc(s.work, cancel)()
		s.telling.Lock()
		defer s.telling.Unlock()
		inUse := !s.idle.Load() // as it is now: whoever comes last tells the last
		tell := s.lease.Drain
		if inUse {
			tell = s.lease.Resume
		}
		if err := tell(ctx); err != nil && s.work.Err() == nil {
			s.log.Info("telling other hosts whether the profile is in use", "url", s.cfg.URL, "in_use", inUse, "error", err)
		}
	})
}

// flush makes what was written durable on the local disk.
func (s *Session) flush() error {
	f, err := os.Open(s.home.layer(s.state.Mount, "upper"))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", f.Name(), err)
	}
	return nil
}

// Yield ends the last save of a session that is being closed; what is not saved is left
// for who mounts the profile next on this host.
func (s *Session) Yield() { s.yielded.Do(func() { close(s.yield) }) }
