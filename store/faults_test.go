package store_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"valise/store"
	"valise/store/storetest"
)

// faults are all of storetest, by name.
var faults = map[string]storetest.Fault{
	"drop": storetest.Drop, "lose": storetest.Lose, "unavailable": storetest.Unavailable,
	"short": storetest.Short, "hang": storetest.Hang,
}

var (
	oldFiles = files{"kept": "kept", "changed": "old", "gone": "gone"}
	newFiles = files{"kept": "kept", "changed": "new", "added": "added"}
)

// operation is a series of requests that is made to fail at each of them.
type operation struct {
	// prepare sets the profile up, and returns what is to fail. It is called again for
	// the second try, with a bucket that does not fail.
	prepare func(t *testing.T, plain *storetest.Memory, b store.Bucket) func(context.Context) error
	heads   []files // that the profile may have after a failure; the last one after success
}

var operations = map[string]operation{
	"create the profile": {
		prepare: func(_ *testing.T, _ *storetest.Memory, b store.Bucket) func(context.Context) error {
			return func(ctx context.Context) error {
				r, err := store.OpenOrCreate(ctx, store.Config{Bucket: b, Encryption: underTest})
				if err == nil {
					r.Close()
				}
				return err
			}
		},
		heads: []files{{}},
	},
	"open the profile": {
		prepare: func(t *testing.T, plain *storetest.Memory, b store.Bucket) func(context.Context) error {
			open(t, plain)
			return func(ctx context.Context) error {
				r, err := store.Open(ctx, store.Config{Bucket: b, Encryption: underTest})
				if err == nil {
					r.Close()
				}
				return err
			}
		},
		heads: []files{{}},
	},
	"open and mount": {
		prepare: func(t *testing.T, plain *storetest.Memory, b store.Bucket) func(context.Context) error {
			withOldHead(t, plain)
			return func(ctx context.Context) error {
				return openAndMount(ctx, t, store.Config{Bucket: b, Encryption: underTest, Ahead: true})
			}
		},
		heads: []files{oldFiles},
	},
	"open and mount what is known": {
		prepare: func(t *testing.T, plain *storetest.Memory, b store.Bucket) func(context.Context) error {
			known := withKnownHead(t, plain)
			return func(ctx context.Context) error {
				return openAndMount(ctx, t, store.Config{Bucket: b, Encryption: underTest, Ahead: true, Known: &known})
			}
		},
		heads: []files{oldFiles},
	},
	"mount": {
		prepare: func(t *testing.T, plain *storetest.Memory, b store.Bucket) func(context.Context) error {
			withOldHead(t, plain)
			r := open(t, b)
			return func(ctx context.Context) error { return mountOldHead(ctx, t, r) }
		},
		heads: []files{oldFiles},
	},
	"first save": {prepare: func(t *testing.T, _ *storetest.Memory, b store.Bucket) func(context.Context) error {
		m := mustBegin(t, open(t, b), "a")
		m.files = newFiles
		return m.save
	}, heads: []files{{}, newFiles}},
	"save": {prepare: func(t *testing.T, plain *storetest.Memory, b store.Bucket) func(context.Context) error {
		withOldHead(t, plain)
		m := mustBegin(t, open(t, b), "b")
		m.files = newFiles
		return m.save
	}, heads: []files{oldFiles, newFiles}},
	"save after the lease ran out": {prepare: func(t *testing.T, plain *storetest.Memory, b store.Bucket) func(context.Context) error {
		withOldHead(t, plain)
		m := mustBegin(t, open(t, b), "b")
		m.files = newFiles
		time.Sleep(time.Hour)
		return m.save
	}, heads: []files{oldFiles, newFiles}},
	"save aside": {prepare: func(t *testing.T, plain *storetest.Memory, b store.Bucket) func(context.Context) error {
		m := mustBegin(t, open(t, b), "b")
		time.Sleep(time.Hour)
		withOldHead(t, plain)
		m.files = newFiles
		return func(ctx context.Context) error {
			if err := m.save(ctx); err != nil {
				return err
			}
			got, err := contentOf(ctx, open(t, plain), m.saved)
			if diff := cmp.Diff(newFiles, got); err != nil || diff != "" || !m.saved.Conflict {
				t.Errorf("saved %s: %v, -want +got:\n%s", m.saved.Key(), err, diff)
			}
			return nil
		}
	}, heads: []files{oldFiles}},
	"renew": {prepare: withLease((*store.Lease).Renew), heads: []files{oldFiles}},
	"renew after the lease ran out": {prepare: func(t *testing.T, plain *storetest.Memory, b store.Bucket) func(context.Context) error {
		renew := withLease((*store.Lease).Renew)(t, plain, b)
		time.Sleep(time.Hour)
		return renew
	}, heads: []files{oldFiles}},
	"drain":   {prepare: withLease((*store.Lease).Drain), heads: []files{oldFiles}},
	"resume":  {prepare: withLease((*store.Lease).Resume), heads: []files{oldFiles}},
	"release": {prepare: withLease((*store.Lease).Release), heads: []files{oldFiles}},
	"pin and unpin": {prepare: func(t *testing.T, plain *storetest.Memory, b store.Bucket) func(context.Context) error {
		head := withOldHead(t, plain)
		r := open(t, b)
		return func(ctx context.Context) error {
			if err := r.Pin(ctx, store.Claim{Host: "b", Mount: "b-mount"}, head); err != nil {
				return err
			}
			return r.Unpin(ctx, "b-mount")
		}
	}, heads: []files{oldFiles}},
	"prune marks":  {prepare: withPrune(0, 5), heads: []files{oldFiles}},
	"prune sweeps": {prepare: withPrune(1, 4), heads: []files{oldFiles}},
}

