package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"
)

// LeaseState is what the holder of a lease is doing.
type LeaseState string

// The states of a lease.
const (
	LeaseActive   LeaseState = "active"   // a session is using the profile
	LeaseDraining LeaseState = "draining" // logged out, the last upload goes on
	LeaseReleased LeaseState = "released" // everything is saved
)

// leaseMargin is added to a lease's time by those who judge it by the store's clock,
// which counts whole seconds.
const leaseMargin = 5 * time.Second

// DefaultLease is how long a lease holds without being renewed.
const DefaultLease = time.Minute

// leaseBody is the object at lease/<epoch>.
type leaseBody struct {
	Epoch uint64        `json:"epoch"`
	Host  string        `json:"host"`
	Mount string        `json:"mount"`
	Nonce string        `json:"nonce"`
	State LeaseState    `json:"state"`
	TTL   time.Duration `json:"ttl_ns"`
	Head  Key           `json:"head,omitempty"` // the newest snapshot that the holder knows
}

func leaseKey(epoch uint64) Key { return prefixLease + Key(fmt.Sprintf("%016x", math.MaxUint64-epoch)) }

// ErrLeaseLost says that another mount has taken the profile over.
var ErrLeaseLost = errors.New("another host has taken the profile over")

// HeldError says who holds the lease.
type HeldError struct {
	Host, Mount string
	State       LeaseState
	Left        time.Duration // until it expires unless it is renewed
}

func (e *HeldError) Error() string {
	if e.State == LeaseDraining {
		return fmt.Sprintf("the profile is still being saved by host %q", e.Host)
	}
	return fmt.Sprintf("the profile is in use on host %q", e.Host)
}

// Lease is the right to commit snapshots in an epoch. Its methods may be called by
// several goroutines.
type Lease struct {
	repo *Repo
	ttl  time.Duration

	mu    sync.Mutex // mu guards the rest; it is held during requests, which it orders
	body  leaseBody
	until time.Duration // by the repo's clock: from here on others may take over
}

// Claim says who asks for a lease.
type Claim struct {
	Host  string
	Mount string // a lease that this mount holds already is taken up again
	TTL   time.Duration
}

// Acquire takes the lease: a new epoch, if the last one is released, has expired by
// the store's clock or is the claimant's own. Else the error is a *HeldError.
func (r *Repo) Acquire(ctx context.Context, c Claim) (*Lease, error) {
	if c.TTL == 0 {
		c.TTL = DefaultLease
	}
	for {
		last, err := r.lastLease(ctx)
		if err != nil {
			return nil, fmt.Errorf("take the lease: %w", err)
		}
		if last.held() && last.Mount != c.Mount {
			return nil, &HeldError{Host: last.Host, Mount: last.Mount, State: last.State, Left: last.left}
		}
		l := &Lease{repo: r, ttl: c.TTL, body: leaseBody{
			Epoch: last.Epoch + 1, Host: c.Host, Mount: c.Mount, State: LeaseActive, TTL: c.TTL, Head: last.Head,
		}}
		switch err := l.create(ctx); {
		case err == nil:
			return l, nil
		case !errors.Is(err, ErrExist):
			return nil, fmt.Errorf("take the lease: %w", err)
		}
		// Somebody was faster: look who.
	}
}

// create takes the epoch in l.body.
func (l *Lease) create(ctx context.Context) error {
	started := l.repo.now()
	l.body.Nonce = NewID()
	data, err := seal(formatLease, l.body)
	if err != nil {
		return err
	}
	if err := l.repo.createOnce(ctx, leaseKey(l.body.Epoch), data); err != nil {
		return err
	}
	l.until = started + l.ttl
	return nil
}

// seenLease is a lease as found on the store.
type seenLease struct {
	leaseBody
	left time.Duration
}

func (s seenLease) held() bool { return s.State != "" && s.State != LeaseReleased && s.left > 0 }

// lastLease returns the lease of the newest epoch; epoch 0 is the one before the first.
func (r *Repo) lastLease(ctx context.Context) (seenLease, error) {
	page, err := r.bucket.List(ctx, prefixLease, "", 1)
	if err != nil || len(page.Objects) == 0 {
		return seenLease{}, err
	}
	o := page.Objects[0]
	epoch, err := strconv.ParseUint(strings.TrimPrefix(string(o.Key), string(prefixLease)), 16, 64)
	if err != nil {
		return seenLease{}, fmt.Errorf("%s: not the name of a lease", o.Key)
	}
	data, err := r.bucket.Get(ctx, o.Key)
	if err != nil {
		return seenLease{}, err
	}
	s := seenLease{}
	if err := unseal(o.Key, formatLease, data, &s.leaseBody); err != nil {
		return seenLease{}, err
	}
	if s.Epoch != math.MaxUint64-epoch {
		return seenLease{}, fmt.Errorf("%s: %w: it says that it is epoch %d", o.Key, ErrCorrupt, s.Epoch)
	}
	s.left = o.Modified.Add(s.TTL + leaseMargin).Sub(page.Now)
	return s, nil
}

