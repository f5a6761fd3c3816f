package cache

import (
	"container/list"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"valise/store"
	"valise/tree"
)

// ErrFull is the answer of Add and Prefetch when the cache takes no more: it is at its
// limit, or its disk is full or fails.
var ErrFull = errors.New("cache is full")

// Config says how a Cache works. Dir, Bucket and Coder are required.
type Config struct {
	Dir      string           // made if it is not there; may be shared by several processes
	Limit    int64            // bytes that the packs may take on the disk, 0 for no limit
	Memory   int64            // bytes of plain blocks to hold, and as much of what the disk does not take; 0 for 8 MiB
	Bucket   store.Bucket     // where the packs are
	Coder    *store.Coder     // verifies blocks; the caller closes it, after the Cache
	Patience time.Duration    // how long a read waits for the bucket, 0 for a minute
	Rate     int64            // bytes a second for Prefetch, 0 for no bound
	Log      *slog.Logger     // nil for slog.Default
	Now      func() time.Time // nil for time.Now
}

// Stats are counts since Open, and the state of the moment.
type Stats struct {
	Memory  uint64 // blocks given out of memory
	Disk    uint64 // blocks given out of the disk alone
	Waited  uint64 // blocks that needed the bucket
	Fetches uint64 // requests to the bucket
	Fetched uint64 // bytes they brought
	Corrupt uint64 // blocks whose bytes on the disk were wrong, and were fetched again
	Evicted uint64 // packs

	Used     int64 // bytes that the packs take on the disk, as far as is known
	Open     int   // files
	Degraded bool  // the disk takes nothing at the moment
}

// Cache is the packs of one directory. It is safe for concurrent use.
type Cache struct {
	dir      string
	bucket   store.Bucket
	coder    *store.Coder
	patience time.Duration
	log      *slog.Logger
	now      func() time.Time

	// What fetches go through; see the constants of the same names.
	demand, ahead, prefetch *semaphore.Weighted
	rate                    *rate.Limiter

	memory *memory
	disk   disk
	space  space
	count  counters
	stop   chan struct{}  // closed by Close
	work   sync.WaitGroup // loads, fetches and the keeper

	mu     sync.Mutex // guards what follows, and every pack and load
	closed bool
	packs  map[packKey]*pack
	open   *list.List // the packs that have a file open, the last used first
	loads  map[loadKey]*load
	unkept unkept
}

// Open makes the directory if need be and returns its cache.
func Open(cfg Config) (*Cache, error) {
	if cfg.Dir == "" || cfg.Bucket == nil || cfg.Coder == nil {
		return nil, errors.New("open cache: a directory, a bucket and a coder are needed")
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	c := &Cache{
		dir: cfg.Dir, bucket: cfg.Bucket, coder: cfg.Coder, patience: cfg.Patience, log: cfg.Log, now: cfg.Now,
		demand: semaphore.NewWeighted(demandFetches), ahead: semaphore.NewWeighted(aheadFetches),
		prefetch: semaphore.NewWeighted(prefetchFetches), rate: rate.NewLimiter(rate.Inf, 0),
		stop: make(chan struct{}), packs: map[packKey]*pack{}, open: list.New(), loads: map[loadKey]*load{},
	}
	if c.patience <= 0 {
		c.patience = time.Minute
	}
	if c.log == nil {
		c.log = slog.Default()
	}
	if c.now == nil {
		c.now = time.Now
	}
	if cfg.Memory <= 0 {
		cfg.Memory = 8 << 20
	}
	if cfg.Rate > 0 {
		c.rate = rate.NewLimiter(rate.Limit(cfg.Rate), maxRun*segment)
	}
	c.memory, c.unkept.limit, c.space.limit = newMemory(cfg.Memory), cfg.Memory, cfg.Limit
	c.measure()
	c.work.Go(c.keep)
	return c, nil
}

// Close ends the fetches under way and waits for all that the Cache runs. Blocks that
// are read after it are os.ErrClosed.
func (c *Cache) Close() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	close(c.stop)
	for _, p := range c.packs {
		for _, f := range p.fetches {
			f.cancel()
		}
	}
	c.mu.Unlock()
	c.work.Wait()

	c.mu.Lock()
	defer c.mu.Unlock()
	c.letGo(func(*fetch) bool { return true })
	for _, p := range c.packs {
		for _, f := range c.drop(p) {
			_ = f.Close()
		}
	}
}

// Stats returns the counts.
func (c *Cache) Stats() Stats {
	s := c.count.stats()
	s.Used, s.Degraded = c.space.used(), c.disk.broken()
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Open = c.open.Len()
	return s
}

// path is the name of a pack's file.
func (c *Cache) path(id tree.PackID) string { return filepath.Join(c.dir, id.String()) }
