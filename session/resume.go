package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"valise/fusefs"
	"valise/store"
	"valise/tree"
)

// The places in Config.Files; a read-only mount has no lock.
const (
	fileDevice = iota
	fileRecord
	fileLock
)

// record is what the next process must know of a mount and cannot find in the state
// directory. A read-only one has none.
type record struct {
	ReadOnly bool  `json:"read_only"`
	State    state `json:"state"`
}

// resumes reports whether the mount of a process that died is taken over.
func (c *Config) resumes() bool { return len(c.Files) > 0 }

// lock is that of the process that died.
func (c *Config) lock() *os.File {
	if len(c.Files) > fileLock {
		return c.Files[fileLock]
	}
	return nil
}

// keep hands on what the next process needs if this one dies.
func (s *Session) keep() (err error) {
	if s.cfg.Keep == nil {
		return nil
	}
	device, err := s.server.Device()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	data, err := json.Marshal(record{ReadOnly: s.cfg.ReadOnly, State: s.state})
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("valise-mount", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("memfd_create: %w", err)
	}
	note := os.NewFile(uintptr(fd), "valise-mount")
	defer func() { err = errors.Join(err, note.Close()) }()
	if _, err := note.Write(data); err != nil {
		return err
	}
	files := []*os.File{fileDevice: device, fileRecord: note}
	if s.home != nil {
		files = append(files, s.home.lock)
	}
	return s.cfg.Keep(s.server.Init(), files...)
}

// recall reads what the process before handed on. A mount that had become read-only
// stays so.
func (s *Session) recall() error {
	if len(s.cfg.Files) <= fileRecord {
		return nil
	}
	var r record
	file := io.NewSectionReader(s.cfg.Files[fileRecord], 0, math.MaxInt64)
	if err := json.NewDecoder(file).Decode(&r); err != nil {
		return fmt.Errorf("take over a mount: %w", err)
	}
	if r.ReadOnly {
		s.cfg.ReadOnly, s.state = true, r.State
	}
	return nil
}

// serveAgain goes on serving the lower of a mount that is in use, before anything is
// asked of the store: while the lower does not answer, a directory that is being copied
// up holds the lock that all renames from one directory to another need, on the whole of
// the upper's file system. Content follows with s.content.
func (s *Session) serveAgain() error {
	if !s.cfg.resumes() {
		return nil
	}
	old, pending, err := s.home.load()
	if err != nil || !pending || old.Complete {
		return err
	}
	s.state = old
	if err := s.mapBase(); err != nil {
		return err
	}
	s.content = &awaited{ready: make(chan struct{})}
	return s.resumed(s.serve(s.home.file("lower"), s.content))
}

// awaited is content that is not there yet: who asks for it waits.
type awaited struct {
	ready   chan struct{} // closed after content is set
	content fusefs.Content
}

func (a *awaited) arrive(c fusefs.Content) {
	a.content = c
	close(a.ready)
}

func (a *awaited) wait(ctx context.Context) error {
	select {
	case <-a.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Block implements fusefs.Content.
func (a *awaited) Block(ctx context.Context, b tree.Blob, packSize uint32) ([]byte, error) {
	if err := a.wait(ctx); err != nil {
		return nil, err
	}
	return a.content.Block(ctx, b, packSize)
}

// Prefetch implements fusefs.Content.
func (a *awaited) Prefetch(ctx context.Context, id tree.PackID, size uint32) error {
	if err := a.wait(ctx); err != nil {
		return err
	}
	return a.content.Prefetch(ctx, id, size)
}

// persist does what needs the store. A mount that is in use is not given up because the
// store is away while its process is replaced: then it is tried until ctx ends.
func (s *Session) persist(ctx context.Context, do func() error) error {
	for {
		err := do()
		var held *store.HeldError
		if err == nil || !s.cfg.resumes() || errors.As(err, &held) {
			return err
		}
		s.log.Warn("taking over a mount", "url", s.cfg.URL, "error", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(2 * time.Second):
		}
	}
}

// outlast returns a context that ends some time after ctx.
func outlast(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(by, cancel) })
	return longer, func() { stop(); cancel() }
}

// abandon takes away a mount that could not be taken over, because of err.
func (s *Session) abandon(err error) error {
	if s.home == nil {
		return errors.Join(err, unix.Unmount(s.cfg.Dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW))
	}
	err = fmt.Errorf("%w in %s: %w", ErrUnsaved, s.home.path, err)
	old, _, loadErr := s.home.load()
	return errors.Join(err, loadErr, s.clearStale(old), s.clearSocket())
}

// ErrGone says that nothing is left of the mount that was to be taken over. Finish saves
// what it has not.
var ErrGone = errors.New("the mount has ended")

// resumed looks at a mount that has been taken over, unless that failed with err: the
// process before may have died while it unmounted.
func (s *Session) resumed(err error) error {
	if errors.Is(err, unix.ENODEV) {
		return ErrGone
	}
	if err != nil {
		return err
	}
	mounted, err := mountinfo.Mounted(s.cfg.Dir)
	if err == nil && !mounted {
		s.ended, s.gone = true, true
		close(s.ending)
	}
	return err
}
