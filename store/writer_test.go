package store_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"valise/store"
	"valise/store/storetest"
	"valise/tree"
)

func block(t *testing.T, w *store.Writer, body string) tree.Blob {
	t.Helper()
	b, err := w.Block(t.Context(), []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func flush(t *testing.T, w *store.Writer) {
	t.Helper()
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// wantBlock reads a block back.
func wantBlock(t *testing.T, r *store.Repo, b tree.Blob, want string) {
	t.Helper()
	if got, err := r.Read(t.Context(), b); err != nil || string(got) != want {
		t.Errorf("block %s: got %d bytes %.20q, %v, want %d bytes %.20q", b.Hash, len(got), got, err, len(want), want)
	}
}

func TestBlocksOfAnyKind(t *testing.T) {
	r := open(t, &storetest.Memory{})
	w := r.NewWriter(emptyTree(), nil)
	bodies := map[string]tree.Blob{}
	for _, body := range []string{
		"x", "short", strings.Repeat("a", store.BlockSize), noise(1, store.BlockSize), noise(2, store.BlockSize-1), noise(3, 17),
	} {
		bodies[body] = block(t, w, body)
	}
	flush(t, w)
	for body, b := range bodies {
		if int(b.Raw) != len(body) || b.Stored > b.Raw+28 || underTest.Mode == "" && b.Stored > b.Raw {
			t.Errorf("block of %d bytes: got %+v", len(body), b)
		}
		wantBlock(t, r, b, body)
	}
	for _, size := range []int{0, store.BlockSize + 1} {
		if _, err := w.Block(t.Context(), make([]byte, size)); err == nil {
			t.Errorf("block of %d bytes: got no error", size)
		}
	}
}

func TestBlocksAreStoredOnce(t *testing.T) {
	b := &storetest.Memory{}
	m := mustBegin(t, open(t, b), "a")
	m.files = files{"base": "base"}
	m.mustSave(t)
	m = mustBegin(t, open(t, b), "a")
	inBase := block(t, m.writer, "base")
	first := block(t, m.writer, "new")
	if again := block(t, m.writer, "new"); again != first {
		t.Errorf("the same block before a flush: got %+v, want %+v", again, first)
	}
	flush(t, m.writer)
	if again := block(t, m.writer, "new"); again != first {
		t.Errorf("the same block after a flush: got %+v, want %+v", again, first)
	}
	flush(t, m.writer)
	if got, want := m.writer.Stats(), (store.WriterStats{Blocks: 1, Packs: 1, Bytes: int64(m.writer.PackSize(first.Pack))}); got != want {
		t.Errorf("stats: got %+v, want %+v", got, want)
	}
	if m.writer.PackSize(inBase.Pack) == 0 || m.writer.PackSize(tree.PackID{}) != 0 {
		t.Errorf("pack sizes: got %d and %d, want one for the base's and none for an unknown one",
			m.writer.PackSize(inBase.Pack), m.writer.PackSize(tree.PackID{}))
	}
	if got := keys(t, b, "packs/"); len(got) != 2 {
		t.Errorf("got packs %v, want 2", got)
	}
}

// What a failed upload held is stored again by the next save, and nothing else.
func TestAFailedUploadVoidsItsBlocks(t *testing.T) {
	f := storetest.NewFaulty(t, &storetest.Memory{})
	r := open(t, f)
	w := r.NewWriter(emptyTree(), nil)
	kept := block(t, w, "kept")
	flush(t, w)
	f.Add(storetest.Step{N: 1, Method: storetest.Put, Key: "packs/", Fault: storetest.Drop})
	void := block(t, w, "void")
	wantErr(t, w.Flush(t.Context()), store.ErrUnavailable)
	if again := block(t, w, "void"); again.Pack == void.Pack {
		t.Errorf("after a failed upload: got the same pack %s", again.Pack)
	} else {
		flush(t, w)
		wantBlock(t, r, again, "void")
	}
	if again := block(t, w, "kept"); again != kept {
		t.Errorf("what was stored before: got %+v, want %+v", again, kept)
	}
	flush(t, w)
	if got := w.Stats(); got.Blocks != 2 || got.Packs != 2 {
		t.Errorf("stats: got %+v, want 2 blocks in 2 packs", got)
	}
}

// After a failed upload, further blocks fail until a flush has told it.
func TestAWriterThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := storetest.NewFaulty(t, &storetest.Memory{}, storetest.Step{N: 1, Key: "packs/", Fault: storetest.Unavailable})
		w := open(t, f).NewWriter(emptyTree(), nil)
		for i := range 8 {
			block(t, w, noise(uint64(i), store.BlockSize))
		}
		synctest.Wait()
		_, err := w.Block(t.Context(), []byte("more"))
		wantErr(t, err, store.ErrUnavailable)
		wantErr(t, w.Flush(t.Context()), store.ErrUnavailable)
		block(t, w, "more")
		flush(t, w)
	})
}

