package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"valise/cache"
	"valise/fusefs"
	"valise/layer"
	"valise/store"
	"valise/tree"
)

// OnHeld says what happens where another mount holds the lease.
type OnHeld string

// The values of OnHeld.
const (
	Fail     OnHeld = "fail"     // an error that names the holder; one that is still saving is waited for
	Wait     OnHeld = "wait"     // until it is free
	ReadOnly OnHeld = "readonly" // a read-only mount of the newest snapshot
)

// Config says what to mount, where and how. Bucket, URL, Dir, StateDir and Host are
// required.
type Config struct {
	Bucket   store.Bucket
	URL      string // of the profile, in its canonical form
	Dir      string // the mount point, an absolute path
	StateDir string // on a local file system
	CacheDir string // of packs, may be shared by mounts; "" is "cache" in StateDir
	Host     string // this host's name

	Encryption store.Encryption // of a profile that is new, and the keys of those that are encrypted
	OnHeld     OnHeld
	SingleHost bool          // see store.Config
	ReadOnly   bool          // nothing is saved, no lease is taken
	Snapshot   string        // with ReadOnly: the name of the one to show, "" is the newest
	Interval   time.Duration // between saves, 0 for a minute
	Lease      time.Duration // 0 for store.DefaultLease
	Patience   time.Duration // how long a read waits for the store, 0 for a minute
	LastSave   time.Duration // how long Close tries to save, 0 for Patience
	Filter     *layer.Filter // nil saves everything
	SizeLimit  int64         // bytes of the home; above it nothing is saved; 0 is no limit
	Enforce    bool          // a write above SizeLimit fails; see quota for what file systems can do it
	CacheSize  int64         // bytes of packs on the disk, 0 is no limit
	Prefetch   int64         // bytes a second for the background prefetch, 0 is no bound, less than 0 is none
	UID, GID   uint32        // owner of a home that is new
	Mode       uint32        // and its permissions, 0 for 0700

	// Populate puts the first files into the directory of a home that is new; nil is none.
	Populate func(dir string) error

	User, Workspace string // for the log

	// Init and Files take over the mount of a process that died: they are what its Keep
	// was given. Files stay the caller's.
	Init  []byte
	Files []*os.File
	Keep  func(init []byte, files ...*os.File) error

	RunDir string // of the socket that Control serves, "" for none

	Log *slog.Logger // nil is slog.Default
}

