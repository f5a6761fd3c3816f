package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"valise/store"
	"valise/store/storetest"
)

// wantHolder checks what Holder says, with how long the lease lasts.
func wantHolder(t *testing.T, r *store.Repo, want *store.HeldError) {
	t.Helper()
	got, err := r.Holder(t.Context())
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("holder: %v, -want +got:\n%s", err, diff)
	}
}

func TestLeaseStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &storetest.Memory{}
		r := open(t, b)
		wantHolder(t, r, nil)
		a := mustBegin(t, r, "a")
		full := store.DefaultLease + 5*time.Second
		held := func(state store.LeaseState, left time.Duration) *store.HeldError {
			return &store.HeldError{Host: "a", Mount: "a-mount", State: state, Left: left}
		}
		wantHolder(t, r, held(store.LeaseActive, full))

		time.Sleep(40 * time.Second)
		wantHolder(t, r, held(store.LeaseActive, full-40*time.Second))
		if got, want := a.lease.Left(), 20*time.Second; got != want {
			t.Errorf("left: got %s, want %s", got, want)
		}
		for _, step := range []struct {
			do   func(*store.Lease, context.Context) error
			want *store.HeldError
		}{
			{(*store.Lease).Renew, held(store.LeaseActive, full)},
			{(*store.Lease).Drain, held(store.LeaseDraining, full)},
			{(*store.Lease).Renew, held(store.LeaseDraining, full)},
			{(*store.Lease).Resume, held(store.LeaseActive, full)},
			{(*store.Lease).Release, nil},
		} {
			if err := step.do(a.lease, t.Context()); err != nil {
				t.Fatal(err)
			}
			wantHolder(t, r, step.want)
			_, err := r.Acquire(t.Context(), store.Claim{Host: "b", Mount: "b-mount"})
			var refused *store.HeldError
			if step.want != nil && (!errors.As(err, &refused) || !cmp.Equal(step.want, refused)) {
				t.Errorf("acquire: got error %+v, want %+v", err, step.want)
			}
			if step.want == nil && err != nil {
				t.Errorf("acquire after the release: got error %v", err)
			}
		}
	})
}

// A lease that was released has no time left, and comes back with a new epoch if
// nobody else took it.
func TestReleasedLease(t *testing.T) {
	for _, taken := range []bool{false, true} {
		t.Run(fmt.Sprintf("taken %t", taken), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &storetest.Memory{}
				a := mustBegin(t, open(t, b), "a")
				if err := a.lease.Release(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := a.lease.Left(); got != 0 {
					t.Errorf("left after the release: got %s, want 0", got)
				}
				if taken {
					mustBegin(t, open(t, b), "b")
				}
				a.files = filesA
				a.mustSave(t)
				if a.lost != taken {
					t.Errorf("lost: got %t, want %t", a.lost, taken)
				}
				if !taken {
					wantHolder(t, a.repo, &store.HeldError{
						Host: "a", Mount: "a-mount", State: store.LeaseActive, Left: store.DefaultLease + 5*time.Second,
					})
				}
			})
		})
	}
}

// Others judge by the store's clock, the holder by its own.
func TestLeaseExpiry(t *testing.T) {
	for _, tt := range []struct {
		name  string
		store time.Duration // that the store's clock says has passed
		host  time.Duration // that the holder's says
		held  bool          // for others
		left  bool          // for the holder
	}{
		{"at once", 0, 0, true, true},
		{"the holder's time is over, the margin goes on", time.Minute, time.Minute, true, false},
		{"at the end of the margin", 65 * time.Second, 65 * time.Second, false, false},
		{"the store's clock was put back", -time.Hour, time.Hour, true, false},
		{"the holder was suspended", 0, time.Hour, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at, now := time.Unix(1e9, 0), time.Duration(0)
			b := &storetest.Memory{Now: func() time.Time { return at }}
			open(t, b)
			r, err := store.Open(t.Context(), store.Config{Bucket: b, Now: func() time.Duration { return now }, Encryption: underTest})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			a := mustBegin(t, r, "a")
			at, now = at.Add(tt.store), now+tt.host
			if got := a.lease.Left() > 0; got != tt.left {
				t.Errorf("the holder has time left: got %t, want %t", got, tt.left)
			}
			_, err = r.Acquire(t.Context(), store.Claim{Host: "b", Mount: "b-mount"})
			var held *store.HeldError
			if got := errors.As(err, &held); got != tt.held || err != nil && !got {
				t.Errorf("acquire: got error %v, want it held: %t", err, tt.held)
			}
		})
	}
}

func TestRenewAfterExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &storetest.Memory{}
		a := mustBegin(t, open(t, b), "a")
		time.Sleep(expire)
		if err := a.lease.Renew(t.Context()); err != nil || a.lease.Epoch() != 2 {
			t.Errorf("renew of an expired lease: got epoch %d, %v, want 2", a.lease.Epoch(), err)
		}
		time.Sleep(expire)
		mustBegin(t, open(t, b), "b")
		wantErr(t, a.lease.Renew(t.Context()), store.ErrLeaseLost)
		a.files = filesA
		a.mustSave(t)
		wantAside(t, a)
	})
}

// A holder that takes a new epoch and does not learn of it has not lost to itself.
func TestOwnEchoOfALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := storetest.NewFaulty(t, &storetest.Memory{})
		a := mustBegin(t, open(t, f), "a")
		time.Sleep(expire)
		f.Add(
			storetest.Step{N: 1, Method: storetest.Create, Key: "lease/", Fault: storetest.Lose},
			storetest.Step{N: 2, Method: storetest.Get, Key: "lease/", Fault: storetest.Drop}, // the first one is of the old epoch
		)
		wantErr(t, a.lease.Renew(t.Context()), store.ErrUnavailable)
		if err := a.lease.Drain(t.Context()); err != nil {
			t.Errorf("second try: got error %v", err)
		}
		a.files = filesA
		a.mustSave(t)
		if a.lost {
			t.Error("the mount has lost the lease to itself")
		}
	})
}

// A renewal or release that arrives late changes nothing for a new holder.
func TestLateRenewal(t *testing.T) {
	for name, do := range map[string]func(*store.Lease, context.Context) error{
		"renew": (*store.Lease).Renew, "release": (*store.Lease).Release,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				plain := &storetest.Memory{}
				held := &late{Bucket: plain, prefix: "-"}
				a := mustBegin(t, open(t, held), "a")
				held.prefix = "lease/"
				wantErr(t, do(a.lease, t.Context()), store.ErrUnavailable)
				time.Sleep(expire)
				b := mustBegin(t, open(t, plain), "b")
				held.arrive()
				wantHolder(t, b.repo, &store.HeldError{Host: "b", Mount: "b-mount", State: store.LeaseActive, Left: store.DefaultLease + 5*time.Second})
				wantErr(t, a.lease.Renew(t.Context()), store.ErrLeaseLost)
				b.files = filesB
				b.mustSave(t)
				wantHead(t, plain, filesB)
			})
		})
	}
}

// Nor for the holder itself, which has gone on in a new epoch.
func TestLateReleaseUnderALiveLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plain := &storetest.Memory{}
		held := &late{Bucket: plain, prefix: "-"}
		a := mustBegin(t, open(t, held), "a")
		held.prefix = "lease/"
		wantErr(t, a.lease.Release(t.Context()), store.ErrUnavailable)
		if err := a.lease.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		held.arrive()
		wantHolder(t, a.repo, &store.HeldError{Host: "a", Mount: "a-mount", State: store.LeaseActive, Left: store.DefaultLease + 5*time.Second})
	})
}

func TestOneOfManyTakesTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &storetest.Memory{}
		open(t, b)
		var won atomic.Int64
		var hosts sync.WaitGroup
		for i := range 20 {
			r := open(t, b)
			hosts.Go(func() {
				_, err := r.Acquire(t.Context(), store.Claim{Host: "h", Mount: fmt.Sprint(i)})
				var held *store.HeldError
				switch {
				case err == nil:
					won.Add(1)
				case !errors.As(err, &held):
					t.Errorf("acquire: got error %v", err)
				}
			})
		}
		hosts.Wait()
		if got := won.Load(); got != 1 {
			t.Errorf("got %d holders, want 1", got)
		}
	})
}

// Many mounts save as fast as they can, and take the lease from each other because
// their leases are short: every save is found under the name it got, on the main line
// or beside it.
func TestManySaveAtOnce(t *testing.T) {
	b := &storetest.Memory{}
	open(t, b)
	var mu sync.Mutex
	saved := map[string]files{} // by name
	var hosts sync.WaitGroup
	for i := range 8 {
		r := open(t, b)
		hosts.Go(func() {
			// With the margin of others, such a lease has run out when it begins.
			m, err := begin(t.Context(), r, store.Claim{Host: "h", Mount: fmt.Sprint(i), TTL: -5 * time.Second})
			for n := 0; err == nil && n < 10; n++ {
				m.files = files{"of": fmt.Sprint(i, " ", n)}
				err = m.save(t.Context())
				mu.Lock()
				saved[m.saved.Name()] = m.files
				mu.Unlock()
			}
			if err != nil {
				t.Errorf("host %d: %v", i, err)
			}
		})
	}
	hosts.Wait()
	wantSound(t, b)
	r := open(t, b)
	for name, want := range saved {
		s, err := r.Find(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := contentOf(t.Context(), r, s)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("snapshot %s: %v, -want +got:\n%s", name, err, diff)
		}
	}
}
