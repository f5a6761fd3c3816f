package store

import (
	"context"
	"sync/atomic"
	"time"
)

// ahead is what whoever wants the lease asks first: it is asked for while valise.json is
// being read, which saves round trips. Every answer is used once, for it grows old.
type ahead struct {
	leases    *answer[Listing]   // the newest
	lease     *answer[seenLease] // read from it, unless Known has its number
	snapshots *answer[Listing]   // the newest

	leaseUsed, snapshotUsed atomic.Bool
}

// lookAhead asks. Neither listings nor leases need a key of the profile.
func (r *Repo) lookAhead(ctx context.Context) {
	b := r.plain
	a := &ahead{
		leases:    ask(func() (Listing, error) { return b.List(ctx, prefixLease, "", 1) }),
		snapshots: ask(func() (Listing, error) { return b.List(ctx, prefixSnapshots, "", 1) }),
	}
	a.lease = ask(func() (seenLease, error) {
		page, err := a.leases.wait(ctx)
		if err != nil || r.known.names(page) {
			return seenLease{}, err
		}
		return readLease(ctx, b, page)
	})
	r.ahead = a
}

// leaseAhead is the newest lease as lookAhead has seen it, the first time; else it looks.
func (r *Repo) leaseAhead(ctx context.Context) (seenLease, error) {
	a := r.ahead
	if a == nil || a.leaseUsed.Swap(true) {
		return r.lastLease(ctx)
	}
	page, err := a.leases.wait(ctx)
	if err != nil {
		return r.lastLease(ctx)
	}
	r.clock.set(page.Now, r.now())
	switch {
	case r.remembers(ctx):
		o := page.Objects[0]
		body := leaseBody{Epoch: r.known.Epoch, State: LeaseReleased, Final: true, Head: r.known.Head.key()}
		return seenLease{leaseBody: body, modified: o.Modified}, nil
	case r.known.names(page):
		return readLease(ctx, r.bucket, page)
	}
	seen, err := a.lease.wait(ctx)
	if err != nil {
		return r.lastLease(ctx)
	}
	return seen, nil
}

// headAhead is the newest snapshot as lookAhead has seen it, the first time.
func (r *Repo) headAhead(ctx context.Context) (s Snapshot, ok bool) {
	a := r.ahead
	if a == nil || a.snapshotUsed.Swap(true) {
		return s, false
	}
	page, err := a.snapshots.wait(ctx)
	if err != nil || len(page.Objects) == 0 {
		return s, false
	}
	if r.remembers(ctx) {
		r.newest.set(r.known.Head.key(), r.known.Head)
	}
	if s, ok = r.newest.of(page.Objects[0].Key); ok {
		return s, true
	}
	if s, err = r.snapshot(ctx, page.Objects[0].Key); err != nil {
		return s, false
	}
	r.newest.set(page.Objects[0].Key, s)
	return s, true
}

// Known is what a host remembers of a profile whose lease it has released: as long as that
// is the newest, nothing has happened since.
type Known struct {
	Profile  string    `json:"profile"` // its id: it may have been purged and made anew
	Epoch    uint64    `json:"epoch"`   // of the lease
	Head     Snapshot  `json:"head"`    // epoch 0 where there is none
	Released time.Time `json:"released"`
}

// names reports whether the newest lease of a listing has Known's number.
func (k *Known) names(leases Listing) bool {
	return k != nil && len(leases.Objects) > 0 && leases.Objects[0].Key == leaseKey(k.Epoch)
}

// remembers reports whether what is known of the profile still holds. The lease of a
// profile that was brought back from a backup may have the same number, and be younger.
func (r *Repo) remembers(ctx context.Context) bool {
	if r.known == nil || r.ahead == nil || r.known.Profile != r.profile.ID {
		return false
	}
	page, err := r.ahead.leases.wait(ctx)
	return err == nil && r.known.names(page) && !page.Objects[0].Modified.After(r.known.Released)
}

// Known returns what this host may remember once Release has succeeded, if head is what
// the lease says is the newest snapshot.
func (l *Lease) Known(head Snapshot) (Known, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ok := l.body.State == LeaseReleased && l.body.Final && l.body.Head == head.key()
	return Known{Profile: l.repo.profile.ID, Epoch: l.body.Epoch, Head: head, Released: l.released}, ok
}

// answer is what a function that runs in the background will return.
type answer[T any] struct {
	done  chan struct{} // closed when the rest is set
	value T
	err   error
}

func ask[T any](f func() (T, error)) *answer[T] {
	a := &answer[T]{done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.value, a.err = f()
	}()
	return a
}

func (a *answer[T]) wait(ctx context.Context) (T, error) {
	select {
	case <-a.done:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
