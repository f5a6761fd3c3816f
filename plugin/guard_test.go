package plugin

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// short is a context that ends soon.
func short(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestGuardBoundsAHungPath(t *testing.T) {
	g := newGuard(time.Now)
	hang := make(chan struct{})
	var running atomic.Int32
	call := func(context.Context) error {
		running.Add(1)
		defer running.Add(-1)
		<-hang
		return nil
	}
	wantErr(t, g.do(short(t), "/r", "/r/hung", call), `"/r/hung" did not answer within`)
	if !g.busy("/r/hung") || g.busy("/r/fine") {
		t.Error("busy: want the hung path and no other")
	}
	for range 3 {
		wantErr(t, g.do(short(t), "/r", "/r/hung", call), `"/r/hung" does not answer: a call from`)
	}
	if n := running.Load(); n != 1 {
		t.Errorf("%d calls hang on one path, want 1", n)
	}
	if err := g.do(t.Context(), "/r", "/r/fine", func(context.Context) error { return nil }); err != nil {
		t.Errorf("another path of the root: %v", err)
	}
	var wg sync.WaitGroup
	for i := range 3 * perLane {
		wg.Go(func() { _ = g.do(short(t), "/r", "/r/"+strconv.Itoa(i), call) })
	}
	wg.Wait()
	if n := running.Load(); n != perLane {
		t.Errorf("%d calls hang in one lane, want %d", n, perLane)
	}
	wantErr(t, g.do(short(t), "/r", "/r/fine", call), `"/r" does not answer: 16 calls hang there`)
	if err := g.do(t.Context(), "/other", "/other/x", func(context.Context) error { return nil }); err != nil {
		t.Errorf("another root: %v", err)
	}
	close(hang)
	eventually(t, "the calls end", func() bool { return running.Load() == 0 })
	if err := g.do(t.Context(), "/r", "/r/hung", func(context.Context) error { return nil }); err != nil {
		t.Errorf("after the path answers again: %v", err)
	}
}

func TestGuardHandsOnTheError(t *testing.T) {
	want := errors.New("no")
	if err := newGuard(time.Now).do(t.Context(), "/r", "/r/x", func(context.Context) error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

func TestKeyLocks(t *testing.T) {
	var k keyLocks
	unlock, err := k.lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.lock(short(t), "a")
	wantErr(t, err, `"a" is busy`)
	other, err := k.lock(short(t), "b")
	if err != nil {
		t.Fatal(err)
	}
	other()
	unlock()
	unlock, err = k.lock(short(t), "a")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if len(k.locks) != 0 {
		t.Errorf("%d locks are kept that nobody holds", len(k.locks))
	}
}
