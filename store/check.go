package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"valise/tree"
)

// Fault is something wrong that Check found.
type Fault struct {
	Object    Key      `json:"object"`
	Snapshots []string `json:"snapshots"` // that need it, if that can be told
	Cause     string   `json:"cause"`
}

// CheckResult is what Check saw.
type CheckResult struct {
	Snapshots int     `json:"snapshots"`
	Packs     int     `json:"packs"`
	Bytes     int64   `json:"bytes"`  // read of packs
	Unused    int     `json:"unused"` // packs that no snapshot names; prune deletes them
	Faults    []Fault `json:"faults"`
}

// Check reads every snapshot and its index, and compares the packs that they name with
// those that are there; with readData it reads them all and verifies every block.
// progress, if not nil, is told how many of how many packs are done.
func (r *Repo) Check(ctx context.Context, readData bool, progress func(done, of int)) (CheckResult, error) {
	c := &checker{repo: r, need: map[tree.PackID]*needed{}}
	all, err := r.snapshots(ctx, func(key Key, err error) error {
		if !about(err) {
			return err
		}
		c.fault(key, nil, err)
		return nil
	})
	if err != nil {
		return CheckResult{}, fmt.Errorf("check: %w", err)
	}
	c.res.Snapshots = len(all)
	for _, s := range all {
		if err := c.snapshot(ctx, s); err != nil {
			return c.res, fmt.Errorf("check: %w", err)
		}
	}
	if err := c.packs(ctx, readData, progress); err != nil {
		return c.res, fmt.Errorf("check: %w", err)
	}
	slices.SortFunc(c.res.Faults, func(a, b Fault) int { return cmp.Compare(a.Object, b.Object) })
	return c.res, nil
}

type checker struct {
	repo *Repo
	need map[tree.PackID]*needed

	mu  sync.Mutex // mu guards res
	res CheckResult
}

// needed is a pack that snapshots name.
type needed struct {
	size      uint32
	snapshots []string
	blobs     map[tree.Hash]tree.Blob
}

func (c *checker) fault(key Key, snapshots []string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.res.Faults = append(c.res.Faults, Fault{Object: key, Snapshots: snapshots, Cause: err.Error()})
}

// about reports whether err says that data is missing or wrong, and not that the store
// could not be asked.
func about(err error) bool {
	return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNotExist) || errors.Is(err, tree.ErrCorrupt) || errors.Is(err, tree.ErrBase)
}

func (c *checker) snapshot(ctx context.Context, s Snapshot) error {
	t, err := c.repo.Tree(ctx, s)
	if err != nil {
		if !about(err) {
			return err
		}
		c.fault(s.lies(), []string{s.Name()}, err)
		return nil
	}
	for i := range t.Packs() {
		id, size := t.Pack(i)
		n := c.need[id]
		if n == nil {
			n = &needed{size: size, blobs: map[tree.Hash]tree.Blob{}}
			c.need[id] = n
		}
		n.snapshots = append(n.snapshots, s.Name())
	}
	for i := range t.Blobs() {
		b := t.Blob(i)
		c.need[b.Pack].blobs[b.Hash] = b
	}
	return nil
}

func (c *checker) packs(ctx context.Context, readData bool, progress func(done, of int)) error {
	objects, err := c.repo.list(ctx, prefixPacks)
	if err != nil {
		return err
	}
	there := map[Key]int64{}
	for _, o := range objects {
		there[o.Key] = o.Size
	}
	c.res.Packs = len(there)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(packsAtOnce)
	done := 0
	for id, n := range c.need {
		key := PackKey(id)
		size, ok := there[key]
		delete(there, key)
		switch {
		case !ok:
			c.fault(key, n.snapshots, errors.New("the pack is missing"))
		case size != int64(n.size):
			c.fault(key, n.snapshots, fmt.Errorf("the pack has %d bytes, want %d", size, n.size))
		case readData:
			group.Go(func() error { return c.read(ctx, id, n) })
		}
		if progress != nil {
			done++
			progress(done, len(c.need))
		}
	}
	c.res.Unused = len(there)
	return group.Wait()
}

// read verifies each block of a pack, and its table.
func (c *checker) read(ctx context.Context, id tree.PackID, n *needed) error {
	body, err := c.repo.get(ctx, PackKey(id))
	if err == nil {
		err = c.verify(id, n, body)
	}
	c.mu.Lock()
	c.res.Bytes += int64(len(body))
	c.mu.Unlock()
	if err != nil && about(err) {
		c.fault(PackKey(id), n.snapshots, err)
		return nil
	}
	return err
}

func (c *checker) verify(id tree.PackID, n *needed, body []byte) error {
	if uint32(len(body)) != n.size {
		return fmt.Errorf("%d bytes, want %d: %w", len(body), n.size, ErrCorrupt)
	}
	table, err := c.repo.sealer.parsePack(id, body)
	if err != nil {
		return err
	}
	inTable := make(map[tree.Blob]bool, len(table))
	for _, b := range table {
		inTable[b] = true
		if _, err := c.repo.coder.Decode(b, body[b.Offset:b.Offset+b.Stored]); err != nil {
			return err
		}
	}
	for _, b := range n.blobs {
		if !inTable[b] {
			return fmt.Errorf("block %s is not where the index says: %w", b.Hash, ErrCorrupt)
		}
	}
	return nil
}
