package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"valise/store"
	"valise/store/storetest"
)

// The requests of a mount as a session makes it, from opening the profile to HeadUnder.
func mountRequests(t *testing.T, b store.Bucket, known *store.Known) (requests []string, head files, err error) {
	t.Helper()
	var mu sync.Mutex // guards seen
	var seen []string
	counted := &hooked{Bucket: b, before: func(m storetest.Method, key store.Key) {
		kind, _, _ := strings.Cut(string(key), "/")
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, fmt.Sprint(m, " ", kind))
	}}
	r, err := store.OpenOrCreate(t.Context(), store.Config{Bucket: counted, Encryption: underTest, Ahead: true, Known: known})
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	if _, err := r.Head(t.Context()); err != nil && !errors.Is(err, store.ErrNoSnapshot) {
		return nil, nil, err
	}
	l, err := r.Acquire(t.Context(), store.Claim{Host: "next", Mount: "next-mount"})
	if err != nil {
		return nil, nil, err
	}
	s, err := r.HeadUnder(t.Context(), l)
	if err != nil {
		return nil, nil, err
	}
	mu.Lock()
	requests = slices.Clone(seen)
	mu.Unlock()
	slices.Sort(requests)
	head, err = contentOf(t.Context(), r, s)
	return requests, head, err
}

// A mount asks for nothing that is known, and believes nothing that may have changed.
func TestAhead(t *testing.T) {
	first := []string{"get valise.json", "list lease", "list snapshots"}
	for name, c := range map[string]struct {
		forget  bool                                    // the host knows nothing
		between func(t *testing.T, b *storetest.Memory) // what happens after it has released the lease
		more    []string                                // requests beyond the first ones
		want    files
		held    bool
	}{
		"known":   {more: []string{"create lease"}, want: oldFiles},
		"unknown": {forget: true, more: []string{"create lease", "get lease", "get snapshots"}, want: oldFiles},
		"another host has used it": {
			between: func(t *testing.T, b *storetest.Memory) {
				m := mustBegin(t, open(t, b), "b")
				m.files = newFiles
				m.mustSave(t)
				if err := m.lease.Release(t.Context()); err != nil {
					t.Fatal(err)
				}
			},
			more: []string{"create lease", "get lease", "get snapshots"}, want: newFiles,
		},
		"another host uses it": {
			between: func(t *testing.T, b *storetest.Memory) { mustBegin(t, open(t, b), "b") }, held: true,
		},
		"purged and made anew, by a host that uses it": {
			between: func(t *testing.T, b *storetest.Memory) {
				remove(t, b, "")
				mustBegin(t, open(t, b), "b")
			},
			held: true,
		},
		"brought back from a backup, and used since": {
			between: func(t *testing.T, b *storetest.Memory) {
				remove(t, b, "lease/")
				time.Sleep(time.Minute)
				mustBegin(t, open(t, b), "b")
			},
			held: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &storetest.Memory{}
				known := withKnownHead(t, b)
				memory := &known
				if c.forget {
					memory = nil
				}
				if c.between != nil {
					c.between(t, b)
				}
				requests, head, err := mountRequests(t, b, memory)
				if c.held {
					var held *store.HeldError
					if !errors.As(err, &held) || held.Host != "b" {
						t.Errorf("got %v, want that host b has it", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				want := append(slices.Clone(first), c.more...)
				slices.Sort(want)
				if diff := cmp.Diff(want, requests); diff != "" {
					t.Errorf("requests, -want +got:\n%s", diff)
				}
				if diff := cmp.Diff(c.want, head); diff != "" {
					t.Errorf("head, -want +got:\n%s", diff)
				}
			})
		})
	}
}

func remove(t *testing.T, b store.Bucket, prefix store.Key) {
	t.Helper()
	if err := b.Delete(t.Context(), keys(t, b, prefix)...); err != nil {
		t.Fatal(err)
	}
}
