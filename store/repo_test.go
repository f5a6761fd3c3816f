package store_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"valise/store"
	"valise/store/storetest"
)

// careless is a Bucket whose Create overwrites: the store ignores If-None-Match.
type careless struct{ store.Bucket }

func (c careless) Create(ctx context.Context, key store.Key, body []byte) error {
	return c.Put(ctx, key, body)
}

func TestRacingCreatorsAgree(t *testing.T) {
	b := &storetest.Memory{}
	ids := make([]string, 10)
	var hosts sync.WaitGroup
	for i := range ids {
		hosts.Go(func() {
			r, err := store.OpenOrCreate(t.Context(), store.Config{Bucket: b, Encryption: underTest})
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			ids[i] = r.ID()
		})
	}
	hosts.Wait()
	want := open(t, b).ID()
	for i, got := range ids {
		if got != want || got == "" {
			t.Errorf("host %d: got profile %q, want %q", i, got, want)
		}
	}
}

// Another host makes the profile between the question for it and the listing.
func TestOpenWhileItIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plain := &storetest.Memory{}
		want := ""
		hook := &hooked{Bucket: plain}
		hook.after = once(storetest.Get, "valise.json", func() { want = open(t, plain).ID() })
		if got := open(t, hook).ID(); got != want {
			t.Errorf("got profile %q, want %q", got, want)
		}
	})
}

func TestOpen(t *testing.T) {
	for _, tt := range []struct {
		name    string
		objects map[store.Key]string
		want    error
		says    string
	}{
		{"nothing there", nil, store.ErrNoProfile, ""},
		{"something else there", map[store.Key]string{"notes.txt": "hello"}, store.ErrNoProfile, ""},
		{"a longer name", map[store.Key]string{"valise.json.bak": ""}, store.ErrNoProfile, ""},
		{"damaged", map[store.Key]string{"valise.json": "{"}, store.ErrCorrupt, "valise.json"},
		{"of a newer format", map[store.Key]string{"valise.json": `{"format":"valise-profile-2","blake3":"","body":{}}`}, nil, "valise-profile-2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := &storetest.Memory{}
			for key, body := range tt.objects {
				if err := b.Put(t.Context(), key, []byte(body)); err != nil {
					t.Fatal(err)
				}
			}
			_, err := store.Open(t.Context(), store.Config{Bucket: b, Encryption: underTest})
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got error %v, want %v that says %q", err, tt.want, tt.says)
			}
		})
	}
}

func TestForeignObjectsAreRefused(t *testing.T) {
	b := &storetest.Memory{}
	if err := b.Put(t.Context(), "holiday.jpg", []byte("…")); err != nil {
		t.Fatal(err)
	}
	_, err := store.OpenOrCreate(t.Context(), store.Config{Bucket: b, Encryption: underTest})
	if err == nil || !strings.Contains(err.Error(), "holiday.jpg") {
		t.Errorf("got error %v, want one that names holiday.jpg", err)
	}
	if got := keys(t, b, ""); len(got) != 1 {
		t.Errorf("got objects %v, want nothing new", got)
	}
}

// denied is a Bucket that answers like a store where listing is allowed and an absent
// object is "403 forbidden", or where nothing is allowed.
type denied struct {
	store.Bucket
	list bool
}

func (d denied) Get(ctx context.Context, key store.Key) ([]byte, error) {
	body, err := d.Bucket.Get(ctx, key)
	if err != nil || d.list {
		return nil, store.ErrDenied
	}
	return body, nil
}

func (d denied) List(ctx context.Context, prefix, after store.Key, limit int) (store.Listing, error) {
	if d.list {
		return store.Listing{}, store.ErrDenied
	}
	return d.Bucket.List(ctx, prefix, after, limit)
}

func TestDeniedIsNotAbsent(t *testing.T) {
	b := &storetest.Memory{}
	_, err := store.Open(t.Context(), store.Config{Bucket: denied{Bucket: b}, Encryption: underTest})
	wantErr(t, err, store.ErrNoProfile)
	open(t, denied{Bucket: b}) // which can be made
	_, err = store.OpenOrCreate(t.Context(), store.Config{Bucket: denied{Bucket: b, list: true}, Encryption: underTest})
	wantErr(t, err, store.ErrDenied)
	if errors.Is(err, store.ErrNoProfile) {
		t.Errorf("got error %v, which says that there is no profile", err)
	}
}

// A store that ignores If-None-Match is refused, also when the first try to find out
// was cut off; unless one host alone writes.
func TestConditionalWritesAreProbed(t *testing.T) {
	single := func(b store.Bucket, single bool) error {
		r, err := store.OpenOrCreate(t.Context(), store.Config{Bucket: b, SingleHost: single, Encryption: underTest})
		if err == nil {
			r.Close()
		}
		return err
	}
	t.Run("ignored", func(t *testing.T) {
		b := careless{&storetest.Memory{}}
		for range 2 {
			wantErr(t, single(b, false), store.ErrNotConditional)
		}
		if err := single(b, true); err != nil {
			t.Errorf("single host: got error %v", err)
		}
		wantErr(t, single(b, false), store.ErrNotConditional)
	})
	t.Run("ignored, and the probe is cut off", func(t *testing.T) {
		f := storetest.NewFaulty(t, careless{&storetest.Memory{}}, storetest.Step{N: 2, Method: storetest.Create, Fault: storetest.Drop})
		wantErr(t, single(f, false), store.ErrUnavailable)
		wantErr(t, single(f, false), store.ErrNotConditional)
	})
	t.Run("honoured", func(t *testing.T) {
		seen := storetest.NewRecorder(&storetest.Memory{})
		if err := single(seen, true); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := single(seen, false); err != nil {
				t.Fatal(err)
			}
		}
		seen.Reset()
		if err := single(seen, false); err != nil || seen.Count(storetest.Create, storetest.Put) != 0 {
			t.Errorf("open again: got %v and requests %v, want no further probe", err, seen.Requests())
		}
	})
}

// What a save costs, as a Meter counts it.
func TestRequestsOfASave(t *testing.T) {
	m := &store.Meter{Bucket: &storetest.Memory{}}
	r := open(t, m)
	first := mustBegin(t, r, "a")
	first.files = filesA
	second := func() *mount { return mustBegin(t, open(t, m), "a") }
	for _, tt := range []struct {
		name  string
		mount func() *mount
		want  int64
	}{
		// A pack, an index, the marks, the head (none), the snapshot, the leases.
		{"first", func() *mount { return first }, 6},
		// No pack, and the head to be read.
		{"further", func() *mount { return first }, 6},
		// The packs and indexes of the base are looked for, once.
		{"of the next mount", second, 7},
	} {
		a := tt.mount()
		before := m.Traffic()
		a.mustSave(t)
		after := m.Traffic()
		if got := after.Requests - before.Requests; got != tt.want {
			t.Errorf("%s: got %d requests, want %d", tt.name, got, tt.want)
		}
		if after.Sent <= before.Sent {
			t.Errorf("%s: got %+v after %+v, want more sent", tt.name, after, before)
		}
	}
}
