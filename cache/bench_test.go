package cache

import (
	"fmt"
	"testing"

	"valise/store"
)

// BenchmarkWarm reads blocks that the disk has and memory has not.
func BenchmarkWarm(b *testing.B) {
	for _, size := range []int{4096, 64 << 10, store.BlockSize} {
		for _, mode := range []string{"one", "many"} {
			b.Run(fmt.Sprintf("%d/%s", size, mode), func(b *testing.B) {
				w := newWorld(b)
				p := w.pack(blocks(min(4096, 24<<20/size), size)...)
				c := w.open(b, b.TempDir(), Config{})
				if err := c.Add(p.id, p.body); err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				if mode == "one" {
					for i := 0; b.Loop(); i++ {
						block(b, c, p, i)
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for i := 0; pb.Next(); i++ {
						block(b, c, p, i)
					}
				})
			})
		}
	}
}

// BenchmarkMemory reads a block that is in memory.
func BenchmarkMemory(b *testing.B) {
	w := newWorld(b)
	p := w.pack(4096)
	c := w.open(b, b.TempDir(), Config{Memory: 1 << 20})
	b.ReportAllocs()
	for b.Loop() {
		block(b, c, p, 0)
	}
}

// BenchmarkCold reads packs in order that the disk does not have, from a bucket that
// answers at once.
func BenchmarkCold(b *testing.B) {
	for _, size := range []int{4096, store.BlockSize} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w := newWorld(b)
			p := w.pack(blocks(min(4096, 16<<20/size), size)...)
			c := w.open(b, b.TempDir(), Config{})
			b.SetBytes(int64(size))
			for i := 0; b.Loop(); i++ {
				if i%len(p.blobs) == 0 {
					forgetAll(c)
				}
				block(b, c, p, i)
			}
		})
	}
}

// BenchmarkFirst reads one block of a pack that the disk does not have.
func BenchmarkFirst(b *testing.B) {
	w := newWorld(b)
	p := w.pack(blocks(1000, 4096)...)
	c := w.open(b, b.TempDir(), Config{})
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		idle(b, c)
		forgetAll(c)
		b.StartTimer()
		block(b, c, p, i%32)
	}
}

// forgetAll evicts everything.
func forgetAll(c *Cache) {
	c.space.sweeping.Lock()
	defer c.space.sweeping.Unlock()
	c.sweep(func(total int64) int64 { return total })
}

func block(b *testing.B, c *Cache, p *content, i int) {
	i %= len(p.blobs)
	if _, err := c.Block(b.Context(), p.blobs[i], p.size()); err != nil {
		b.Fatal(err)
	}
}