// withPrune prepares a prune after earlier ones, which leaves so many packs.
func withPrune(earlier, packs int) func(*testing.T, *storetest.Memory, store.Bucket) func(context.Context) error {
	return func(t *testing.T, plain *storetest.Memory, b store.Bucket) func(context.Context) error {
		withGarbage(t, plain)
		keep := store.Retention{Last: 1, Grace: time.Hour}
		for range earlier {
			if _, err := open(t, plain).Prune(t.Context(), keep); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		r := open(t, b)
		return func(ctx context.Context) error {
			_, err := r.Prune(ctx, keep)
			if there := keys(t, plain, "packs/"); err == nil && len(there) != packs {
				t.Errorf("after the prune: got %d packs, want %d", len(there), packs)
			}
			return err
		}
	}
}

func openAndMount(ctx context.Context, t *testing.T, cfg store.Config) error {
	r, err := store.OpenOrCreate(ctx, cfg)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := r.Head(ctx); err != nil {
		return err
	}
	return mountOldHead(ctx, t, r)
}

func mountOldHead(ctx context.Context, t *testing.T, r *store.Repo) error {
	m, err := begin(ctx, r, store.Claim{Host: "b", Mount: "b-mount"})
	if err != nil {
		return err
	}
	if diff := cmp.Diff(oldFiles, m.files); diff != "" {
		t.Errorf("mounted, -want +got:\n%s", diff)
	}
	return nil
}

// withOldHead saves oldFiles on a host that is done then.
func withOldHead(t *testing.T, b store.Bucket) store.Snapshot {
	t.Helper()
	m := leaveOldHead(t, b)
	if err := m.repo.Unpin(t.Context(), m.claim.Mount); err != nil {
		t.Fatal(err)
	}
	return m.saved
}

// withKnownHead saves oldFiles, and returns what the host may remember.
func withKnownHead(t *testing.T, b store.Bucket) store.Known {
	t.Helper()
	m := leaveOldHead(t, b)
	known, ok := m.lease.Known(m.saved)
	if !ok {
		t.Fatal("nothing is known of a lease that was released")
	}
	return known
}

// leaveOldHead saves oldFiles, and releases the lease.
func leaveOldHead(t *testing.T, b store.Bucket) *mount {
	t.Helper()
	m := mustBegin(t, open(t, b), "a")
	m.files = oldFiles
	m.mustSave(t)
	if err := m.lease.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	return m
}

// withGarbage makes several snapshots, one of them late, and packs that none names.
func withGarbage(t *testing.T, b *storetest.Memory) {
	t.Helper()
	a := mustBegin(t, open(t, b), "a")
	a.files = files{"a": "1"}
	a.mustSave(t)
	late := mustBegin(t, open(t, b), "a")
	late.files = files{"late": "too late"}
	next, whole, err := late.upload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	held := &hooked{Bucket: b}
	late.repo = open(t, held)
	held.before = once(storetest.Create, "snapshots/", func() {
		time.Sleep(2 * time.Minute)
		b := mustBegin(t, open(t, b), "b")
		b.files = files{"b": "2"}
		b.mustSave(t)
		b.files = files{"b": "3"}
		b.mustSave(t)
	})
	if err := late.commit(t.Context(), next, whole); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Minute)
	withOldHead(t, b)
	for _, host := range []string{"a", "b"} {
		if err := a.repo.Unpin(t.Context(), host+"-mount"); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Hour)
}

func withLease(do func(*store.Lease, context.Context) error) func(*testing.T, *storetest.Memory, store.Bucket) func(context.Context) error {
	return func(t *testing.T, plain *storetest.Memory, b store.Bucket) func(context.Context) error {
		withOldHead(t, plain)
		m := mustBegin(t, open(t, b), "b")
		return func(ctx context.Context) error { return do(m.lease, ctx) }
	}
}

// The profile is whole, and has the old head or the new one, whichever request of an
// operation fails in whichever way; and a second try succeeds.
func TestEveryRequestMayFail(t *testing.T) {
	for name, op := range operations {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int64
			synctest.Test(t, func(t *testing.T) {
				plain := &storetest.Memory{}
				do := op.prepare(t, plain, &hooked{Bucket: plain, before: func(storetest.Method, store.Key) { n.Add(1) }})
				n.Store(0)
				if err := do(t.Context()); err != nil {
					t.Fatal(err)
				}
				wantSound(t, plain)
				wantHead(t, plain, op.heads[len(op.heads)-1])
			})
			for fault, kind := range faults {
				for i := 1; i <= int(n.Load()); i++ {
					t.Run(fmt.Sprintf("%s %d", fault, i), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { op.fail(t, storetest.Step{N: i, Fault: kind}) })
					})
				}
			}
		})
	}
}

func (op operation) fail(t *testing.T, step storetest.Step) {
	plain := &storetest.Memory{}
	faulty := storetest.NewFaulty(t, plain)
	do := op.prepare(t, plain, faulty)
	faulty.Add(step)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := do(ctx)
	want := op.heads
	if err == nil {
		want = want[len(want)-1:]
	}
	wantSound(t, plain)
	got := headContent(t, plain)
	found := false
	for _, w := range want {
		found = found || cmp.Equal(w, got)
	}
	if !found {
		t.Errorf("after %v the head is %v, want one of %v", err, got, want)
	}
	if err := do(t.Context()); err != nil {
		t.Errorf("second try after %v: got error %v", err, err)
	}
	wantSound(t, plain)
	wantHead(t, plain, op.heads[len(op.heads)-1])
}
