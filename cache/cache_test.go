package cache

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"valise/store"
	"valise/tree"
)

func TestOutlivesReopen(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.pack(append(blocks(5, store.BlockSize), 1, 4096, 70000)...)
	c := w.open(t, dir, Config{})
	readAll(t, c, p)
	c.Close()
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(c.path(p.id), long, long); err != nil {
		t.Fatal(err)
	}
	asked := w.bucket.requests()
	c = w.open(t, dir, Config{})
	readAll(t, c, p)
	if n := w.bucket.requests() - asked; n != 0 {
		t.Errorf("after reopening: %d requests, want none", n)
	}
	if s := c.Stats(); s.Disk != uint64(len(p.blobs)) || s.Waited != 0 || s.Open != 1 {
		t.Errorf("got %+v, want every block from the disk", s)
	}
	if st, err := os.Stat(c.path(p.id)); err != nil || st.Mode() != 0o600 || st.Size() != int64(len(p.body)) {
		t.Errorf("file: got %v, %v, want mode 0600 and the pack's size", st, err)
	} else if time.Since(st.ModTime()) > time.Minute {
		t.Errorf("file: got the time %s, want that of the last use", st.ModTime())
	}
}

func TestSpoiltBytesAreFetchedAgain(t *testing.T) {
	const at = segment + 1000
	for name, how := range map[string]func(f *os.File) error{
		"flipped": func(f *os.File) error {
			var b [1]byte
			if _, err := f.ReadAt(b[:], at); err != nil {
				return err
			}
			_, err := f.WriteAt([]byte{b[0] ^ 1}, at)
			return err
		},
		"zeroed":   func(f *os.File) error { _, err := f.WriteAt(make([]byte, segment), at); return err },
		"torn":     func(f *os.File) error { return f.Truncate(at) },
		"emptied":  func(f *os.File) error { return f.Truncate(0) },
		"all hole": func(f *os.File) error { return errors.Join(f.Truncate(0), f.Truncate(3*segment)) },
	} {
		for _, reopened := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				w, dir := newWorld(t), t.TempDir()
				p := w.pack(blocks(3, store.BlockSize)...)
				c := w.open(t, dir, Config{})
				readAll(t, c, p)
				idle(t, c)
				if reopened {
					c.Close()
				}
				spoil(t, dir, p, how)
				if reopened {
					c = w.open(t, dir, Config{})
				}
				asked := w.bucket.requests()
				readAll(t, c, p)
				idle(t, c)
				if w.bucket.requests() == asked {
					t.Error("nothing was fetched")
				}
				asked = w.bucket.requests()
				readAll(t, c, p)
				if n := w.bucket.requests() - asked; n != 0 {
					t.Errorf("%d requests after it was put right, want none", n)
				}
			})
		}
	}
}

func TestWrongBytesInTheBucket(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.pack(blocks(4, 100_000)...)
	w.bucket.objects[p.key()][p.blobs[1].Offset+7] ^= 1
	c := w.open(t, dir, Config{})
	for range 3 {
		if raw, err := c.Block(t.Context(), p.blobs[1], p.size()); !errors.Is(err, store.ErrCorrupt) || raw != nil {
			t.Fatalf("got %d bytes, %v, want ErrCorrupt", len(raw), err)
		}
		read(t, c, p, 0)
	}
	w.bucket.objects[p.key()][p.blobs[1].Offset+7] ^= 1
	read(t, c, p, 1)
	behind := p.blobs[3]
	behind.Stored++
	if _, err := c.Block(t.Context(), behind, p.size()); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a block that ends behind its pack: got %v, want ErrCorrupt", err)
	}
	if _, err := c.Block(t.Context(), tree.Blob{Pack: p.id}, store.MaxObject+1); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a block of nothing: got %v, want ErrCorrupt", err)
	}
	if _, err := c.Block(t.Context(), p.blobs[2], store.MaxObject+1); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a pack too large: got %v, want ErrCorrupt", err)
	}
}

