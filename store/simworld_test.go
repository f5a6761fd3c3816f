package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"valise/store"
	"valise/store/storetest"
)

// world is a profile on a store, and what must be true of it.
type world struct {
	t      *testing.T
	bucket storetest.Memory

	mu       sync.Mutex // mu guards the rest; each request takes effect under it
	skew     time.Duration
	parents  map[store.Key]store.Key // of every snapshot of the main line that ever was
	head     store.Key
	acked    map[store.Key]bool
	aside    map[string]bool  // names of conflicts that were acknowledged
	contents map[string]files // by the id of an index's newest part
	count    map[string]int   // of what happened
}

func newWorld(t *testing.T) *world {
	w := &world{
		t: t, parents: map[store.Key]store.Key{}, acked: map[store.Key]bool{}, aside: map[string]bool{},
		contents: map[string]files{}, count: map[string]int{},
	}
	w.bucket.Now = func() time.Time { return time.Now().Add(w.skew) }
	return w
}

// created notes a new snapshot of the main line.
func (w *world) created(key store.Key, body []byte) {
	if !strings.HasPrefix(string(key), "snapshots/") {
		return
	}
	var s struct{ Body store.Snapshot }
	if err := json.Unmarshal(body, &s); err != nil {
		w.t.Error(err)
	}
	w.parents[key] = s.Body.Parent
	if w.head != "" && key > w.head {
		return
	}
	before := w.head
	w.head = key
	if w.parents[key] == before {
		return
	}
	w.count["late heads"]++
	for key := range w.acked {
		w.wantOnLine(key)
	}
}

// wantOnLine: what was acknowledged is the head or an ancestor of it.
func (w *world) wantOnLine(want store.Key) {
	for key := w.head; key != ""; key = w.parents[key] {
		if key == want {
			return
		}
	}
	w.t.Errorf("%s: %s was acknowledged, and is no ancestor of the head %s", time.Now(), want, w.head)
	delete(w.acked, want)
}

// ack notes that a save was acknowledged.
func (w *world) ack(s store.Snapshot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.Conflict {
		w.count["aside"]++
		w.aside[s.Name()] = true
		return
	}
	w.count["acknowledged"]++
	w.acked[s.Key()] = true
	w.wantOnLine(s.Key())
}

// checkWhole: every snapshot that is there can be read, and has what its mount saved.
// With deep it reads them all, else it compares sizes.
func (w *world) checkWhole(deep bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ctx := context.Background()
	r, err := store.Open(ctx, store.Config{Bucket: &w.bucket, Now: clock})
	if err != nil {
		w.t.Error(err)
		return
	}
	defer r.Close()
	res, err := r.Check(ctx, deep, nil)
	if err != nil || len(res.Faults) > 0 {
		w.t.Errorf("%s: check: got faults %+v, %v", time.Now(), res.Faults, err)
	}
	if !deep {
		return
	}
	all, err := r.Snapshots(ctx)
	if err != nil {
		w.t.Error(err)
	}
	for _, s := range all {
		got, err := contentOf(ctx, r, s)
		if diff := cmp.Diff(w.contents[s.Index[len(s.Index)-1].ID], got); err != nil || diff != "" {
			w.t.Errorf("snapshot %s: %v, -want +got:\n%s", s.Name(), err, diff)
		}
		delete(w.aside, s.Name())
	}
	for name := range w.aside {
		w.t.Errorf("conflict %s was acknowledged, and is not there", name)
	}
}

// port is the way of one process to the store: slow, and not to be relied on.
type port struct {
	*world
	rough roughness

	rndMu sync.Mutex
	rnd   *rand.Rand
}

// roughness says how bad things are: each is the number of requests, on average,
// between two such events; 0 is never.
type roughness struct {
	drop, lose, late, suspend int
	longest                   time.Duration // that a suspend or a late request takes
}

func (r roughness) rarer(by int) roughness {
	return roughness{drop: r.drop * by, lose: r.lose * by, late: r.late * by, suspend: r.suspend * by, longest: r.longest}
}

var _ store.Bucket = (*port)(nil)

func (p *port) roll(every int) bool {
	p.rndMu.Lock()
	defer p.rndMu.Unlock()
	return every > 0 && p.rnd.IntN(every) == 0
}

// upTo is a random time.
func (p *port) upTo(d time.Duration) time.Duration {
	p.rndMu.Lock()
	defer p.rndMu.Unlock()
	return time.Duration(p.rnd.Int64N(int64(d)))
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// do has the effect of a request, or not, at some time.
func (p *port) do(ctx context.Context, effect func(context.Context) error) error {
	now := func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		return effect(context.WithoutCancel(ctx))
	}
	unavailable := func(why string) error { return fmt.Errorf("%w: %s", store.ErrUnavailable, why) }
	if p.roll(p.rough.suspend) {
		time.Sleep(p.upTo(p.rough.longest)) // whatever ctx says: a process in suspend does not look
	}
	if err := pause(ctx, p.upTo(200*time.Millisecond)); err != nil {
		return err
	}
	switch {
	case p.roll(p.rough.drop):
		return unavailable("dropped")
	case p.roll(p.rough.late):
		delay := p.upTo(p.rough.longest)
		time.AfterFunc(delay, func() { _ = now() })
		return unavailable("no answer")
	}
	err := now()
	if p.roll(p.rough.suspend) {
		time.Sleep(p.upTo(p.rough.longest))
	}
	if p.roll(p.rough.lose) {
		return unavailable("the answer is lost")
	}
	if pauseErr := pause(ctx, p.upTo(200*time.Millisecond)); pauseErr != nil {
		return pauseErr
	}
	return err
}

func (p *port) Put(ctx context.Context, key store.Key, body []byte) error {
	return p.do(ctx, func(ctx context.Context) error { return p.bucket.Put(ctx, key, body) })
}

func (p *port) Create(ctx context.Context, key store.Key, body []byte) error {
	return p.do(ctx, func(ctx context.Context) error {
		err := p.bucket.Create(ctx, key, body)
		if err == nil {
			p.created(key, body)
		}
		return err
	})
}

// A late answer to a question is as none: only a write may arrive late.

func (p *port) Get(ctx context.Context, key store.Key) (body []byte, err error) {
	var got []byte
	err = p.do(ctx, func(ctx context.Context) (err error) {
		body, err := p.bucket.Get(ctx, key)
		got = body
		return err
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

func (p *port) GetRange(ctx context.Context, key store.Key, offset int64, q []byte) error {
	got := make([]byte, len(q))
	err := p.do(ctx, func(ctx context.Context) error { return p.bucket.GetRange(ctx, key, offset, got) })
	if err == nil {
		copy(q, got)
	}
	return err
}

func (p *port) List(ctx context.Context, prefix, after store.Key, limit int) (store.Listing, error) {
	var got store.Listing
	err := p.do(ctx, func(ctx context.Context) (err error) {
		got, err = p.bucket.List(ctx, prefix, after, limit)
		return err
	})
	if err != nil {
		return store.Listing{}, err
	}
	return got, nil
}

func (p *port) Delete(ctx context.Context, keys ...store.Key) error {
	keys = append([]store.Key(nil), keys...)
	return p.do(ctx, func(ctx context.Context) error { return p.bucket.Delete(ctx, keys...) })
}

// saving notes what an index has.
func (p *port) saving(m *mount) func(index []store.Index) {
	return func(index []store.Index) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.contents[index[len(index)-1].ID] = maps.Clone(m.files)
	}
}
