package cache

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"valise/store"
)

// taken is what the packs in dir take on the disk.
func taken(c *Cache) int64 {
	_, n := c.list()
	return n
}

// clock is a time of day that the test sets, and that steps when it is asked.
type clock struct {
	mu   sync.Mutex // guards what follows
	now  time.Time
	step time.Duration
}

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(c.step)
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestEvictsTheLeastRecentlyUsed(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	foreign := []string{"README", strings.Repeat("A", 32), strings.Repeat("0", 31)}
	for _, name := range foreign {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, 4<<20), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, strings.Repeat("0", 32)), 0o700); err != nil {
		t.Fatal(err)
	}
	now := &clock{now: time.Now(), step: time.Hour}
	c := w.open(t, dir, Config{Limit: 8 << 20, Now: now.time})
	var packs []*content
	for range 20 {
		p := w.pack(store.BlockSize)
		packs = append(packs, p)
		read(t, c, p, 0)
		read(t, c, packs[0], 0) // always in use
		idle(t, c)
		if n := taken(c); n > 8<<20 {
			t.Fatalf("%d bytes are taken, want no more than the limit", n)
		}
	}
	kept := func(p *content) bool { _, err := os.Stat(c.path(p.id)); return err == nil }
	if !kept(packs[0]) || !kept(packs[19]) || !kept(packs[17]) || kept(packs[1]) || kept(packs[10]) {
		t.Error("others than the least recently used were evicted")
	}
	if s := c.Stats(); s.Evicted < 12 || s.Used > 8<<20 || s.Used < 4<<20 {
		t.Errorf("got %+v, want 12 evictions or more", s)
	}
	for _, name := range foreign {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("a foreign file is gone: %v", err)
		}
	}
	if n := files(t, dir); n != c.Stats().Open || n > 8 {
		t.Errorf("%d files are open, want those that were not evicted", n)
	}
}

func TestPackLargerThanTheLimit(t *testing.T) {
	w := newWorld(t)
	p := w.pack(blocks(6, store.BlockSize)...)
	c := w.open(t, t.TempDir(), Config{Limit: 2 << 20})
	for range 2 {
		readAll(t, c, p)
	}
	if err := c.Add(p.id, p.body); !errors.Is(err, ErrFull) {
		t.Errorf("Add: got %v, want ErrFull", err)
	}
	idle(t, c)
	if n := taken(c); n > 2<<20 {
		t.Errorf("%d bytes are taken, want no more than the limit", n)
	}
}

func TestEvictedByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := newWorld(t), t.TempDir()
		p := w.pack(blocks(3, store.BlockSize)...)
		c := w.open(t, dir, Config{})
		read(t, c, p, 0)
		synctest.Wait()
		if err := os.Remove(c.path(p.id)); err != nil {
			t.Fatal(err)
		}
		read(t, c, p, 2) // goes to a new file
		synctest.Wait()
		if _, err := os.Stat(c.path(p.id)); err != nil {
			t.Errorf("what was fetched afterwards: %v", err)
		}
		if err := os.Remove(c.path(p.id)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(keepEvery + 1)
		synctest.Wait()
		if n := files(t, dir); n != 0 {
			t.Errorf("%d files without a name are open, want none", n)
		}
		readAll(t, c, p)
		if err := os.RemoveAll(dir); err != nil { // even that
			t.Fatal(err)
		}
		time.Sleep(keepEvery + 1)
		readAll(t, c, p)
		synctest.Wait()
		if _, err := os.Stat(c.path(p.id)); err != nil {
			t.Errorf("after the directory was removed: %v", err)
		}
		c.Close()
	})
}

func TestSharedWhileEvicting(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	var packs []*content
	for range 12 {
		packs = append(packs, w.pack(blocks(5, 700_000)...))
	}
	const limit = 12 << 20
	var readers sync.WaitGroup
	caches := []*Cache{w.open(t, dir, Config{Limit: limit}), w.open(t, dir, Config{Limit: limit})}
	for i := range 8 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for range 60 {
				p := packs[rng.IntN(len(packs))]
				read(t, caches[i%2], p, rng.IntN(len(p.blobs)))
			}
		})
	}
	readers.Wait()
	for _, c := range caches {
		idle(t, c)
	}
	caches[0].measure()
	if n := taken(caches[0]); n > limit {
		t.Errorf("%d bytes are taken, want no more than the limit", n)
	}
	if a, b := caches[0].Stats(), caches[1].Stats(); a.Evicted == 0 || b.Evicted == 0 {
		t.Errorf("got %+v and %+v, want that both evict", a, b)
	}
}

// tmpfs mounts a small file system.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=700,size="+size); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// lines is a log that can be read.
type lines struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// count returns how many lines there are, and all of them.
func (l *lines) count() (int, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), "\n"), l.buf.String()
}

