package plugin

import (
	"context"
	"io/fs"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"

	"valise/beneath"
	"valise/profile"
)

// measurement is what a profile took up on disk when it was last walked.
type measurement struct {
	Bytes int64
	At    time.Time
	Took  time.Duration
}

// walkShare is how much of the time the usage walk may work: one part in so many.
// walkBatch entries are read between two pauses.
const (
	walkShare = 4
	walkBatch = 500
)

// walkTime bounds one walk, so that a file system that hangs holds up the others for
// this long, and only once: it is left out as long as it hangs.
const walkTime = 10 * time.Minute

// measureMounted walks every mounted profile, one after the other.
func (d *Driver) measureMounted() {
	limits := map[string]int64{}
	d.mu.Lock()
	for _, r := range d.volumes {
		_, p, err := d.recall(r)
		if err != nil || !p.measured() {
			continue
		}
		for _, ref := range r.Mounts {
			limits[ref.Backing.Path] = d.smallestLimit(ref.Backing.Path)
		}
	}
	d.mu.Unlock()
	for _, path := range slices.Sorted(maps.Keys(limits)) {
		d.measure(path, limits[path])
	}
}

// measureSoon walks a place in the background that was not measured lately, if its usage
// is watched at all.
func (d *Driver) measureSoon(p place) {
	if !p.measured() {
		return
	}
	d.mu.Lock()
	m, ok := d.usage[p.path()]
	d.mu.Unlock()
	if !ok || d.cfg.Now().Sub(m.At) > d.cfg.UsageInterval {
		d.later(0, func() { d.measure(p.path(), p.limit) })
	}
}

// measure walks one profile and warns when it comes near its limit or over it.
func (d *Driver) measure(path string, limit int64) {
	r := d.rules.Load()
	if r.err != nil {
		return
	}
	p, err := r.locate(path)
	if err != nil {
		return // a root that the configuration no longer has
	}
	// The walk enters the guard under a name and in a lane of its own: it may take
	// minutes, and a login must not wait for it.
	walk := "usage of " + path
	if d.guard.busy(walk) {
		return
	}
	unlock, err := d.locks.lock(d.ctx, "usage") // one walk at a time
	if err != nil {
		return
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(d.ctx, walkTime)
	defer cancel()
	started := d.cfg.Now()
	var bytes int64
	err = d.guard.do(ctx, "usage below "+p.root.Path, walk, func(ctx context.Context) error {
		root, err := p.root.Open()
		if err != nil {
			return err
		}
		defer root.Close()
		n, err := root.Open(p.rel)
		if err != nil {
			return err
		}
		defer n.Close()
		bytes, err = diskUsage(ctx, n)
		return err
	})
	if err != nil {
		d.cfg.Log.Warn("measure usage", "path", path, "error", err)
		return
	}
	m := measurement{Bytes: bytes, At: d.cfg.Now(), Took: d.cfg.Now().Sub(started)}
	d.mu.Lock()
	before := d.usage[path]
	d.usage[path] = m
	d.mu.Unlock()
	if now := profile.Judge(bytes, limit); now != profile.Fits && now != profile.Judge(before.Bytes, limit) {
		d.cfg.Log.Warn("profile is "+string(now), "path", path, "usage_bytes", bytes, "limit_bytes", limit)
	}
}

// smallestLimit is that of the mounted volumes of a path, 0 for none. The caller holds
// mu.
func (d *Driver) smallestLimit(path string) int64 {
	var limit int64
	for _, r := range d.volumes {
		for _, ref := range r.Mounts {
			if ref.Backing.Path != path {
				continue
			}
			if l := d.limit(r); l > 0 && (limit == 0 || l < limit) {
				limit = l
			}
		}
	}
	return limit
}

// diskUsage adds up the blocks below n, each inode once, on n's file system only. It
// works a part of the time, so that a large home costs little beside its user.
func diskUsage(ctx context.Context, n *beneath.Node) (int64, error) {
	top, err := n.Stat()
	if err != nil || !top.IsDir() {
		return 0, err
	}
	root, err := os.OpenRoot(n.Proc())
	if err != nil {
		return 0, err
	}
	defer root.Close()
	var bytes int64
	linked := map[uint64]bool{}
	entries, worked := 0, time.Now()
	err = fs.WalkDir(root.FS(), ".", func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return ignoreGone(err)
		}
		if entries++; entries%walkBatch == 0 {
			pause(ctx, time.Since(worked)*(walkShare-1))
			worked = time.Now()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fi, err := e.Info()
		if err != nil {
			return ignoreGone(err)
		}
		st := fi.Sys().(*syscall.Stat_t)
		if st.Dev != top.Dev {
			return skip(e)
		}
		if st.Nlink > 1 && !e.IsDir() {
			if linked[st.Ino] {
				return nil
			}
			linked[st.Ino] = true
		}
		bytes += st.Blocks * 512
		return nil
	})
	return bytes, err
}

// ignoreGone lets a walk go on over what was deleted under it.
func ignoreGone(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

func skip(e fs.DirEntry) error {
	if e.IsDir() {
		return fs.SkipDir
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