func (c *Config) defaults() {
	if c.Interval == 0 {
		c.Interval = time.Minute
	}
	if c.Lease == 0 {
		c.Lease = store.DefaultLease
	}
	if c.Patience == 0 {
		c.Patience = time.Minute
	}
	if c.LastSave == 0 {
		c.LastSave = c.Patience
	}
	if c.CacheDir == "" {
		c.CacheDir = c.StateDir + "/cache"
	}
	if c.Mode == 0 {
		c.Mode = 0o700
	}
	if c.OnHeld == "" {
		c.OnHeld = Fail
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
}

// Store is how the profile is opened by way of a bucket.
func (c *Config) Store(b store.Bucket) store.Config {
	return store.Config{Bucket: b, Log: c.Log, SingleHost: c.SingleHost, Encryption: c.Encryption}
}

// Session is a mounted profile.
type Session struct {
	cfg     Config
	log     *slog.Logger
	meter   *store.Meter
	repo    *store.Repo
	lease   *store.Lease // nil when read-only
	home    *home        // nil when read-only
	base    *tree.Tree
	packs   *cache.Cache
	server  *fusefs.Server
	content *awaited     // of the server, if the mount is taken over
	stack   *layer.Stack // nil when read-only
	socket  net.Listener // of Control, nil without one

	work    context.Context // ends the goroutines
	stop    context.CancelFunc
	running sync.WaitGroup

	telling sync.Mutex // is held while other hosts are told whether the profile is in use
	idle    atomic.Bool

	syncing sync.Mutex // syncing guards what a save uses: state, scanner, writer
	state   state
	scanner *layer.Scanner
	measure *layer.Scanner // reads sizes only; nil without a limit
	writer  *store.Writer
	lost    atomic.Bool // the lease: saves go beside the main line

	mu     sync.Mutex // mu guards status
	status Status

	ending chan struct{} // closed when an unmount was asked for
	ends   sync.Mutex    // ends guards ended and gone, and orders unmounts
	ended  bool
	gone   bool // Dir is unmounted

	yield    chan struct{} // closed when the last save is to be left to another process
	yielded  sync.Once
	opened   atomic.Bool   // it is or was mounted, which one that Finish works on never is
	closed   chan struct{} // closed at the end of Close, which sets closeErr before
	closeErr error
}

// Open mounts the profile, or takes over the mount of a process that died. When it
// returns, Dir can be used.
func Open(ctx context.Context, cfg Config) (*Session, error) {
	cfg.defaults()
	s := &Session{cfg: cfg, log: cfg.Log, ending: make(chan struct{}), yield: make(chan struct{}), closed: make(chan struct{})}
	s.work, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	if cfg.resumes() {
		// A mount that is in use must be taken over to be ended in good order.
		var cancel context.CancelFunc
		ctx, cancel = outlast(ctx, cfg.Patience)
		defer cancel()
	}
	if err := s.open(ctx); err != nil {
		if cfg.resumes() && !errors.Is(err, ErrGone) {
			err = s.abandon(err)
		}
		if s.socket != nil {
			err = errors.Join(err, s.hangUp()) // nobody will serve it
		}
		return nil, errors.Join(err, s.release())
	}
	s.start()
	return s, nil
}

func (s *Session) open(ctx context.Context) error {
	if err := s.recall(); err != nil {
		return err
	}
	s.meter = &store.Meter{Bucket: s.cfg.Bucket}
	open := store.OpenOrCreate
	if s.cfg.ReadOnly {
		open = store.Open
	}
	if !s.cfg.ReadOnly {
		if err := s.openHome(); err != nil {
			return fmt.Errorf("mount %s: %w", s.cfg.URL, err)
		}
		if err := s.serveAgain(); err != nil {
			return err
		}
		if err := s.checkFileSystem(); err != nil {
			return err
		}
	}
	cfg := s.cfg.Store(s.meter)
	if s.home != nil {
		cfg.Ahead, cfg.Known = true, s.home.known()
	}
	err := s.persist(ctx, func() (err error) {
		s.repo, err = open(ctx, cfg)
		return err
	})
	if err != nil {
		return fmt.Errorf("mount %s: %w", s.cfg.URL, err)
	}
	if s.cfg.ReadOnly {
		return s.mountReadOnly(ctx)
	}
	err = s.begin(ctx)
	var held *store.HeldError
	if errors.As(err, &held) && s.cfg.OnHeld == ReadOnly {
		s.log.Warn("mounted read-only: "+held.Error(), "url", s.cfg.URL)
		s.cfg.ReadOnly = true
		if err := s.home.close(); err != nil {
			return err
		}
		s.home = nil
		return s.mountReadOnly(ctx)
	}
	if err != nil {
		return fmt.Errorf("mount %s: %w", s.cfg.URL, err)
	}
	return s.mount(ctx)
}

// openHome takes the profile's directory; whoever asks for its status has it for a moment.
func (s *Session) openHome() (err error) {
	for end := time.Now().Add(time.Second); ; time.Sleep(10 * time.Millisecond) {
		s.home, err = openHome(HomePath(s.cfg.StateDir, s.cfg.URL), s.cfg.lock())
		if err == nil {
			s.home.enforce = s.cfg.Enforce
		}
		if !errors.Is(err, ErrLocked) || time.Now().After(end) {
			return err
		}
	}
}

// begin takes the lease, decides what is mounted and makes it ready on the disk.
func (s *Session) begin(ctx context.Context) error {
	old, pending, err := s.home.load()
	if err != nil {
		return err
	}
	if !s.cfg.resumes() {
		if err := s.clearStale(old); err != nil {
			return err
		}
	}
	if pending && old.Complete {
		if err := s.settle(ctx, old); err != nil {
			return err
		}
		pending = false
	}
	switch {
	case pending:
		return s.takeUp(ctx, old)
	case s.cfg.resumes():
		return ErrGone // it died after the last save
	}
	return s.fresh(ctx)
}

// settle ends a mount that is saved and died before it had given everything back: who
// comes next need not wait for the end of its lease.
func (s *Session) settle(ctx context.Context, old state) error {
	lease, err := s.repo.Acquire(ctx, s.claim(old.Mount))
	if err == nil {
		err = lease.Release(ctx)
	}
	var held *store.HeldError
	if err = errors.Join(err, s.repo.Unpin(ctx, old.Mount)); err != nil && !errors.As(err, &held) {
		s.log.Warn("giving back what a mount had", "url", s.cfg.URL, "error", err)
	}
	return s.home.drop(old)
}

// acquire takes the lease as Config.OnHeld says.
func (s *Session) acquire(ctx context.Context, mount string) error {
	claim := s.claim(mount)
	told := ""
	for {
		var err error
		s.lease, err = s.repo.Acquire(ctx, claim)
		var held *store.HeldError
		if err == nil || !errors.As(err, &held) {
			return err
		}
		if s.cfg.resumes() || s.cfg.OnHeld != Wait && !(s.cfg.OnHeld == Fail && held.State == store.LeaseDraining) {
			return held
		}
		if told != held.Error() {
			told = held.Error()
			s.log.Info("waiting: "+told, "url", s.cfg.URL)
		}
		select {
		case <-ctx.Done():
			return errors.Join(held, ctx.Err())
		case <-time.After(min(pollTime(held), held.Left)):
		}
	}
}

// pollTime is how long to wait before a look whether a lease is free: one whose holder is
// saving the last changes soon is.
func pollTime(held *store.HeldError) time.Duration {
	if held.State == store.LeaseDraining {
		return 250 * time.Millisecond
	}
	return 2 * time.Second
}

func (s *Session) claim(mount string) store.Claim {
	return store.Claim{Host: s.cfg.Host, Mount: mount, TTL: s.cfg.Lease}
}

// fresh takes the lease and prepares a new upper on the newest snapshot.
func (s *Session) fresh(ctx context.Context) error {
	// The newest snapshot as it is before the lease is taken is most likely the one to
	// be mounted: reading it meanwhile saves round trips.
	mount := store.NewID()
	ahead := make(chan readAhead, 1)
	go func() { ahead <- s.readHead(ctx, mount) }()
	err := s.acquire(ctx, mount)
	read := <-ahead
	if err != nil {
		return errors.Join(err, s.repo.Unpin(context.WithoutCancel(ctx), mount))
	}
	head, err := s.repo.HeadUnder(ctx, s.lease)
	if err != nil {
		return err
	}
	base := read.tree
	if read.err != nil || read.head.Nonce != head.Nonce {
		if base != nil {
			base.Close()
		}
		if base, err = s.pinned(ctx, mount, head); err != nil {
			return err
		}
	}
	s.state = state{URL: s.cfg.URL, Dir: s.cfg.Dir, Profile: s.repo.ID(), Mount: mount, Base: head, Saved: head}
	populate := s.cfg.Populate
	if head.Epoch != 0 {
		populate = nil // it is not new
	}
	s.base, err = s.home.begin(s.state, base, populate)
	return err
}

// readAhead is a snapshot that was read before it was known to be the one wanted.
type readAhead struct {
	head store.Snapshot
	tree *tree.Tree
	err  error
}

func (s *Session) readHead(ctx context.Context, mount string) (r readAhead) {
	r.head, r.err = s.repo.Head(ctx)
	if errors.Is(r.err, store.ErrNoSnapshot) {
		r.err = nil
	}
	if r.err == nil {
		r.tree, r.err = s.pinned(ctx, mount, r.head)
	}
	return r
}

// pinned reads the tree of a snapshot and keeps what it needs from being pruned.
func (s *Session) pinned(ctx context.Context, mount string, head store.Snapshot) (*tree.Tree, error) {
	pinned := make(chan error, 1)
	go func() { pinned <- s.repo.Pin(ctx, s.claim(mount), head) }()
	t, err := s.tree(ctx, head)
	return t, errors.Join(err, <-pinned)
}

// tree reads a snapshot's tree, or makes that of an empty home.
func (s *Session) tree(ctx context.Context, head store.Snapshot) (*tree.Tree, error) {
	if head.Epoch != 0 {
		if s.home != nil {
			if t, ok := s.home.knownTree(head); ok {
				return t, nil
			}
		}
		return s.repo.Tree(ctx, head)
	}
	now := time.Now().UnixNano()
	root := tree.Entry{Attr: tree.Attr{Mode: 0o40000 | s.cfg.Mode, UID: s.cfg.UID, GID: s.cfg.GID, Ino: 1, Mtime: now, Ctime: now}}
	return tree.NewBuilder(tree.Whole, root).Finish(nil)
}

func (s *Session) mapBase() (err error) {
	s.base, err = tree.Map(s.home.file("base.tree"))
	return err
}

// recoverBase maps the base of a mount that has ended, or reads it anew where a power cut
// has left half of it.
func (s *Session) recoverBase(ctx context.Context) error {
	err := s.mapBase()
	if err == nil || !errors.Is(err, tree.ErrCorrupt) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.log.Warn("reading what a mount lay on again", "url", s.cfg.URL, "error", err)
	base, err := s.tree(ctx, s.state.Base)
	if err != nil {
		return err
	}
	s.base, err = s.home.placeBase(s.state.Base, base)
	return err
}

// takeUp goes on with an upper that an earlier process left, on its own base.
func (s *Session) takeUp(ctx context.Context, old state) error {
	if old.Profile != s.repo.ID() {
		return fmt.Errorf("the unsaved changes in %s belong to another profile that was at this place (id %s, now %s): "+
			"move that directory away to mount without them", s.home.path, old.Profile, s.repo.ID())
	}
	s.state = old
	s.state.Dir = s.cfg.Dir
	if err := s.home.save(s.state); err != nil {
		return err
	}
	if s.base == nil {
		if err := s.recoverBase(ctx); err != nil {
			return err
		}
	}
	populate := s.cfg.Populate
	if old.Base.Epoch != 0 {
		populate = nil
	}
	if err := s.home.makeLayer(old.Mount, s.base, populate); err != nil {
		return err
	}
	var head store.Snapshot
	err := s.persist(ctx, func() (err error) {
		if err := s.acquire(ctx, old.Mount); err != nil {
			return err
		}
		head, err = s.repo.HeadUnder(ctx, s.lease)
		return err
	})
	var held *store.HeldError
	if errors.As(err, &held) && s.cfg.resumes() {
		s.loseLease(fmt.Errorf("%w: %w", store.ErrLeaseLost, err))
		return nil
	}
	if err != nil {
		return err
	}
	s.log.Info("going on with the changes of an earlier mount", "url", s.cfg.URL)
	switch {
	case head.Mount == old.Mount:
		s.state.Saved = head // the record of its commit may have been cut off by a crash
		return nil
	case head.Nonce == old.Saved.Nonce:
		return nil
	case s.cfg.resumes():
		s.loseLease(fmt.Errorf("%w: host %q saved snapshot %s", store.ErrLeaseLost, head.Host, head.Name()))
		return nil
	}
	// Another host has worked on meanwhile, and nobody is using what is here.
	if err := s.saveAside(ctx); err != nil {
		return fmt.Errorf("keep the changes that an earlier mount left: %w", err)
	}
	if err := s.base.Close(); err != nil {
		return err
	}
	if err := s.lease.Release(ctx); err != nil {
		return err
	}
	return s.fresh(ctx)
}
