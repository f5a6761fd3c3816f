package store_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"valise/store"
)

var simSeeds = flag.Int("sim", 1, "number of seeds of the simulation")

// simulation is a few hosts that use one profile for some time.
type simulation struct {
	hours int
	hosts int
	rough roughness
	skew  time.Duration // that the store's clock is off, at most
	wild  bool          // the hosts' clocks tell nothing
	prune bool          // with a grace of two hours
}

var simulations = map[string]simulation{
	"calm": {hours: 12, hosts: 3, skew: time.Second, prune: true},
	"rough": {
		hours: 16, hosts: 4, skew: 10 * time.Minute, prune: true,
		rough: roughness{drop: 200, lose: 200, late: 200, suspend: 400, longest: 90 * time.Minute},
	},
	"clocks that tell nothing": {
		hours: 16, hosts: 4, skew: 100 * time.Hour, wild: true,
		rough: roughness{drop: 100, lose: 50, late: 50, suspend: 50, longest: 5 * time.Minute},
	},
}

// What was acknowledged stays, whatever happens; every snapshot that is there is whole,
// although a prune runs beside the mounts.
func TestSimulation(t *testing.T) {
	for name, sim := range simulations {
		for seed := range *simSeeds {
			t.Run(fmt.Sprintf("%s, seed %d", name, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { sim.run(t, uint64(seed)) })
			})
		}
	}
}

func (sim simulation) run(t *testing.T, seed uint64) {
	w := newWorld(t)
	end := time.Now().Add(time.Duration(sim.hours) * time.Hour)
	over := func() bool { return t.Failed() || time.Now().After(end) }
	var actors sync.WaitGroup
	for i := range sim.hosts {
		h := &host{port: sim.port(w, seed<<8+uint64(i)), name: fmt.Sprint("host", i), clock: sim.clock(seed<<16 + uint64(i))}
		actors.Go(func() {
			for !over() {
				h.session()
			}
		})
	}
	if sim.prune {
		p := sim.port(w, seed<<8+255)
		p.rough = p.rough.rarer(20) // it makes so many requests that it would never get through
		actors.Go(func() {
			for !over() {
				time.Sleep(p.upTo(time.Hour))
				p.pruneOnce()
			}
		})
	}
	actors.Go(func() {
		p := sim.port(w, seed<<8+254)
		for i := 0; !over(); i++ {
			time.Sleep(p.upTo(2 * time.Hour))
			w.mu.Lock()
			w.skew = p.upTo(2*sim.skew) - sim.skew
			started := len(w.acked) > 0
			w.mu.Unlock()
			if started {
				w.checkWhole(false)
			}
		}
	})
	actors.Wait()
	time.Sleep(2 * sim.rough.longest) // what is late arrives
	w.checkWhole(true)
	t.Logf("%v", w.count)
	for _, what := range []string{"acknowledged", "mounted"} {
		if w.count[what] < 20 {
			t.Errorf("%s: got %d, too few to tell anything", what, w.count[what])
		}
	}
}

func (sim simulation) port(w *world, seed uint64) *port {
	return &port{world: w, rough: sim.rough, rnd: rand.New(rand.NewPCG(seed, 1))}
}

// clock is that of a host, a wild one if need be.
func (sim simulation) clock(seed uint64) func() time.Duration {
	if !sim.wild {
		return clock
	}
	var mu sync.Mutex
	rnd := rand.New(rand.NewPCG(seed, 2))
	return func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(rnd.Int64N(int64(2 * time.Minute)))
	}
}

// host mounts the profile again and again.
type host struct {
	*port
	name  string
	clock func() time.Duration
	left  *mount       // behind by a crash, with what is not saved
	known *store.Known // of the last mount that came to a good end
	n     int
}

func (h *host) note(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.world.count[what]++
}

// session is one mount, from its begin to a good or bad end.
func (h *host) session() {
	ctx := context.Background()
	r, err := store.OpenOrCreate(ctx, store.Config{Bucket: h.port, Now: h.clock, Ahead: true, Known: h.known})
	if err != nil {
		time.Sleep(h.upTo(time.Minute))
		return
	}
	defer r.Close()
	if h.roll(2) { // as a session does, beside the taking of the lease
		_, _ = r.Head(ctx)
	}
	m, err := h.mount(ctx, r)
	if err != nil {
		if held := (*store.HeldError)(nil); !errors.As(err, &held) && !errors.Is(err, store.ErrUnavailable) {
			h.t.Errorf("%s: mount: %v", h.name, err)
		}
		time.Sleep(h.upTo(2 * time.Minute))
		return
	}
	h.note("mounted")
	for range 1 + h.upTo(20) {
		h.use(m)
		if h.roll(30) {
			h.note("crashed")
			h.left = m
			time.Sleep(h.upTo(10 * time.Minute))
			return
		}
		h.save(ctx, m)
	}
	h.finish(ctx, m)
	time.Sleep(h.upTo(30 * time.Minute))
}