func TestOneFetchForManyReaders(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.pack(blocks(100, 4096)...)
	c := w.open(t, dir, Config{})
	asked, let := w.bucket.hang(p.key())
	var readers sync.WaitGroup
	for i := range p.blobs {
		readers.Go(func() { read(t, c, p, i) })
	}
	<-asked
	eventually(t, "all wait", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.loads) == len(p.blobs)
	})
	let()
	readers.Wait()
	if n := w.bucket.requests(); n != 1 {
		t.Errorf("got %d requests, want 1", n)
	}
}

func TestCancelledReader(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.pack(4096)
	c := w.open(t, dir, Config{})
	asked, let := w.bucket.hang(p.key())
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error), make(chan error)
	go func() { _, err := c.Block(ctx, p.blobs[0], p.size()); first <- err }()
	<-asked
	go func() { _, err := c.Block(t.Context(), p.blobs[0], p.size()); second <- err }()
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled one: got %v, want Canceled", err)
	}
	let()
	if err := <-second; err != nil {
		t.Errorf("the other one: %v", err)
	}
	if n := w.bucket.requests(); n != 1 {
		t.Errorf("got %d requests, want 1", n)
	}
}

func TestHungPackBlocksNoOther(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	hung, warm, cold := w.pack(blocks(32, store.BlockSize/2)...), w.pack(4096), w.pack(4096)
	c := w.open(t, dir, Config{})
	read(t, c, warm, 0)
	read(t, c, hung, 20)
	idle(t, c)
	asked, _ := w.bucket.hang(hung.key())
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for i := range hung.blobs {
		readers.Go(func() { _, _ = c.Block(ctx, hung.blobs[i], hung.size()) })
	}
	for range packFetches {
		<-asked
	}
	read(t, c, warm, 0)
	read(t, c, cold, 0)
	read(t, c, hung, 20)
	cancel()
	readers.Wait()
	c.Close()
}

func TestPatience(t *testing.T) {
	for name, hook := range map[string]func(ctx context.Context, key store.Key, offset int64, n int) error{
		"hung": func(ctx context.Context, _ store.Key, _ int64, _ int) error { <-ctx.Done(); return ctx.Err() },
		"away": func(context.Context, store.Key, int64, int) error { return store.ErrUnavailable },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, dir := newWorld(t), t.TempDir()
				p := w.pack(4096)
				c := w.open(t, dir, Config{Patience: 20 * time.Second})
				w.bucket.hook(hook)
				start := time.Now()
				if _, err := c.Block(t.Context(), p.blobs[0], p.size()); !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("got %v, want ErrUnavailable", err)
				}
				if d := time.Since(start); d != 20*time.Second {
					t.Errorf("gave up after %s, want 20s", d)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := c.Block(ctx, p.blobs[0], p.size()); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("with a deadline: got %v, want DeadlineExceeded", err)
				}
				if name == "away" {
					back := time.AfterFunc(7*time.Second, func() { w.bucket.hook(nil) })
					defer back.Stop()
					read(t, c, p, 0)
				}
				c.Close()
				if _, err := c.Block(t.Context(), p.blobs[0], p.size()); !errors.Is(err, fs.ErrClosed) {
					t.Errorf("after Close: got %v, want ErrClosed", err)
				}
			})
		})
	}
}

func TestRefusalIsNotTriedAgain(t *testing.T) {
	w := newWorld(t)
	p := w.pack(4096)
	c := w.open(t, t.TempDir(), Config{})
	w.bucket.hook(func(context.Context, store.Key, int64, int) error { return store.ErrDenied })
	if _, err := c.Block(t.Context(), p.blobs[0], p.size()); !errors.Is(err, store.ErrDenied) || !strings.HasPrefix(err.Error(), "block ") {
		t.Errorf("got %v, want ErrDenied", err)
	}
	if n := w.bucket.requests(); n != 1 {
		t.Errorf("got %d requests, want 1", n)
	}
}

