package cache

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"valise/store"
	"valise/tree"
)

// bucket is a store.Bucket in memory that only gives out ranges.
type bucket struct {
	store.Bucket

	mu      sync.Mutex // guards what follows
	objects map[store.Key][]byte
	gets    int
	before  func(ctx context.Context, key store.Key, offset int64, n int) error // may be nil
}

func (b *bucket) GetRange(ctx context.Context, key store.Key, offset int64, p []byte) error {
	b.mu.Lock()
	b.gets++
	before, body := b.before, b.objects[key]
	b.mu.Unlock()
	if before != nil {
		if err := before(ctx, key, offset, len(p)); err != nil {
			return fmt.Errorf("get %s: %w", key, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	if offset+int64(len(p)) > int64(len(body)) {
		return fmt.Errorf("get %s: %d bytes at %d: it ends earlier", key, len(p), offset)
	}
	copy(p, body[offset:])
	return nil
}

func (b *bucket) requests() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.gets
}

// hook has f called before every answer.
func (b *bucket) hook(f func(ctx context.Context, key store.Key, offset int64, n int) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.before = f
}

// hang has the answers wait until their context ends or the test lets them go.
func (b *bucket) hang(keys ...store.Key) (asked <-chan store.Key, let func()) {
	ask, gate := make(chan store.Key, 1000), make(chan struct{})
	b.hook(func(ctx context.Context, key store.Key, _ int64, _ int) error {
		for _, k := range keys {
			if k != key {
				continue
			}
			ask <- key
			select {
			case <-gate:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	return ask, sync.OnceFunc(func() { close(gate) })
}

// content is a pack and what its blocks hold.
type content struct {
	id    tree.PackID
	body  []byte
	blobs []tree.Blob
	raw   [][]byte
}

func (p *content) key() store.Key { return store.Key("packs/" + p.id.String()) }
func (p *content) size() uint32   { return uint32(len(p.body)) }

// world is a bucket with packs, and what is needed to read it.
type world struct {
	bucket *bucket
	coder  *store.Coder
	rng    *rand.ChaCha8
}

func newWorld(t testing.TB) *world {
	t.Helper()
	coder, err := store.NewCoder(2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(coder.Close)
	return &world{&bucket{objects: map[store.Key][]byte{}}, coder, rand.NewChaCha8([32]byte{1})}
}

// pack makes a pack of blocks of the given sizes and puts it into the bucket. Every
// third block can be compressed.
func (w *world) pack(sizes ...int) *content {
	p := &content{}
	w.fill(p.id[:])
	for i, n := range sizes {
		raw := make([]byte, n)
		if i%3 == 2 {
			w.fill(raw[:min(n, 16)])
			copy(raw[n/2:], raw[:min(n, 16)])
		} else {
			w.fill(raw)
		}
		at := len(p.body)
		p.body = append(p.body, w.coder.Encode(store.HashOf(raw), raw)...)
		p.raw = append(p.raw, raw)
		p.blobs = append(p.blobs, tree.Blob{
			Hash: store.HashOf(raw), Pack: p.id, Offset: uint32(at), Stored: uint32(len(p.body) - at), Raw: uint32(n),
		})
	}
	w.bucket.mu.Lock()
	defer w.bucket.mu.Unlock()
	w.bucket.objects[p.key()] = bytes.Clone(p.body)
	return p
}

func (w *world) fill(p []byte) { _, _ = w.rng.Read(p) }

// blocks are n sizes of size bytes.
func blocks(n, size int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = size
	}
	return out
}

// open returns a cache of dir, with cfg's settings.
func (w *world) open(t testing.TB, dir string, cfg Config) *Cache {
	t.Helper()
	cfg.Dir, cfg.Bucket, cfg.Coder = dir, w.bucket, w.coder
	if cfg.Memory == 0 {
		cfg.Memory = 1 // so that reads come to the disk
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// read checks block i of p. Any goroutine may call it.
func read(t testing.TB, c *Cache, p *content, i int) {
	t.Helper()
	got, err := c.Block(t.Context(), p.blobs[i], p.size())
	if err != nil {
		t.Errorf("block %d: %v", i, err)
	} else if !bytes.Equal(got, p.raw[i]) {
		t.Errorf("block %d: the bytes are others", i)
	}
}

func readAll(t testing.TB, c *Cache, p *content) {
	t.Helper()
	for i := range p.blobs {
		read(t, c, p, i)
	}
}

// idle waits until nothing is being fetched or written.
func idle(t testing.TB, c *Cache) {
	t.Helper()
	eventually(t, "the fetches end", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, p := range c.packs {
			for _, f := range p.fetches {
				select {
				case <-f.settled:
				default:
					return false
				}
			}
		}
		return len(c.loads) == 0
	})
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// spoil changes the pack's file on the disk.
func spoil(t testing.TB, dir string, p *content, how func(f *os.File) error) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, p.id.String()), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := how(f); err != nil {
		t.Fatal(err)
	}
}

// files is the number of descriptors that the process has open below dir.
func files(t testing.TB, dir string) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if name, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && bytes.HasPrefix([]byte(name), []byte(dir+"/")) {
			n++
		}
	}
	return n
}
