package cache

import (
	"container/list"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"valise/store"
	"valise/tree"
)

// maxOpen bounds the files that are open between reads.
const maxOpen = 128

// touchEvery is how exact a file's modification time, its last use, is.
const touchEvery = time.Minute

// packKey names a pack. The size belongs to it so that a tree which is wrong about a
// pack's size harms no other.
type packKey struct {
	id   tree.PackID
	size uint32
}

// pack is what is known of one pack while it is in use or its file is open. All but the
// first two is guarded by Cache.mu.
type pack struct {
	packKey
	share *semaphore.Weighted // the fetches that readers wait for

	users   int           // while there are any, the pack stays in Cache.packs
	file    *os.File      // to read; nil if there was none or it was closed
	info    os.FileInfo   // of file, when it was opened
	place   *list.Element // in Cache.open, if there is a file
	have    segments      // what file has, as far as is known
	fetches []*fetch      // under way, or finished and not kept

	used    time.Time // last
	touched time.Time // the file's modification time, as far as is known
	recent  segments  // read not long ago; see readAhead
}

// acquire returns the pack for use until release.
func (c *Cache) acquire(key packKey) (*pack, error) {
	if key.size > store.MaxObject {
		return nil, fmt.Errorf("pack %s: %d bytes are more than a pack has: %w", key.id, key.size, store.ErrCorrupt)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("pack %s: cache: %w", key.id, os.ErrClosed)
	}
	p := c.packs[key]
	if p == nil {
		p = &pack{packKey: key, share: semaphore.NewWeighted(packFetches)}
		c.packs[key] = p
	}
	p.users++
	return p, nil
}

// release ends a use. The caller holds Cache.mu.
func (c *Cache) release(p *pack) {
	p.users--
	c.forget(p)
}

// forget drops a pack of which nothing is left to know. The caller holds Cache.mu.
func (c *Cache) forget(p *pack) {
	if p.users == 0 && p.file == nil {
		delete(c.packs, p.packKey)
	}
}

// handle returns the pack's file, opening it if need be; nil if there is none. The file
// may be closed at any time in favour of another: a read of it is then os.ErrClosed.
func (c *Cache) handle(p *pack) *os.File {
	c.mu.Lock()
	if p.file != nil {
		c.open.MoveToFront(p.place)
		defer c.mu.Unlock()
		return p.file
	}
	c.mu.Unlock()
	f, err := os.OpenFile(c.path(p.id), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	return c.adopt(p, f, 0)
}

// adopt makes f, which has the segments written, the file that p is read from, unless p
// has that one open already. It owns f and returns the file that p has afterwards.
func (c *Cache) adopt(p *pack, f *os.File, written segments) *os.File {
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		_ = f.Close()
		return nil
	}
	have := scan(f, whole(p.size), p.size)
	old := []*os.File{f}
	c.mu.Lock()
	switch {
	case c.closed:
		f = nil
	case p.file != nil && os.SameFile(p.info, st):
		f = p.file
		p.have |= written
		c.open.MoveToFront(p.place)
	default:
		old = append(c.drop(p), c.shrink()...)
		p.file, p.info, p.have, p.place = f, st, have|written, c.open.PushFront(p)
		p.touched = st.ModTime()
	}
	c.mu.Unlock()
	for _, f := range old {
		_ = f.Close()
	}
	return f
}

// drop forgets the pack's file and returns it, for the caller to close. The caller
// holds Cache.mu.
func (c *Cache) drop(p *pack) []*os.File {
	if p.file == nil {
		return nil
	}
	f := p.file
	c.open.Remove(p.place)
	p.file, p.info, p.place, p.have = nil, nil, nil, 0
	c.forget(p)
	return []*os.File{f}
}

// shrink makes room for one more open file. The caller holds Cache.mu and closes what
// it returns.
func (c *Cache) shrink() (old []*os.File) {
	for c.open.Len() >= maxOpen {
		old = append(old, c.drop(c.open.Back().Value.(*pack))...)
	}
	return old
}

// distrust forgets that the segments are there: their bytes were wrong.
func (c *Cache) distrust(p *pack, bad segments) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.have &^= bad
	c.letGo(func(f *fetch) bool { return f.pack == p && f.segments&bad != 0 })
}

// touch writes down that the pack was used, for whoever evicts.
func (c *Cache) touch(p *pack) {
	now := c.now()
	c.mu.Lock()
	stale := p.file != nil && now.Sub(p.touched) >= touchEvery
	p.used = now
	if stale {
		p.touched = now
	}
	c.mu.Unlock()
	if stale {
		_ = os.Chtimes(c.path(p.id), now, now)
	}
}

// dropUnlinked lets go of the files that somebody evicted.
func (c *Cache) dropUnlinked() {
	c.mu.Lock()
	open := make(map[*pack]*os.File, c.open.Len())
	for e := c.open.Front(); e != nil; e = e.Next() {
		p := e.Value.(*pack)
		open[p] = p.file
	}
	c.mu.Unlock()
	for p, f := range open {
		if linked(f) {
			continue
		}
		c.mu.Lock()
		gone := p.file == f
		if gone {
			c.drop(p)
		}
		c.mu.Unlock()
		if gone {
			_ = f.Close()
		}
	}
}

// linked reports whether f still has its name. A file that is closed counts as one.
func linked(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return true
	}
	var st unix.Stat_t
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.Fstat(int(fd), &st) }); err != nil || failed != nil {
		return true
	}
	return st.Nlink > 0
}
