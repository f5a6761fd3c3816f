package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"valise/tree"
)

const (
	packTarget  = 8 << 20 // a pack is uploaded when it has as much
	packsAtOnce = 4       // bounds the memory: so many packs are being uploaded, one is filled
)

// Writer stores blocks: new ones are collected in packs, which are uploaded as they
// fill. It belongs to one session and remembers what that session uploaded. Block may
// be called by several goroutines at once; Flush by its owner when they are done.
type Writer struct {
	repo     *Repo
	base     *tree.Tree
	uploaded func(tree.PackID, []byte)

	mu      sync.Mutex              // mu guards the rest
	known   map[tree.Hash]tree.Blob // in packs that are durable
	pending map[tree.Hash]tree.Blob // since the last Flush
	sizes   map[tree.PackID]uint32
	open    *openPack
	group   *errgroup.Group // uploads under way
	life    context.Context // of the uploads: they outlive the Block that began them
	cancel  context.CancelFunc
	failed  error
	stats   WriterStats
}

// WriterStats counts what a Writer uploaded since it was made.
type WriterStats struct {
	Blocks, Packs, Bytes int64
}

type openPack struct {
	id    tree.PackID
	body  []byte
	blobs []tree.Blob
}

// NewWriter returns a Writer that does not store again what base has. uploaded, if
// not nil, is called with each pack that is on the store.
func (r *Repo) NewWriter(base *tree.Tree, uploaded func(tree.PackID, []byte)) *Writer {
	w := &Writer{repo: r, base: base, uploaded: uploaded, known: map[tree.Hash]tree.Blob{}, sizes: map[tree.PackID]uint32{}}
	w.reset()
	return w
}

func (w *Writer) reset() {
	w.pending = map[tree.Hash]tree.Blob{}
	w.group = new(errgroup.Group)
	w.group.SetLimit(packsAtOnce)
	w.life, w.cancel = context.WithCancel(context.Background())
	w.open, w.failed = nil, nil
}

// Block stores the plain bytes of a block, or finds them stored. What it returns is
// good only once Flush has succeeded. After an error of an upload every call fails,
// until Flush has told it; ctx ends the call, and the one of Flush the uploads.
func (w *Writer) Block(ctx context.Context, raw []byte) (tree.Blob, error) {
	if len(raw) == 0 || len(raw) > BlockSize {
		return tree.Blob{}, fmt.Errorf("store a block of %d bytes: want 1 to %d", len(raw), BlockSize)
	}
	hash := HashOf(raw)
	if b, ok := w.base.Find(hash); ok {
		return b, nil
	}
	w.mu.Lock()
	b, ok, err := w.find(hash)
	w.mu.Unlock()
	if ok || err != nil {
		return b, err
	}
	stored := w.repo.coder.Encode(raw, nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	if b, ok, err := w.find(hash); ok || err != nil {
		return b, err
	}
	if w.open == nil {
		w.open = &openPack{}
		_, _ = rand.Read(w.open.id[:])
	}
	p := w.open
	b = tree.Blob{Hash: hash, Pack: p.id, Offset: uint32(len(p.body)), Stored: uint32(len(stored)), Raw: uint32(len(raw))}
	p.body = append(p.body, stored...)
	p.blobs = append(p.blobs, b)
	w.pending[hash] = b
	w.stats.Blocks++
	if len(p.body) >= packTarget {
		w.upload()
	}
	return b, nil
}

func (w *Writer) find(hash tree.Hash) (tree.Blob, bool, error) {
	if w.failed != nil {
		return tree.Blob{}, false, w.failed
	}
	if b, ok := w.known[hash]; ok {
		return b, true, nil
	}
	b, ok := w.pending[hash]
	return b, ok, nil
}

// upload sends the open pack; it has w.mu held, and gives it up while it waits for its
// turn.
func (w *Writer) upload() {
	p := w.open
	w.open = nil
	group, ctx := w.group, w.life
	w.mu.Unlock()
	defer w.mu.Lock()
	group.Go(func() error {
		body := sealPack(p.body, p.blobs)
		err := w.repo.bucket.Put(ctx, PackKey(p.id), body)
		if err == nil && w.uploaded != nil {
			w.uploaded(p.id, body)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if err != nil {
			err = fmt.Errorf("upload pack: %w", err)
			w.failed = errors.Join(w.failed, err)
			return err
		}
		w.sizes[p.id] = uint32(len(body))
		w.stats.Packs++
		w.stats.Bytes += int64(len(body))
		for _, b := range p.blobs {
			w.known[b.Hash] = b
		}
		return nil
	})
}

// Flush uploads what is left and waits until all packs are durable. After an error
// what Block returned since the last Flush is void, but for what did get there.
func (w *Writer) Flush(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open != nil {
		w.upload()
	}
	group, cancel := w.group, w.cancel
	w.mu.Unlock()
	stop := context.AfterFunc(ctx, cancel)
	_ = group.Wait() // every error is in w.failed
	stop()
	cancel()
	w.mu.Lock()
	err := w.failed
	w.reset()
	return err
}

// PackSize returns the size of a pack that the session uploaded or its base names.
func (w *Writer) PackSize(id tree.PackID) uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n, ok := w.sizes[id]; ok {
		return n
	}
	return w.base.PackSize(id)
}

// Stats returns the counters.
func (w *Writer) Stats() WriterStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}