// Holder returns who holds the lease now, or nil.
func (r *Repo) Holder(ctx context.Context) (*HeldError, error) {
	last, err := r.lastLease(ctx)
	if err != nil || !last.held() {
		return nil, err
	}
	return &HeldError{Host: last.Host, Mount: last.Mount, State: last.State, Left: last.left}, nil
}

// Epoch is the number of the lease.
func (l *Lease) Epoch() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.body.Epoch
}

// Left is the time in which nobody else can have taken over. At 0 the holder must not
// commit before Renew has succeeded.
func (l *Lease) Left() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.left()
}

func (l *Lease) left() time.Duration { return max(0, l.until-l.repo.now()) }

// Renew makes the lease last for another TTL. If it ran out, and somebody else took
// over, it is ErrLeaseLost; if nobody did, a new epoch is taken.
func (l *Lease) Renew(ctx context.Context) error { return l.set(ctx, "", "") }

// Drain renews the lease and says that the session is over.
func (l *Lease) Drain(ctx context.Context) error { return l.set(ctx, LeaseDraining, "") }

// Resume renews the lease and says that a session is using the profile again.
func (l *Lease) Resume(ctx context.Context) error { return l.set(ctx, LeaseActive, "") }

// Release gives the lease back.
func (l *Lease) Release(ctx context.Context) error { return l.set(ctx, LeaseReleased, "") }

func (l *Lease) set(ctx context.Context, state LeaseState, head Key) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if state != "" {
		l.body.State = state
	}
	if head != "" {
		l.body.Head = head
	}
	return l.renew(ctx)
}

// renew has l.mu held.
func (l *Lease) renew(ctx context.Context) error {
	if l.left() == 0 {
		return l.again(ctx)
	}
	// A renewal that is not done in time must not be believed, nor linger.
	ctx, cancel := context.WithTimeout(ctx, l.left())
	defer cancel()
	started := l.repo.now()
	l.body.Nonce = NewID()
	data, err := seal(formatLease, l.body)
	if err != nil {
		return err
	}
	if err := l.repo.bucket.Put(ctx, leaseKey(l.body.Epoch), data); err != nil {
		return fmt.Errorf("renew the lease: %w", err)
	}
	l.until = started + l.ttl
	return nil
}

// again takes a new epoch after the lease ran out, unless somebody else did.
func (l *Lease) again(ctx context.Context) error {
	last, err := l.repo.lastLease(ctx)
	if err != nil {
		return fmt.Errorf("renew the lease: %w", err)
	}
	if last.Epoch != l.body.Epoch || last.Mount != l.body.Mount {
		return fmt.Errorf("%w: host %q", ErrLeaseLost, last.Host)
	}
	l.body.Epoch++
	if err := l.create(ctx); err != nil {
		l.body.Epoch--
		if errors.Is(err, ErrExist) {
			return ErrLeaseLost
		}
		return fmt.Errorf("renew the lease: %w", err)
	}
	return nil
}

// HeadUnder returns the newest snapshot as the new holder of l must see it: the zero
// Snapshot of an empty profile, and never one that is older than what the last holder
// knew.
func (r *Repo) HeadUnder(ctx context.Context, l *Lease) (Snapshot, error) {
	l.mu.Lock()
	known := l.body.Head
	l.mu.Unlock()
	var head Snapshot
	var err error
	for wait := 100 * time.Millisecond; ; wait *= 2 {
		head, err = r.Head(ctx)
		if err != nil && !errors.Is(err, ErrNoSnapshot) {
			return Snapshot{}, err
		}
		// The newest sorts first.
		if known == "" || err == nil && head.Key() <= known {
			return head, nil
		}
		if wait > 5*time.Second {
			return Snapshot{}, fmt.Errorf("the store does not show the snapshot %s that the last holder saved: %w", known, ErrUnavailable)
		}
		select {
		case <-ctx.Done():
			return Snapshot{}, ctx.Err()
		case <-time.After(wait):
		}
	}
}
