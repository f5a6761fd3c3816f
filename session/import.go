package session

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"valise/layer"
	"valise/store"
	"valise/tree"
)

// ErrNotEmpty says that a profile has snapshots already.
var ErrNotEmpty = errors.New("the profile has snapshots already: import into one that is new")

// Import makes the first snapshot of a new profile from a directory, which nobody
// should write to meanwhile. Of cfg it uses Bucket, URL, Host, Lease, SingleHost,
// Filter and Log.
func Import(ctx context.Context, cfg Config, dir string, progress func(Progress)) (store.Snapshot, []layer.Skipped, error) {
	cfg.defaults()
	var skipped []layer.Skipped
	var made store.Snapshot
	err := exclusively(ctx, cfg, store.NewID(), func(ctx context.Context, repo *store.Repo, lease *store.Lease, head store.Snapshot) error {
		if head.Epoch != 0 {
			return ErrNotEmpty
		}
		s, scan, err := importTree(ctx, repo, lease, head, cfg, dir, progress)
		if err == nil {
			made, skipped = s, scan.Skipped
		}
		return err
	})
	if err != nil {
		return store.Snapshot{}, nil, fmt.Errorf("import %s into %s: %w", dir, cfg.URL, err)
	}
	return made, skipped, nil
}

// exclusively opens the profile, makes it where there is none, and calls do while it holds
// the lease, with the newest snapshot.
//
// A process that was killed meanwhile leaves a lease that the next one on this host, which
// has the same claimant, need not wait for.
func exclusively(ctx context.Context, cfg Config, claimant string, do func(context.Context, *store.Repo, *store.Lease, store.Snapshot) error) (err error) {
	repo, err := store.OpenOrCreate(ctx, cfg.Store(cfg.Bucket))
	if err != nil {
		return err
	}
	defer repo.Close()
	lease, err := acquireDrained(ctx, repo, store.Claim{Host: cfg.Host, Mount: claimant, TTL: cfg.Lease})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lease.Release(context.WithoutCancel(ctx))) }()
	head, err := repo.HeadUnder(ctx, lease)
	if err != nil {
		return err
	}
	work, stop := context.WithCancel(ctx)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		for work.Err() == nil {
			select {
			case <-work.Done():
			case <-time.After(cfg.Lease / 4):
				_ = lease.Renew(work) // the commit tells whether the lease is still held
			}
		}
	}()
	defer func() { stop(); <-kept }()
	return do(work, repo, lease, head)
}

// acquireDrained takes the lease, and waits for a host that is only saving what is left.
func acquireDrained(ctx context.Context, repo *store.Repo, c store.Claim) (*store.Lease, error) {
	for {
		lease, err := repo.Acquire(ctx, c)
		var held *store.HeldError
		if err == nil || !errors.As(err, &held) || held.State != store.LeaseDraining {
			return lease, err
		}
		select {
		case <-ctx.Done():
			return nil, held
		case <-time.After(pollTime(held)):
		}
	}
}

// importTree makes what is in dir the successor of the snapshot head. progress is called
// for each block that was read, or is nil.
func importTree(ctx context.Context, repo *store.Repo, lease *store.Lease, head store.Snapshot, cfg Config, dir string, progress func(Progress)) (store.Snapshot, *layer.Scan, error) {
	base := emptyTree()
	writer := repo.NewWriter(base, nil)
	sink := layer.Sink(writer)
	if progress != nil {
		size, err := toRead(ctx, cfg, base, dir)
		if err != nil {
			return store.Snapshot{}, nil, err
		}
		sink = &reportingSink{Writer: writer, report: progress, size: size}
	}
	scanner, err := layer.NewScanner(layer.ScannerConfig{Upper: dir, Base: base, Filter: cfg.Filter, Sink: sink, Log: cfg.Log})
	if err != nil {
		return store.Snapshot{}, nil, err
	}
	scan, err := scanner.Scan(ctx, layer.Final)
	if err := errors.Join(err, writer.Flush(ctx), scanner.Close()); err != nil {
		return store.Snapshot{}, nil, err
	}
	patch, err := scan.Builder.Finish(writer.PackSize)
	if err != nil {
		return store.Snapshot{}, nil, err
	}
	index, whole, err := repo.SaveIndex(ctx, nil, base, patch)
	if err != nil {
		return store.Snapshot{}, nil, err
	}
	s := store.Snapshot{Index: index, Time: time.Now().UTC()}
	s.Files, s.Size = whole.Total()
	s, err = repo.Commit(ctx, lease, head, s, whole)
	return s, scan, err
}

// toRead is how many bytes of content importTree will read.
func toRead(ctx context.Context, cfg Config, base *tree.Tree, dir string) (int64, error) {
	scanner, err := layer.NewScanner(layer.ScannerConfig{Upper: dir, Base: base, Filter: cfg.Filter})
	if err != nil {
		return 0, err
	}
	scan, err := scanner.Scan(ctx, layer.Final)
	if err := errors.Join(err, scanner.Close()); err != nil {
		return 0, err
	}
	return sizeOf(base, scan)
}

// reportingSink tells how far it is. Holes in files are not read.
type reportingSink struct {
	*store.Writer
	report func(Progress)
	size   int64
	done   atomic.Int64
}

// Block implements layer.Sink.
func (s *reportingSink) Block(ctx context.Context, raw []byte) (tree.Blob, error) {
	b, err := s.Writer.Block(ctx, raw)
	done := s.done.Add(int64(len(raw)))
	s.report(Progress{Bytes: done, OfBytes: max(s.size, done)})
	return b, err
}