func TestReadAhead(t *testing.T) {
	w := newWorld(t)
	p := w.pack(blocks(64, 3*segment/4)...)
	c := w.open(t, t.TempDir(), Config{})
	var mu sync.Mutex
	var most int
	w.bucket.hook(func(_ context.Context, _ store.Key, _ int64, n int) error {
		mu.Lock()
		defer mu.Unlock()
		most = max(most, n)
		return nil
	})
	for i := range p.blobs {
		read(t, c, p, i)
		idle(t, c)
	}
	if n := w.bucket.requests(); n > 14 || most != maxRun*segment {
		t.Errorf("read in order: got %d requests, the largest of %d bytes, want few of up to %d", n, most, maxRun*segment)
	}

	p = w.pack(blocks(64, segment/4)...)
	asked := w.bucket.requests()
	for i := 60; i >= 0; i -= 10 {
		read(t, c, p, i)
	}
	if n := w.bucket.requests() - asked; n != 7 {
		t.Errorf("read here and there: got %d requests, want one each", n)
	}
}

func TestAdd(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.pack(append(blocks(3, store.BlockSize), 5)...)
	c := w.open(t, dir, Config{})
	if err := c.Add(p.id, p.body); err != nil {
		t.Fatal(err)
	}
	readAll(t, c, p)
	if n := w.bucket.requests(); n != 0 {
		t.Errorf("got %d requests, want none", n)
	}
	other := w.open(t, dir, Config{}) // as another process would
	q := w.pack(4096)
	if _, err := other.Block(t.Context(), q.blobs[0], q.size()); err != nil {
		t.Fatal(err)
	}
	idle(t, other)
	asked := w.bucket.requests()
	read(t, c, q, 0)
	if n := w.bucket.requests() - asked; n != 0 {
		t.Errorf("what another fetched: got %d requests, want none", n)
	}
}

func TestMemory(t *testing.T) {
	w := newWorld(t)
	p := w.pack(blocks(20, store.BlockSize)...)
	c := w.open(t, t.TempDir(), Config{Memory: 4 << 20})
	readAll(t, c, p)
	for range 3 {
		read(t, c, p, 19)
	}
	if got := c.Stats().Memory; got != 3 {
		t.Errorf("got %d blocks out of memory, want 3", got)
	}
	if c.memory.size > 4<<20 || len(c.memory.blocks) != 3 {
		t.Errorf("got %d bytes of %d blocks, want 3 blocks below 4 MiB", c.memory.size, len(c.memory.blocks))
	}
}

func TestOpenFilesAreBounded(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	c := w.open(t, dir, Config{})
	var packs []*content
	for range maxOpen + 20 {
		p := w.pack(100)
		packs = append(packs, p)
		read(t, c, p, 0)
	}
	idle(t, c)
	if n := files(t, dir); n > maxOpen || n != c.Stats().Open {
		t.Errorf("got %d open files, want %d at most, as Stats says (%d)", n, maxOpen, c.Stats().Open)
	}
	asked := w.bucket.requests()
	for _, p := range packs {
		read(t, c, p, 0)
	}
	if n := w.bucket.requests() - asked; n != 0 {
		t.Errorf("reading them again: got %d requests, want none", n)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.packs) > maxOpen {
		t.Errorf("%d packs are known, want those that are open", len(c.packs))
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	before := runtime.NumGoroutine()
	c := w.open(t, dir, Config{})
	p, hung := w.pack(blocks(8, store.BlockSize)...), w.pack(4096)
	readAll(t, c, p)
	asked, _ := w.bucket.hang(hung.key())
	failed := make(chan error)
	go func() { _, err := c.Block(t.Context(), hung.blobs[0], hung.size()); failed <- err }()
	<-asked
	c.Close()
	c.Close()
	if err := <-failed; !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a reader at Close: got %v, want ErrClosed", err)
	}
	if n := files(t, dir); n != 0 {
		t.Errorf("%d files are open after Close", n)
	}
	eventually(t, "the goroutines end", func() bool { return runtime.NumGoroutine() <= before })
	for name, err := range map[string]error{
		"Add": c.Add(p.id, p.body), "Prefetch": c.Prefetch(t.Context(), p.id, p.size()),
	} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s after Close: got %v, want ErrClosed", name, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []Config{{}, {Dir: file, Bucket: w.bucket, Coder: w.coder}} {
		if c, err := Open(cfg); err == nil {
			c.Close()
			t.Errorf("%+v: opened, want an error", cfg)
		}
	}
}