// The context of Flush ends the uploads, that of Block its own wait.
func TestWriterContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := storetest.NewFaulty(t, &storetest.Memory{})
		for range 5 {
			f.Add(storetest.Step{N: 1, Method: storetest.Put, Key: "packs/", Fault: storetest.Hang})
		}
		w := open(t, f).NewWriter(emptyTree(), nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var err error
		blocks := 0
		for ; err == nil && blocks < 100; blocks++ {
			_, err = w.Block(ctx, []byte(noise(uint64(blocks), store.BlockSize)))
		}
		wantErr(t, err, context.DeadlineExceeded)
		if want := 5*8 + 1; blocks != want {
			t.Errorf("got %d blocks taken, want %d: one pack more than are uploaded", blocks, want)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		wantErr(t, w.Flush(ctx), context.DeadlineExceeded)
		block(t, w, "again")
		flush(t, w)
	})
}

// Packs in memory are few, however many callers there are; and all blocks arrive.
func TestWriterIsBoundedAndConcurrent(t *testing.T) {
	const callers, blocks, size = 16, 24, 512 << 10
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int64
		b := &hooked{Bucket: &storetest.Memory{}}
		b.before = func(m storetest.Method, key store.Key) {
			if strings.HasPrefix(string(key), "packs/") && m == storetest.Put {
				if n := now.Add(1); n > most.Load() {
					most.Store(n)
				}
				time.Sleep(time.Second)
				now.Add(-1)
			}
		}
		r := open(t, b)
		var told atomic.Int64
		w := r.NewWriter(emptyTree(), func(tree.PackID, []byte) { told.Add(1) })
		var mu sync.Mutex
		got := map[string]tree.Blob{}
		var running sync.WaitGroup
		for c := range callers {
			running.Go(func() {
				for i := range blocks {
					body := noise(uint64(c/2*blocks+i), size) // two callers have the same
					at, err := w.Block(t.Context(), []byte(body))
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					got[body] = at
					mu.Unlock()
				}
			})
		}
		running.Wait()
		flush(t, w)
		if most := most.Load(); most > 5 {
			t.Errorf("got %d packs being uploaded at once, want 5 at most", most)
		}
		stats := w.Stats()
		if want := int64(callers / 2 * blocks); stats.Blocks != want || told.Load() != stats.Packs {
			t.Errorf("stats: got %+v and %d packs told, want %d blocks", stats, told.Load(), want)
		}
		b.before = nil
		for body, at := range got {
			wantBlock(t, r, at, body)
		}
	})
}

// A pack of tiny blocks has a table larger than they are: it fits into an object too.
func TestPacksOfTinyBlocks(t *testing.T) {
	b := &storetest.Memory{}
	r := open(t, b)
	w := r.NewWriter(emptyTree(), nil)
	for i := range 300_000 {
		block(t, w, fmt.Sprint(i))
	}
	flush(t, w)
	page, err := b.List(t.Context(), "packs/", "", 1000)
	if err != nil || len(page.Objects) < 2 {
		t.Fatalf("got %d packs, %v, want some", len(page.Objects), err)
	}
	for _, o := range page.Objects {
		if o.Size > 9<<20 {
			t.Errorf("%s: got %d bytes, want about 8 MiB", o.Key, o.Size)
		}
	}
	again := block(t, w, "77777")
	wantBlock(t, r, again, "77777")
}

func TestReadVerifies(t *testing.T) {
	for name, edit := range map[string]func([]byte) []byte{
		"flipped byte": func(p []byte) []byte { p[3] ^= 1; return p },
		"truncated":    func(p []byte) []byte { return p[:3] },
	} {
		for kind, body := range map[string]string{"plain": noise(1, 100), "compressed": strings.Repeat("text ", 100)} {
			t.Run(name+", "+kind, func(t *testing.T) {
				b := &storetest.Memory{}
				r := open(t, b)
				w := r.NewWriter(emptyTree(), nil)
				at := block(t, w, body)
				flush(t, w)
				change(t, b, store.PackKey(at.Pack), edit)
				if got, err := r.Read(t.Context(), at); err == nil {
					t.Errorf("got %d bytes and no error", len(got))
				}
			})
		}
	}
}
