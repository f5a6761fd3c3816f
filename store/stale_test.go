package store_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"valise/store"
	"valise/store/storetest"
)

// stale is a Bucket whose listings below prefix do not change until it is over.
type stale struct {
	store.Bucket
	prefix store.Key
	until  time.Time
	old    store.Listing
}

// freeze begins.
func (s *stale) freeze(t *testing.T, prefix store.Key, d time.Duration) {
	t.Helper()
	var err error
	if s.old, err = s.Bucket.List(t.Context(), prefix, "", 1000); err != nil {
		t.Fatal(err)
	}
	s.prefix, s.until = prefix, time.Now().Add(d)
}

func (s *stale) List(ctx context.Context, prefix, after store.Key, limit int) (store.Listing, error) {
	if s.until.Before(time.Now()) || !strings.HasPrefix(string(prefix), string(s.prefix)) {
		return s.Bucket.List(ctx, prefix, after, limit)
	}
	now, err := s.Bucket.List(ctx, prefix, after, 1)
	l := s.old
	l.Now = now.Now
	for len(l.Objects) > 0 && l.Objects[0].Key <= after {
		l.Objects = l.Objects[1:]
	}
	if len(l.Objects) > limit {
		l.Objects, l.More = l.Objects[:limit], true
	}
	return l, err
}

// moment is as long as a listing may lag behind.
const moment = 3 * time.Second

func TestANewHolderWaitsForTheHeadThatTheLastOneKnew(t *testing.T) {
	for _, tt := range []struct {
		name string
		lag  time.Duration
		want error
	}{
		{"for a moment", moment, nil},
		{"in vain", time.Hour, store.ErrUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				plain := &storetest.Memory{}
				open(t, plain)
				lag := &stale{Bucket: plain}
				r := open(t, lag)
				lag.freeze(t, "snapshots/", tt.lag)
				withOldHead(t, plain)
				b, err := begin(t.Context(), r, store.Claim{Host: "b", Mount: "b-mount"})
				wantErr(t, err, tt.want)
				if err == nil && b.files["kept"] != "kept" {
					t.Errorf("got %v, want %v", b.files, oldFiles)
				}
			})
		})
	}
}

func TestACommitWaitsForTheListing(t *testing.T) {
	for _, tt := range []struct {
		name   string
		prefix store.Key
		lag    time.Duration
		want   error
	}{
		{"of snapshots", "snapshots/", moment, nil},
		{"of snapshots in vain", "snapshots/", time.Hour, store.ErrUnavailable},
		{"of leases", "lease/", moment, nil},
		{"of leases in vain", "lease/", time.Hour, store.ErrUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				plain := &storetest.Memory{}
				withOldHead(t, plain)
				lag := &stale{Bucket: plain}
				r := open(t, lag)
				if tt.prefix == "lease/" {
					lag.freeze(t, tt.prefix, tt.lag)
				}
				a := mustBegin(t, r, "a")
				if tt.prefix == "snapshots/" {
					lag.freeze(t, tt.prefix, tt.lag)
				}
				if tt.prefix == "snapshots/" {
					a.mustSave(t) // it is not shown
				}
				a.files = filesA
				wantErr(t, a.save(t.Context()), tt.want)
				lag.until = time.Time{}
				a.files = files{"a": "again"}
				a.mustSave(t)
				if a.lost {
					t.Error("a has lost the lease")
				}
				wantHead(t, plain, a.files)
			})
		})
	}
}

// A commit that was there, but not shown, when the lease was taken is not taken for
// one that came late.
func TestAHiddenHeadIsNotOverruled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plain := &storetest.Memory{}
		withOldHead(t, plain)
		a := mustBegin(t, open(t, plain), "a")
		lag := &stale{Bucket: plain}
		r := open(t, lag)
		lag.freeze(t, "snapshots/", expire+moment)
		a.files = filesA
		a.mustSave(t) // and it crashes, before a renewal tells of the new head
		time.Sleep(expire)
		b := mustBegin(t, r, "b")
		time.Sleep(2 * moment)
		b.files = filesB
		b.mustSave(t)
		if !b.lost {
			t.Error("b has overruled a commit that it did not see")
		}
		wantHead(t, plain, filesA)
	})
}

// The store answers that an object is not there which a listing shows.
func TestNotFoundIsNoProof(t *testing.T) {
	for _, key := range []store.Key{"valise.json", "lease/", "snapshots/", "index/", "pins/", "marks/"} {
		t.Run(string(key), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				plain := &storetest.Memory{}
				withGarbage(t, plain)
				keep := store.Retention{Last: 1, Grace: time.Hour}
				if _, err := open(t, plain).Prune(t.Context(), keep); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				mustBegin(t, open(t, plain), "c")
				time.Sleep(expire)
				before := len(keys(t, plain, ""))
				blind := &blind{Bucket: plain, prefix: key}
				err := func() error {
					r, err := store.OpenOrCreate(t.Context(), store.Config{Bucket: blind, Now: clock, Encryption: underTest})
					if err != nil {
						return err
					}
					defer r.Close()
					if key == "pins/" || key == "marks/" {
						_, err := r.Prune(t.Context(), keep)
						return err
					}
					_, err = begin(t.Context(), r, store.Claim{Host: "b", Mount: "b-mount"})
					return err
				}()
				wantErr(t, err, store.ErrUnavailable)
				if got := len(keys(t, plain, "")); got < before {
					t.Errorf("got %d objects, want the %d that there were", got, before)
				}
			})
		})
	}
}

// blind is a Bucket that does not find the objects below prefix.
type blind struct {
	store.Bucket
	prefix store.Key
}

func (b *blind) Get(ctx context.Context, key store.Key) ([]byte, error) {
	if strings.HasPrefix(string(key), string(b.prefix)) {
		return nil, store.ErrNotExist
	}
	return b.Bucket.Get(ctx, key)
}
