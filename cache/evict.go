package cache

import (
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"valise/tree"
)

// Files that others evicted are let go of every keepEvery, and the directory is
// measured every measureEvery.
const (
	keepEvery    = 10 * time.Second
	measureEvery = time.Minute
)

// reserve accounts for n bytes to be written and evicts for them if it may.
func (c *Cache) reserve(n int64, evict bool) bool {
	s := &c.space
	if s.limit > 0 && n > s.low() {
		return false
	}
	if !s.stale() && s.take(n) {
		return true
	}
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	if !s.stale() && s.take(n) { // somebody has made room meanwhile
		return true
	}
	c.sweep(func(total int64) int64 {
		if !evict || total+n <= s.limit {
			return 0
		}
		return total + n - s.low()
	})
	return s.take(n)
}

// room reports whether n bytes would lead to no eviction soon, and looks if it must.
func (c *Cache) room(n int64) bool {
	if c.space.fits(n) {
		return true
	}
	c.measure()
	return c.space.fits(n)
}

// relieve evicts from a disk that is full, though the cache is not, and reports whether
// that gave n bytes.
func (c *Cache) relieve(n int64) bool {
	c.space.sweeping.Lock()
	defer c.space.sweeping.Unlock()
	return c.sweep(func(total int64) int64 { return max(n, total/16) }) >= n
}

// measure looks at the directory, and evicts if it is above the limit.
func (c *Cache) measure() {
	s := &c.space
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	c.sweep(func(total int64) int64 {
		if s.limit == 0 || total <= s.limit {
			return 0
		}
		return total - s.low()
	})
}

// sweep measures the directory and evicts what excess says of the total, unless another
// process is at it. It returns what was freed. The caller holds space.sweeping.
func (c *Cache) sweep(excess func(total int64) int64) (freed int64) {
	s := &c.space
	s.mu.Lock()
	before, pending := s.written, s.pending
	s.mu.Unlock()
	files, measured := c.list()
	if excess(measured+pending) > 0 {
		if unlock, ok := c.lockDir(); ok {
			files, measured = c.list() // another process may have been at it until now
			freed = c.evict(files, excess(measured+pending))
			unlock()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.measured = measured - freed
	s.written -= before
	return freed
}

// lockDir takes the directory's lock, if nobody has it.
func (c *Cache) lockDir() (unlock func(), ok bool) {
	f, err := os.OpenFile(filepath.Join(c.dir, ".lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, false
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, false
	}
	return func() { _ = f.Close() }, true
}

// entry is a pack's file in the directory.
type entry struct {
	id   tree.PackID
	used time.Time // last
	size int64     // what it takes on the disk
}

// list returns the packs in the directory, and what they take together.
func (c *Cache) list() (files []entry, total int64) {
	names, _ := os.ReadDir(c.dir) // what can be read is better than nothing
	for _, e := range names {
		id, err := tree.ParsePackID(e.Name())
		if err != nil || id.String() != e.Name() {
			continue
		}
		var st unix.Stat_t
		if unix.Lstat(c.path(id), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		size := st.Blocks * 512
		files = append(files, entry{id, time.Unix(st.Mtim.Unix()), size})
		total += size
	}
	return files, total
}

// evict removes the files that were not used for longest until they amount to excess,
// and returns what they took. Readers go on with the files they have open.
func (c *Cache) evict(files []entry, excess int64) (freed int64) {
	c.mu.Lock()
	used := make(map[tree.PackID]time.Time, len(c.packs))
	for key, p := range c.packs {
		if p.used.After(used[key.id]) {
			used[key.id] = p.used
		}
	}
	c.mu.Unlock()
	for i, e := range files {
		if t := used[e.id]; t.After(e.used) {
			files[i].used = t
		}
	}
	slices.SortFunc(files, func(a, b entry) int { return a.used.Compare(b.used) })
	gone := map[tree.PackID]bool{}
	for _, e := range files {
		if freed >= excess {
			break
		}
		if os.Remove(c.path(e.id)) == nil {
			c.count.evicted.Add(1)
			freed += e.size
			gone[e.id] = true
		}
	}
	c.closeAll(gone)
	return freed
}

// closeAll lets go of the files of the packs in gone, which take space until then.
func (c *Cache) closeAll(gone map[tree.PackID]bool) {
	var old []*os.File
	c.mu.Lock()
	for key, p := range c.packs {
		if gone[key.id] {
			old = append(old, c.drop(p)...)
		}
	}
	c.mu.Unlock()
	for _, f := range old {
		_ = f.Close()
	}
}

// keep looks after the directory until the cache is closed.
func (c *Cache) keep() {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for n := time.Duration(1); ; n++ {
		select {
		case <-c.stop:
			return
		case <-tick.C:
		}
		c.dropUnlinked()
		if n%(measureEvery/keepEvery) == 0 {
			c.measure()
		}
	}
}