// mount begins a new mount, or goes on with what a crash left.
func (h *host) mount(ctx context.Context, r *store.Repo) (*mount, error) {
	old := h.left
	if old == nil || old.lost {
		h.left = nil
		h.n++
		m, err := begin(ctx, r, store.Claim{Host: h.name, Mount: fmt.Sprintf("%s-%d", h.name, h.n)})
		if err == nil {
			m.saving = h.saving(m)
		}
		return m, err
	}
	m := &mount{repo: r, claim: old.claim, base: old.base, from: old.from, saved: old.saved, files: old.files}
	m.writer = r.NewWriter(m.base, nil)
	m.saving = h.saving(m)
	var err error
	if m.lease, err = r.Acquire(ctx, m.claim); err != nil {
		return nil, err
	}
	head, err := r.HeadUnder(ctx, m.lease)
	if err != nil {
		return nil, err
	}
	h.left = nil
	switch {
	case head.Epoch != 0 && head.Mount == m.claim.Mount:
		m.saved = head
	case head.Nonce != m.saved.Nonce:
		m.lost = true
		h.note("gone on without it")
	}
	return m, nil
}

// use changes a file to something new or something that was there before, and keeps
// the lease, for some time.
func (h *host) use(m *mount) {
	for range 1 + h.upTo(3) {
		body := fmt.Sprint(h.upTo(20))
		if h.roll(3) {
			body = fmt.Sprint(h.name, time.Now().UnixNano())
		}
		m.files[fmt.Sprint("file", h.upTo(5))] = body
	}
	for range h.upTo(8) {
		time.Sleep(h.upTo(30 * time.Second))
		if m.lost {
			continue
		}
		err := m.lease.Renew(context.Background())
		switch {
		case errors.Is(err, store.ErrLeaseLost):
			m.lost = true
			h.note("lost while it renewed")
		case err != nil && !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded):
			h.t.Errorf("%s: renew: %v", h.name, err)
		}
	}
}

// save tries once, not for too long.
func (h *host) save(ctx context.Context, m *mount) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second+h.upTo(time.Minute))
	defer cancel()
	lost := m.lost
	err := m.save(ctx)
	if m.lost && !lost {
		h.note("lost while it saved")
	}
	switch {
	case err == nil:
		h.ack(m.saved)
	case errors.Is(err, store.ErrMarked):
		h.note("marked twice")
	case !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded):
		h.t.Errorf("%s: save: %v", h.name, err)
	}
	return err == nil
}

// finish saves what is left, however long that takes, and gives the lease back.
func (h *host) finish(ctx context.Context, m *mount) {
	_ = m.lease.Drain(ctx)
	for !h.save(ctx, m) {
		if h.t.Failed() {
			return
		}
		time.Sleep(h.upTo(time.Minute))
	}
	if !m.lost && m.lease.Release(ctx) == nil {
		if known, ok := m.lease.Known(m.saved); ok {
			h.known = &known
			h.note("known")
		}
	}
	_ = m.repo.Unpin(ctx, m.claim.Mount)
}

// pruneOnce prunes, and forgets some of the conflicts.
func (p *port) pruneOnce() {
	ctx := context.Background()
	r, err := store.Open(ctx, store.Config{Bucket: p, Now: clock})
	if err != nil {
		return
	}
	defer r.Close()
	keep := store.Retention{Last: 3, Daily: 2, Grace: 2 * time.Hour}
	all, err := r.Snapshots(ctx)
	if err != nil {
		return
	}
	p.mu.Lock()
	for _, s := range all {
		if s.Conflict && p.aside[s.Name()] {
			keep.Forget = append(keep.Forget, s.Name())
			delete(p.aside, s.Name()) // it may be gone from here on
		}
	}
	p.mu.Unlock()
	res, err := r.Prune(ctx, keep)
	if err != nil && !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrNoSnapshot) {
		p.t.Errorf("prune: %v", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count["deleted"] += res.Deleted
	p.count["forgotten"] += len(res.Forgotten)
}
