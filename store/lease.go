package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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
	Nonce string        `json:"nonce"` // of the holder: the same in all the epochs it takes
	State LeaseState    `json:"state"`
	TTL   time.Duration `json:"ttl_ns"`
	Head  Key           `json:"head,omitempty"` // the newest snapshot that the holder knows

	// Final, of a released lease: Head was found under this lease or committed under it.
	Final bool `json:"final,omitempty"`
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

	until atomic.Int64 // by the repo's clock, in ns: from here on others may take over

	mu       sync.Mutex // mu guards the rest; it is held during requests, which it orders
	body     leaseBody
	before   seenLease // the epoch before the first that it took
	line     *Key      // the head as HeadUnder or Commit knew it last, "" for none
	seen     time.Time // the store's clock when HeadUnder looked
	released time.Time // the latest that the store's clock can have shown at Release
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
	l := &Lease{repo: r, body: leaseBody{Host: c.Host, Mount: c.Mount, Nonce: NewID(), State: LeaseActive, TTL: c.TTL}}
	look := r.leaseAhead
	for slow := (retry{}); ; look = r.lastLease {
		last, err := look(ctx)
		if err != nil {
			return nil, fmt.Errorf("take the lease: %w", err)
		}
		if last.held() && last.Mount != c.Mount {
			return nil, &HeldError{Host: last.Host, Mount: last.Mount, State: last.State, Left: last.left}
		}
		l.body.Head, l.before = last.Head, last
		switch err := l.take(ctx, last.Epoch+1); {
		case err == nil:
			return l, nil
		case !errors.Is(err, ErrExist):
			return nil, fmt.Errorf("take the lease: %w", err)
		}
		// Somebody was faster: look who.
		if err := slow.wait(ctx, "take the lease: the store does not show who has it"); err != nil {
			return nil, err
		}
	}
}

// take takes the epoch, or returns ErrExist.
func (l *Lease) take(ctx context.Context, epoch uint64) error {
	started := l.repo.now()
	body := l.body
	body.Epoch = epoch
	data, err := seal(formatLease, body)
	if err != nil {
		return err
	}
	if err := l.repo.createOnce(ctx, leaseKey(epoch), data); err != nil {
		return err
	}
	l.body = body
	l.until.Store(int64(started + body.TTL))
	return nil
}

// seenLease is a lease as found on the store.
type seenLease struct {
	leaseBody
	left     time.Duration
	modified time.Time // by the store's clock
}

func (s seenLease) held() bool { return s.State != "" && s.State != LeaseReleased && s.left > 0 }

// lastLease returns the lease of the newest epoch; epoch 0 is the one before the first.
func (r *Repo) lastLease(ctx context.Context) (seenLease, error) {
	page, err := r.bucket.List(ctx, prefixLease, "", 1)
	if err != nil {
		return seenLease{}, err
	}
	r.clock.set(page.Now, r.now())
	return readLease(ctx, r.bucket, page)
}

// readLease reads the newest lease of a listing.
func readLease(ctx context.Context, b Bucket, page Listing) (seenLease, error) {
	if len(page.Objects) == 0 {
		return seenLease{}, nil
	}
	o := page.Objects[0]
	epoch, err := epochOf(o.Key)
	if err != nil {
		return seenLease{}, err
	}
	data, err := get(ctx, b, o.Key)
	if err != nil {
		return seenLease{}, err
	}
	s := seenLease{modified: o.Modified}
	if err := unseal(o.Key, formatLease, data, &s.leaseBody); err != nil {
		return seenLease{}, err
	}
	if s.Epoch != epoch {
		return seenLease{}, fmt.Errorf("%s: %w: it says that it is epoch %d", o.Key, ErrCorrupt, s.Epoch)
	}
	s.left = o.Modified.Add(s.TTL + leaseMargin).Sub(page.Now)
	return s, nil
}

func epochOf(key Key) (uint64, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(string(key), string(prefixLease)), 16, 64)
	if err != nil || leaseKey(math.MaxUint64-n) != key {
		return 0, fmt.Errorf("%s: %w: not the name of a lease", key, ErrCorrupt)
	}
	return math.MaxUint64 - n, nil
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

// Left is the time in which nobody else can have taken over, as far as clocks tell. At
// 0 the holder must not rely on the lease before Renew has succeeded.
func (l *Lease) Left() time.Duration {
	return max(0, time.Duration(l.until.Load())-l.repo.now())
}

// Renew makes the lease last for another TTL. If it ran out, and somebody else took
// over, it is ErrLeaseLost; if nobody did, a new epoch is taken.
func (l *Lease) Renew(ctx context.Context) error { return l.set(ctx, "") }

// Drain renews the lease and says that the session is over.
func (l *Lease) Drain(ctx context.Context) error { return l.set(ctx, LeaseDraining) }

