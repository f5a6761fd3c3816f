package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"valise/store"
)

func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) store.Bucket { return &Memory{} })
}

func TestWrappersKeepTheContract(t *testing.T) {
	Run(t, func(t *testing.T) store.Bucket { return NewRecorder(NewFaulty(t, &Memory{})) })
}

func TestMemoryHasASettableClock(t *testing.T) {
	now := time.Date(2020, 1, 2, 3, 4, 5, 999, time.UTC)
	b := &Memory{Now: func() time.Time { return now }}
	put(t, b, "k", "")
	now = now.Add(time.Hour)
	l, err := b.List(t.Context(), "", "", 1)
	want := store.Listing{
		Objects: []store.Object{{Key: "k", Modified: time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)}},
		Now:     time.Date(2020, 1, 2, 4, 4, 5, 0, time.UTC),
	}
	if diff := cmp.Diff(want, l); err != nil || diff != "" {
		t.Errorf("got %v, -want +got:\n%s", err, diff)
	}
}

func TestRecorder(t *testing.T) {
	r := NewRecorder(&Memory{})
	put(t, r, "a/k", "body")
	_ = r.Create(t.Context(), "a/k", []byte("taken"))
	wantBody(t, r, "a/k", "body")
	_ = r.GetRange(t.Context(), "a/k", 1, make([]byte, 2))
	_ = r.GetRange(t.Context(), "a/k", 1, make([]byte, 9))
	_, _ = r.List(t.Context(), "a/", "", 1)
	_ = r.Delete(t.Context(), "a/k", "b")
	want := []Request{
		{Put, "a/k", 4}, {Create, "a/k", 5}, {Get, "a/k", 4}, {GetRange, "a/k", 2}, {GetRange, "a/k", 0},
		{List, "a/", 0}, {Delete, "a/k", 0}, {Delete, "b", 0},
	}
	if diff := cmp.Diff(want, r.Requests()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := r.Count(Put, Create); got != 2 {
		t.Errorf("writes: got %d, want 2", got)
	}
	r.Reset()
	if got := r.Requests(); len(got) != 0 {
		t.Errorf("after a reset: got %v", got)
	}
}

func TestFaultsOfWrites(t *testing.T) {
	m := &Memory{}
	f := NewFaulty(t, m,
		Step{1, Put, "", Drop},
		Step{2, Put, "", Lose},
		Step{1, Create, "c/", Unavailable},
		Step{2, Create, "c/", Lose})
	for i, want := range []string{"-", "second", "third"} {
		err := f.Put(t.Context(), "k", []byte([]string{"first", "second", "third"}[i]))
		if failed := i < 2; failed != errors.Is(err, store.ErrUnavailable) {
			t.Errorf("put %d: got %v", i+1, err)
		}
		wantBody(t, m, "k", want)
	}
	if err := f.Create(t.Context(), "other", nil); err != nil {
		t.Errorf("create of another key: got %v", err)
	}
	for i, want := range []error{store.ErrUnavailable, store.ErrUnavailable, store.ErrExist} {
		if err := f.Create(t.Context(), "c/k", []byte("x")); !errors.Is(err, want) {
			t.Errorf("create %d: got %v, want %v", i+1, err, want)
		}
	}
}

func TestFaultsOfReads(t *testing.T) {
	m := &Memory{}
	put(t, m, "k", "0123456789")
	f := NewFaulty(t, m, Step{1, GetRange, "", Short}, Step{1, "", "hang", Hang}, Step{2, Get, "", Short})
	p := []byte("..........")
	if err := f.GetRange(t.Context(), "k", 0, p); !errors.Is(err, store.ErrUnavailable) || string(p) != "01234....." {
		t.Errorf("got %q, %v, want half of it and %v", p, err, store.ErrUnavailable)
	}
	wantBody(t, f, "k", "0123456789")
	if body, err := f.Get(t.Context(), "k"); !errors.Is(err, store.ErrUnavailable) || body != nil {
		t.Errorf("got %q, %v, want none and %v", body, err, store.ErrUnavailable)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	if _, err := f.List(ctx, "hang", "", 1); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// failures takes what a test would fail of.
type failures struct {
	testing.TB
	cleanups []func()
	errors   int
}

func (f *failures) Cleanup(c func())      { f.cleanups = append(f.cleanups, c) }
func (f *failures) Errorf(string, ...any) { f.errors++ }

func TestAFaultThatDoesNotFireFailsTheTest(t *testing.T) {
	tb := &failures{TB: t}
	f := NewFaulty(tb, &Memory{}, Step{1, Get, "", Drop}, Step{2, Get, "", Drop})
	_, _ = f.Get(t.Context(), "k")
	for _, c := range tb.cleanups {
		c()
	}
	if tb.errors != 1 || len(f.Left()) != 1 {
		t.Errorf("got %d failures and %v left, want one", tb.errors, f.Left())
	}
}