func TestFullDisk(t *testing.T) {
	w, dir, log := newWorld(t), tmpfs(t, "3m"), &lines{}
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 3<<20-64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	now := &clock{now: time.Now()}
	c := w.open(t, dir, Config{Log: slog.New(slog.NewTextHandler(log, nil)), Now: now.time})
	p := w.pack(append(blocks(3, store.BlockSize), blocks(20, 4096)...)...)
	readAll(t, c, p)
	idle(t, c)
	if n, text := log.count(); n != 1 || !c.Stats().Degraded {
		t.Errorf("got %d log lines, want 1 and a degraded cache: %s", n, text)
	}
	if n := w.bucket.requests(); n > 8 { // the small blocks share theirs
		t.Errorf("got %d requests, want few", n)
	}
	if err := c.Add(p.id, p.body); !errors.Is(err, ErrFull) {
		t.Errorf("Add: got %v, want ErrFull", err)
	}
	if err := c.Prefetch(t.Context(), p.id, p.size()); !errors.Is(err, ErrFull) {
		t.Errorf("Prefetch: got %v, want ErrFull", err)
	}

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	now.advance(diskPause)
	readAll(t, c, p)
	idle(t, c)
	if n, text := log.count(); n != 2 || c.Stats().Degraded {
		t.Errorf("with space: got %d log lines, want 2: %s", n, text)
	}
	for range 5 { // more than there is room for: the oldest give way
		readAll(t, c, w.pack(blocks(2, 600_000)...))
		idle(t, c)
	}
	if n, text := log.count(); n != 2 || c.Stats().Evicted == 0 {
		t.Errorf("with packs that can go: got %d log lines, want 2 and evictions: %s", n, text)
	}
}

func TestForeignThingsWithAPacksName(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	c := w.open(t, dir, Config{})
	for name, place := range map[string]func(path string) error{
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"link":      func(path string) error { return os.Symlink("/etc/passwd", path) },
		"pipe":      func(path string) error { return unix.Mkfifo(path, 0o600) },
	} {
		p := w.pack(4096)
		if err := place(c.path(p.id)); err != nil {
			t.Fatal(err)
		}
		read(t, c, p, 0)
		idle(t, c)
		if c.Stats().Degraded {
			t.Errorf("%s: the cache is degraded for it", name)
		}
	}
}

func TestReadOnlyDisk(t *testing.T) {
	w, dir := newWorld(t), tmpfs(t, "4m")
	c := w.open(t, dir, Config{})
	p, q := w.pack(4096), w.pack(4096)
	read(t, c, p, 0)
	idle(t, c)
	c.Close()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	c = w.open(t, dir, Config{})
	read(t, c, p, 0)
	read(t, c, q, 0)
	if n := w.bucket.requests(); n != 2 {
		t.Errorf("got %d requests, want one for each pack", n)
	}
}

func TestPrefetch(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p, q := w.pack(blocks(12, store.BlockSize)...), w.pack(blocks(12, store.BlockSize)...)
	c := w.open(t, dir, Config{Limit: 14 << 20})
	read(t, c, p, 5)
	idle(t, c)
	if err := c.Prefetch(t.Context(), p.id, p.size()); err != nil {
		t.Fatal(err)
	}
	asked := w.bucket.requests()
	if asked > 6 {
		t.Errorf("got %d requests, want large ones", asked)
	}
	readAll(t, c, p)
	if err := c.Prefetch(t.Context(), p.id, p.size()); err != nil || w.bucket.requests() != asked {
		t.Errorf("got %v and %d requests, want nothing to do", err, w.bucket.requests()-asked)
	}
	if err := c.Prefetch(t.Context(), q.id, q.size()); !errors.Is(err, ErrFull) {
		t.Errorf("at the limit: got %v, want ErrFull", err)
	}
	if s := c.Stats(); s.Evicted != 0 || taken(c) > 14<<20 {
		t.Errorf("got %+v, want no evictions", s)
	}
	w.bucket.hook(func(context.Context, store.Key, int64, int) error { return store.ErrUnavailable })
	r := w.pack(4096)
	if err := c.Prefetch(t.Context(), r.id, r.size()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

func TestPrefetchKeepsToItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.pack(blocks(18, store.BlockSize)...) // a third of it compresses
		c := w.open(t, t.TempDir(), Config{Rate: 1 << 20})
		start := time.Now()
		if err := c.Prefetch(t.Context(), p.id, p.size()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start).Round(time.Second); d != 8*time.Second && d != 9*time.Second {
			t.Errorf("12 MiB took %s, want 8s for what is left after a burst of 4 MiB", d)
		}
		q := w.pack(blocks(18, store.BlockSize)...)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := c.Prefetch(ctx, q.id, q.size()); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want Canceled", err)
		}
		if d := time.Since(start).Round(time.Second); d > 10*time.Second {
			t.Errorf("the cancelled one came back after %s", d)
		}
		c.Close()
	})
}

func TestPrefetchToAFullDisk(t *testing.T) {
	w, dir := newWorld(t), tmpfs(t, "3m")
	c := w.open(t, dir, Config{})
	old, p := w.pack(blocks(2, store.BlockSize)...), w.pack(blocks(2, store.BlockSize)...)
	readAll(t, c, old)
	idle(t, c)
	if err := c.Prefetch(t.Context(), p.id, p.size()); !errors.Is(err, ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
	if s := c.Stats(); s.Degraded || s.Evicted != 0 {
		t.Errorf("got %+v, want that nothing gave way and readers are not the worse for it", s)
	}
	readAll(t, c, w.pack(blocks(2, store.BlockSize)...))
	idle(t, c)
	if s := c.Stats(); s.Degraded || s.Evicted == 0 {
		t.Errorf("got %+v, want that the old pack gave way to a reader's", s)
	}
}