// Resume renews the lease and says that a session is using the profile again.
func (l *Lease) Resume(ctx context.Context) error { return l.set(ctx, LeaseActive) }

// Release gives the lease back. Whether it succeeds or not, the lease has no time left
// afterwards, for another mount may have taken over.
func (l *Lease) Release(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until.Store(0)
	l.body.State, l.body.Final = LeaseReleased, l.line != nil
	if err := l.write(ctx); err != nil {
		return fmt.Errorf("release the lease: %w", err)
	}
	l.released = l.repo.clock.latest(l.repo.now())
	return nil
}

func (l *Lease) set(ctx context.Context, state LeaseState) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if state != "" {
		l.body.State = state
	}
	if err := l.renew(ctx); err != nil {
		return fmt.Errorf("renew the lease: %w", err)
	}
	return nil
}

// renew has l.mu held.
func (l *Lease) renew(ctx context.Context) error {
	left := l.Left()
	if left == 0 {
		return l.again(ctx)
	}
	// A renewal that is not done in time must not linger.
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	started := l.repo.now()
	if err := l.write(ctx); err != nil {
		return err
	}
	l.until.Store(int64(started + l.body.TTL))
	return nil
}

// write overwrites the object of the lease's own epoch. That is no harm even if
// another mount has taken over: nobody looks at an epoch that is not the newest.
func (l *Lease) write(ctx context.Context) error {
	data, err := seal(formatLease, l.body)
	if err != nil {
		return err
	}
	return l.repo.bucket.Put(ctx, leaseKey(l.body.Epoch), data)
}

// again takes a new epoch after the lease ran out or was released, unless somebody
// else did.
func (l *Lease) again(ctx context.Context) error {
	if l.body.State == LeaseReleased {
		l.body.State, l.body.Final = LeaseActive, false
	}
	for slow := (retry{}); ; {
		last, err := l.repo.lastLease(ctx)
		if err != nil {
			return err
		}
		// An own try whose answer was lost may have got further than this knows.
		if last.Epoch >= l.body.Epoch && last.Nonce != l.body.Nonce {
			return fmt.Errorf("%w: host %q", ErrLeaseLost, last.Host)
		}
		err = l.take(ctx, max(last.Epoch, l.body.Epoch)+1)
		if !errors.Is(err, ErrExist) {
			return err
		}
		if err := slow.wait(ctx, "the store does not show who has the lease"); err != nil {
			return err
		}
	}
}

// fence proves, without a clock, that nobody had taken over when it was called: whoever
// does so later looks for the head afterwards, and finds what was committed before.
func (l *Lease) fence(ctx context.Context) error {
	for slow := (retry{}); ; {
		page, err := l.repo.bucket.List(ctx, prefixLease, "", 1)
		if err != nil {
			return err
		}
		l.repo.clock.set(page.Now, l.repo.now())
		newest := uint64(0)
		if len(page.Objects) > 0 {
			if newest, err = epochOf(page.Objects[0].Key); err != nil {
				return err
			}
		}
		switch {
		case newest == l.body.Epoch:
			return nil
		case newest > l.body.Epoch:
			return ErrLeaseLost
		}
		if err := slow.wait(ctx, "the store does not show the lease"); err != nil {
			return err
		}
	}
}

// HeadUnder returns the newest snapshot as the new holder of l must see it: the zero
// Snapshot of an empty profile, and never one that is older than what the last holder
// knew.
func (r *Repo) HeadUnder(ctx context.Context, l *Lease) (Snapshot, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if head, ok := r.finalHead(l); ok {
		return head, nil
	}
	for slow := (retry{}); ; {
		head, at, err := r.head(ctx)
		if err != nil && !errors.Is(err, ErrNoSnapshot) {
			return Snapshot{}, err
		}
		key := head.key()
		if !older(key, l.body.Head) {
			l.body.Head, l.line, l.seen = key, &key, at.now
			return head, nil
		}
		if err := slow.wait(ctx, fmt.Sprintf("the store does not show the snapshot %s that the last holder saved", l.body.Head)); err != nil {
			return Snapshot{}, err
		}
	}
}

// finalHead is the head that the last holder left for good, if that is at hand: l is the
// next epoch, so that nobody can have committed since.
func (r *Repo) finalHead(l *Lease) (Snapshot, bool) {
	last := l.before
	if last.State != LeaseReleased || !last.Final || l.body.Epoch != last.Epoch+1 || l.body.Head != last.Head {
		return Snapshot{}, false
	}
	head, ok := r.newest.of(last.Head)
	if ok {
		l.line, l.seen = &last.Head, last.modified // what is younger came too late
	}
	return head, ok
}

// older reports whether a snapshot was made before another one; "" is before the first.
func older(key, than Key) bool {
	// The newest sorts first.
	return than != "" && (key == "" || key > than)
}
