package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"valise/store"
)

// TestRandom reads at random while packs are evicted and spoilt and the bucket fails.
func TestRandom(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	var packs []*content
	for range 8 {
		packs = append(packs, w.pack(300_000, 4096, 1_000_000, 1, 90_000, 700_000, 12_000, 1<<20))
	}
	var mu sync.Mutex
	faults := rand.New(rand.NewPCG(3, 4))
	chance := func(n int) bool { mu.Lock(); defer mu.Unlock(); return faults.IntN(n) == 0 }
	w.bucket.hook(func(context.Context, store.Key, int64, int) error {
		if chance(10) {
			return store.ErrUnavailable
		}
		return nil
	})
	caches := []*Cache{w.open(t, dir, Config{Limit: 9 << 20, Memory: 2 << 20}), w.open(t, dir, Config{Limit: 9 << 20})}
	ctx, cancel := context.WithCancel(t.Context())
	var spoiler, readers sync.WaitGroup
	spoiler.Go(func() {
		for ctx.Err() == nil {
			damage(dir, packs[rand.IntN(len(packs))])
			time.Sleep(time.Millisecond)
		}
	})
	for i := range 8 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(5, uint64(i)))
			for range 80 {
				p, c := packs[rng.IntN(len(packs))], caches[rng.IntN(2)]
				n := rng.IntN(len(p.blobs))
				if rng.IntN(10) == 0 {
					short, stop := context.WithTimeout(ctx, time.Duration(rng.IntN(int(time.Millisecond))))
					raw, err := c.Block(short, p.blobs[n], p.size())
					stop()
					if err == nil && !bytes.Equal(raw, p.raw[n]) || err != nil && !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("with a deadline: got %d bytes, %v", len(raw), err)
					}
					continue
				}
				read(t, c, p, n)
			}
		})
	}
	readers.Wait()
	cancel()
	spoiler.Wait()
	for _, c := range caches {
		idle(t, c)
	}
	if a, b := caches[0].Stats(), caches[1].Stats(); a.Corrupt+b.Corrupt == 0 || a.Evicted+b.Evicted == 0 {
		t.Errorf("got %+v and %+v, want that something was spoilt and evicted", a, b)
	}
}

// damage does to a pack's file what must not matter.
func damage(dir string, p *content) {
	f, err := os.OpenFile(filepath.Join(dir, p.id.String()), os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	at := rand.Int64N(int64(len(p.body)))
	switch rand.IntN(3) {
	case 0:
		_, _ = fmt.Fprintf(f, "%d", at)
	case 1:
		_ = f.Truncate(at)
	case 2:
		_, _ = f.WriteAt(make([]byte, 100_000), at)
	}
}
