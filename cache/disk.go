package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"valise/tree"
)

// diskPause is how long nothing is written to a disk that failed.
const diskPause = 30 * time.Second

// errUnlinked tells that others evicted the file while it was written.
var errUnlinked = errors.New("file is gone")

// aboutFile reports whether err is for what has the pack's name, and says nothing about
// the disk: it was evicted again and again, or is no file at all.
func aboutFile(err error) bool {
	for _, e := range []error{errUnlinked, unix.EISDIR, unix.ELOOP, unix.ENXIO, unix.ESPIPE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// disk remembers whether the directory takes data.
type disk struct {
	mu     sync.Mutex // guards what follows
	failed bool
	retry  time.Time // when to try again, if it failed
}

// ready reports whether to write. After a pause it lets one through to try.
func (d *disk) ready(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.failed {
		return true
	}
	if now.Before(d.retry) {
		return false
	}
	d.retry = now.Add(diskPause)
	return true
}

func (d *disk) broken() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// set notes how it went and reports whether that is a change.
func (d *disk) set(failed bool, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	change := d.failed != failed
	d.failed = failed
	if failed {
		d.retry = now.Add(diskPause)
	}
	return change
}

// report notes how a use of the disk went, and logs a change.
func (c *Cache) report(err error) {
	if aboutFile(err) || !c.disk.set(err != nil, c.now()) {
		return
	}
	if err != nil {
		c.log.Warn("cache takes no data, reads go to the store", "dir", c.dir, "error", err)
		return
	}
	c.log.Info("cache takes data again", "dir", c.dir)
}

// Add keeps the whole of a pack that was just uploaded; body is not used after the
// call. An error, such as ErrFull, says that it was not kept, no more: what is read of
// it is fetched then.
func (c *Cache) Add(id tree.PackID, body []byte) error {
	p, err := c.acquire(packKey{id, uint32(len(body))})
	if err != nil {
		return fmt.Errorf("add: %w", err)
	}
	defer c.done(p)
	if !c.write(p, whole(p.size), body, true) {
		return fmt.Errorf("add pack %s: %w", id, ErrFull)
	}
	c.touch(p)
	return nil
}

// write puts the bytes of a run of segments into the pack's file and reports whether
// they are there. It evicts what was not used for long, if it may and must.
func (c *Cache) write(p *pack, s segments, body []byte, evict bool) bool {
	n := int64(len(body))
	if !c.disk.ready(c.now()) || !c.reserve(n, evict) {
		return false
	}
	err := c.put(p, s, body)
	if full(err) && evict && c.relieve(n) {
		err = c.put(p, s, body)
	}
	c.space.settle(n)
	if evict || !full(err) { // else a reader's bytes may still find room
		c.report(err)
	}
	return err == nil
}

// full reports whether err is for lack of space.
func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// put writes to the file that has the pack's name. If that was evicted meanwhile, the
// next one is as good.
func (c *Cache) put(p *pack, s segments, body []byte) error {
	for range 4 {
		f, err := c.create(p.id)
		if err != nil {
			return err
		}
		lo, _ := s.run(64)
		if _, err := f.WriteAt(body, int64(lo)*segment); err != nil {
			_ = f.Close()
			return err
		}
		if linked(f) {
			c.adopt(p, f, s)
			return nil
		}
		_ = f.Close()
	}
	return errUnlinked
}

// create opens the pack's file to write, and makes it if need be.
func (c *Cache) create(id tree.PackID) (*os.File, error) {
	const flags = os.O_RDWR | os.O_CREATE | unix.O_NOFOLLOW | unix.O_NONBLOCK
	f, err := os.OpenFile(c.path(id), flags, 0o600)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(c.path(id), flags, 0o600)
}
