package storetest

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"valise/store"
)

// Fault is a way in which a request goes wrong. Each one is what is left after a real
// Bucket's last retry.
type Fault int

// The faults.
const (
	// Drop: the request never reaches the store.
	Drop Fault = iota + 1
	// Lose: it takes effect, but its answer is lost.
	Lose
	// Unavailable: the store says that it is busy, and nothing happens.
	Unavailable
	// Short: half of the answer arrives, for a GetRange into p; of a List or a write,
	// which has hardly any answer, it is the same as Lose.
	Short
	// Hang: nothing happens until the call's ctx ends.
	Hang
)

// Step makes a request go wrong: the N-th, counted from 1, of those of the Method
// (any if empty) whose key begins with Key. For List that is its prefix, for Delete
// its first key. Each Step counts for itself; of two that fit, the first one acts.
type Step struct {
	N      int
	Method Method
	Key    store.Key
	Fault  Fault
}

// Faulty passes calls on to a Bucket, but for those of its script.
type Faulty struct {
	next store.Bucket

	mu    sync.Mutex
	steps []*step
}

type step struct {
	Step
	seen  int
	fired bool
}

var _ store.Bucket = (*Faulty)(nil)

// NewFaulty returns a Faulty before next. At its end the test fails if a Step has not
// fired.
func NewFaulty(t testing.TB, next store.Bucket, script ...Step) *Faulty {
	f := &Faulty{next: next}
	f.Add(script...)
	t.Cleanup(func() {
		for _, s := range f.Left() {
			t.Errorf("fault %+v did not fire", s)
		}
	})
	return f
}

// Add adds to the script; the new Steps count from now on.
func (f *Faulty) Add(script ...Step) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range script {
		f.steps = append(f.steps, &step{Step: s})
	}
}

// Left returns the Steps that have not fired.
func (f *Faulty) Left() []Step {
	f.mu.Lock()
	defer f.mu.Unlock()
	var left []Step
	for _, s := range f.steps {
		if !s.fired {
			left = append(left, s.Step)
		}
	}
	return left
}

// fault is that of this request, 0 for none.
func (f *Faulty) fault(method Method, key store.Key) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	var fault Fault
	for _, s := range f.steps {
		if s.Method != "" && s.Method != method || !strings.HasPrefix(string(key), string(s.Key)) {
			continue
		}
		s.seen++
		if fault == 0 && !s.fired && s.seen >= s.N {
			s.fired, fault = true, s.Fault
		}
	}
	return fault
}

// do makes the call, or what is to happen instead of it.
func (f *Faulty) do(ctx context.Context, method Method, key store.Key, call func() error) error {
	fault := f.fault(method, key)
	wrong := func(what string) error {
		return fmt.Errorf("%s %s: %w: %s", method, key, store.ErrUnavailable, what)
	}
	switch fault {
	case 0:
		return call()
	case Drop:
		return wrong("no connection")
	case Lose, Short:
		if err := call(); err != nil {
			return err
		}
		if fault == Short {
			return fmt.Errorf("%s %s: %w: %w", method, key, store.ErrUnavailable, io.ErrUnexpectedEOF)
		}
		return wrong("the answer is lost")
	case Unavailable:
		return wrong("slow down")
	case Hang:
		<-ctx.Done()
		return fmt.Errorf("%s %s: %w", method, key, ctx.Err())
	}
	panic(fmt.Sprintf("storetest: no fault %d", fault))
}

// Put implements store.Bucket.
func (f *Faulty) Put(ctx context.Context, key store.Key, body []byte) error {
	return f.do(ctx, Put, key, func() error { return f.next.Put(ctx, key, body) })
}

// Create implements store.Bucket.
func (f *Faulty) Create(ctx context.Context, key store.Key, body []byte) error {
	return f.do(ctx, Create, key, func() error { return f.next.Create(ctx, key, body) })
}

// Get implements store.Bucket.
func (f *Faulty) Get(ctx context.Context, key store.Key) (body []byte, err error) {
	err = f.do(ctx, Get, key, func() (err error) {
		body, err = f.next.Get(ctx, key)
		return err
	})
	if err != nil {
		return nil, err
	}
	return body, nil
}

// GetRange implements store.Bucket.
func (f *Faulty) GetRange(ctx context.Context, key store.Key, offset int64, p []byte) error {
	got := make([]byte, len(p))
	err := f.do(ctx, GetRange, key, func() error { return f.next.GetRange(ctx, key, offset, got) })
	if err != nil {
		copy(p, got[:len(got)/2]) // after an error p holds anything: here zeros or a part
		return err
	}
	copy(p, got)
	return nil
}

// List implements store.Bucket.
func (f *Faulty) List(ctx context.Context, prefix, after store.Key, limit int) (l store.Listing, err error) {
	err = f.do(ctx, List, prefix, func() (err error) {
		l, err = f.next.List(ctx, prefix, after, limit)
		return err
	})
	if err != nil {
		return store.Listing{}, err
	}
	return l, nil
}

// Delete implements store.Bucket.
func (f *Faulty) Delete(ctx context.Context, keys ...store.Key) error {
	if len(keys) == 0 {
		return f.next.Delete(ctx)
	}
	return f.do(ctx, Delete, keys[0], func() error { return f.next.Delete(ctx, keys...) })
}
