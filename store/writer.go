package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"valise/tree"
)

const (
	packTarget  = 8 << 20 // a pack is uploaded when it has as much, with its table
	packsAtOnce = 4       // bounds the memory: so many packs are being uploaded, one is filled
)

// Writer stores blocks: new ones are collected in packs, which are uploaded as they
// fill. It belongs to one session and remembers what that session uploaded. Block may
// be called by several goroutines at once; Flush by its owner when they are done.
type Writer struct {
	repo     *Repo
	base     *tree.Tree
	uploaded func(tree.PackID, []byte)
	slots    chan struct{} // holds one for each pack in memory

	mu      sync.Mutex              // mu guards the rest
	known   map[tree.Hash]tree.Blob // in packs that are durable
	pending map[tree.Hash]tree.Blob // since the last Flush
	sizes   map[tree.PackID]uint32
	open    *openPack
	uploads *sync.WaitGroup
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
// not nil, is called with each pack that is on the store, by several goroutines.
func (r *Repo) NewWriter(base *tree.Tree, uploaded func(tree.PackID, []byte)) *Writer {
	w := &Writer{
		repo: r, base: base, uploaded: uploaded, slots: make(chan struct{}, packsAtOnce+1),
		known: map[tree.Hash]tree.Blob{}, sizes: map[tree.PackID]uint32{},
	}
	w.reset()
	return w
}

func (w *Writer) reset() {
	w.pending = map[tree.Hash]tree.Blob{}
	w.uploads = new(sync.WaitGroup)
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
	stored := w.repo.coder.Encode(hash, raw)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.ready(ctx); err != nil {
		return tree.Blob{}, fmt.Errorf("store a block: %w", err)
	}
	// Another call may have stored it meanwhile.
	if b, ok, err := w.find(hash); ok || err != nil {
		return b, err
	}
	p := w.open
	b = tree.Blob{Hash: hash, Pack: p.id, Offset: uint32(len(p.body)), Stored: uint32(len(stored)), Raw: uint32(len(raw))}
	p.body = append(p.body, stored...)
	p.blobs = append(p.blobs, b)
	w.pending[hash] = b
	if len(p.body)+packEntry*len(p.blobs) >= packTarget {
		w.upload()
	}
	return b, nil
}

// ready makes sure that a pack is open. It has w.mu held, and gives it up while it
// waits until there may be one more.
func (w *Writer) ready(ctx context.Context) error {
	for w.open == nil {
		w.mu.Unlock()
		select {
		case w.slots <- struct{}{}:
			w.mu.Lock()
		case <-ctx.Done():
			w.mu.Lock()
			return ctx.Err()
		}
		if w.open != nil {
			<-w.slots // another call was faster
			return nil
		}
		w.open = &openPack{}
		_, _ = rand.Read(w.open.id[:]) // it never fails
	}
	return nil
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

// upload sends the open pack. It has w.mu held.
func (w *Writer) upload() {
	p, ctx := w.open, w.life
	w.open = nil
	w.uploads.Go(func() {
		defer func() { <-w.slots }()
		body := w.repo.sealer.sealPack(p.id, p.body, p.blobs)
		err := w.repo.put(ctx, PackKey(p.id), body)
		if err == nil && w.uploaded != nil {
			w.uploaded(p.id, body)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if err != nil {
			w.failed = errors.Join(w.failed, fmt.Errorf("upload pack: %w", err))
			return
		}
		w.sizes[p.id] = uint32(len(body))
		w.stats.Blocks += int64(len(p.blobs))
		w.stats.Packs++
		w.stats.Bytes += int64(len(body))
		for _, b := range p.blobs {
			w.known[b.Hash] = b
		}
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
	uploads, cancel := w.uploads, w.cancel
	w.mu.Unlock()
	stop := context.AfterFunc(ctx, cancel)
	uploads.Wait()
	stop()
	cancel()
	w.mu.Lock()
	err := w.failed
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
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
