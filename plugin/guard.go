package plugin

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// guard runs calls that may hang with their file system. A caller waits no longer
// than its context allows. What hangs on goes on holding a thread, and nothing can
// take that from it (a signal does not end a stat of a dead NFS server), so there is
// one call at a time for each path and a limited number for each lane, a directory
// that the path is below.
type guard struct {
	now func() time.Time

	mu    sync.Mutex // guards lanes and paths
	lanes map[string]chan struct{}
	paths map[string]*flight
}

// perLane bounds the threads that one lane can hold.
const perLane = 16

// flight is a call under way.
type flight struct {
	since time.Time
	done  chan struct{}
}

func newGuard(now func() time.Time) *guard {
	return &guard{now: now, lanes: map[string]chan struct{}{}, paths: map[string]*flight{}}
}

// do runs call, which touches path in lane, and waits for it until ctx ends. The
// call gets ctx to see whether anybody still waits: where not, it must undo itself.
func (g *guard) do(ctx context.Context, lane, path string, call func(context.Context) error) error {
	started := g.now()
	f, err := g.enter(ctx, path)
	if err != nil {
		return err
	}
	slots := g.slots(lane)
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		g.leave(path, f)
		return fmt.Errorf("%q does not answer: %d calls hang there", lane, perLane)
	}
	result := make(chan error, 1)
	go func() {
		err := call(ctx)
		g.leave(path, f)
		<-slots
		result <- err
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%q did not answer within %s", path, g.now().Sub(started).Round(100*time.Millisecond))
	}
}

func (g *guard) slots(lane string) chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lanes[lane] == nil {
		g.lanes[lane] = make(chan struct{}, perLane)
	}
	return g.lanes[lane]
}

// enter waits until no other call is on path.
func (g *guard) enter(ctx context.Context, path string) (*flight, error) {
	for {
		g.mu.Lock()
		other := g.paths[path]
		if other == nil {
			f := &flight{since: g.now(), done: make(chan struct{})}
			g.paths[path] = f
			g.mu.Unlock()
			return f, nil
		}
		g.mu.Unlock()
		select {
		case <-other.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("%q does not answer: a call from %s hangs there", path, other.since.Format(time.TimeOnly))
		}
	}
}

// busy reports whether a call is on path.
func (g *guard) busy(path string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.paths[path] != nil
}

func (g *guard) leave(path string, f *flight) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.paths, path)
	close(f.done)
}

// keyLocks are locks by name that can be waited for with a context.
type keyLocks struct {
	mu    sync.Mutex // guards locks
	locks map[string]*keyLock
}

type keyLock struct {
	held  chan struct{} // holds one element while locked
	users int
}

// lock takes the lock called key; the caller calls unlock.
func (k *keyLocks) lock(ctx context.Context, key string) (unlock func(), err error) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*keyLock{}
	}
	l := k.locks[key]
	if l == nil {
		l = &keyLock{held: make(chan struct{}, 1)}
		k.locks[key] = l
	}
	l.users++
	k.mu.Unlock()
	drop := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.locks, key)
		}
	}
	select {
	case l.held <- struct{}{}:
		return func() { <-l.held; drop() }, nil
	case <-ctx.Done():
		drop()
		return nil, fmt.Errorf("%q is busy", key)
	}
}
