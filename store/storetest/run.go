package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"valise/store"
)

// Run holds a Bucket to the contract of store.Bucket. fresh returns an empty one of
// its own at each call; what the tests leave in it is fresh's to remove.
func Run(t *testing.T, fresh func(t *testing.T) store.Bucket) {
	for name, test := range map[string]func(*testing.T, store.Bucket){
		"PutReplaces":         testPutReplaces,
		"BodiesAreCopied":     testBodiesAreCopied,
		"EmptyObject":         testEmptyObject,
		"LargestObject":       testLargestObject,
		"CreateOnce":          testCreateOnce,
		"CreateRaces":         testCreateRaces,
		"PutIsAllOrNothing":   testPutIsAllOrNothing,
		"NotExist":            testNotExist,
		"Ranges":              testRanges,
		"DeleteManyAndAbsent": testDelete,
		"EndedContext":        testEndedContext,
		"ListOrder":           testListOrder,
		"ListAfter":           testListAfter,
		"ListPrefix":          testListPrefix,
		"ListPages":           testListPages,
		"ListLimits":          testListLimits,
		"ListSeesWrites":      testListSeesWrites,
		"Clock":               testClock,
	} {
		t.Run(name, func(t *testing.T) { test(t, fresh(t)) })
	}
}

func put(t *testing.T, b store.Bucket, key store.Key, body string) {
	t.Helper()
	if err := b.Put(t.Context(), key, []byte(body)); err != nil {
		t.Fatal(err)
	}
}

// wantBody checks the object, "-" for none.
func wantBody(t *testing.T, b store.Bucket, key store.Key, want string) {
	t.Helper()
	body, err := b.Get(t.Context(), key)
	if want == "-" {
		if !errors.Is(err, store.ErrNotExist) {
			t.Errorf("get %s: got %d bytes, %v, want %v", key, len(body), err, store.ErrNotExist)
		}
		return
	}
	if err != nil || string(body) != want {
		t.Errorf("get %s: got %.80q, %v, want %.80q", key, body, err, want)
	}
}

// each runs f for 0 to n-1, a few at a time, and returns the errors in order.
func each(n, atOnce int, f func(i int) error) []error {
	errs := make([]error, n)
	var running sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i := range n {
		slots <- struct{}{}
		running.Go(func() {
			errs[i] = f(i)
			<-slots
		})
	}
	running.Wait()
	return errs
}

func testPutReplaces(t *testing.T, b store.Bucket) {
	for _, body := range []string{"a long first body", "second", strings.Repeat("third ", 1000)} {
		put(t, b, "dir/key", body)
		wantBody(t, b, "dir/key", body)
	}
}

func testBodiesAreCopied(t *testing.T, b store.Bucket) {
	body := []byte("body")
	if err := b.Put(t.Context(), "k", body); err != nil {
		t.Fatal(err)
	}
	if string(body) != "body" {
		t.Errorf("put changed the body to %q", body)
	}
	copy(body, "XXXX")
	wantBody(t, b, "k", "body")
	got, err := b.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	copy(got, "YYYY")
	wantBody(t, b, "k", "body")
}

func testEmptyObject(t *testing.T, b store.Bucket) {
	for _, key := range []store.Key{"put", "create"} {
		write := b.Put
		if key == "create" {
			write = b.Create
		}
		if err := write(t.Context(), key, nil); err != nil {
			t.Fatal(err)
		}
		got, err := b.Get(t.Context(), key)
		if err != nil || got == nil || len(got) != 0 {
			t.Errorf("get %s: got %#v, %v, want an empty body", key, got, err)
		}
	}
	if err := b.Create(t.Context(), "put", []byte("x")); !errors.Is(err, store.ErrExist) {
		t.Errorf("create over an empty object: got %v, want %v", err, store.ErrExist)
	}
	if err := b.GetRange(t.Context(), "put", 0, make([]byte, 1)); err == nil {
		t.Error("a byte of an empty object: got no error")
	}
}

func testLargestObject(t *testing.T, b store.Bucket) {
	body := bytes.Repeat([]byte("0123456789abcdef"), store.MaxObject/16)
	if err := b.Put(t.Context(), "large", body); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Get(t.Context(), "large"); err != nil || !bytes.Equal(got, body) {
		t.Errorf("got %d bytes, %v, want the %d", len(got), err, len(body))
	}
	p := make([]byte, 1<<20)
	if err := b.GetRange(t.Context(), "large", int64(len(body)-len(p)), p); err != nil || !bytes.Equal(p, body[:len(p)]) {
		t.Errorf("the last MiB: got %v, or other bytes", err)
	}
	if err := b.Put(t.Context(), "larger", append(body, '+')); err == nil {
		t.Error("put of more than MaxObject: got no error")
	}
	if err := b.Create(t.Context(), "larger", append(body, '+')); err == nil {
		t.Error("create of more than MaxObject: got no error")
	}
	wantBody(t, b, "larger", "-")
}

func testCreateOnce(t *testing.T, b store.Bucket) {
	if err := b.Create(t.Context(), "k", []byte("first")); err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), "k", []byte("second")); !errors.Is(err, store.ErrExist) {
		t.Errorf("second create: got %v, want %v", err, store.ErrExist)
	}
	wantBody(t, b, "k", "first")
	put(t, b, "k", "put")
	if err := b.Create(t.Context(), "k", []byte("third")); !errors.Is(err, store.ErrExist) {
		t.Errorf("create over a put: got %v, want %v", err, store.ErrExist)
	}
	if err := b.Delete(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), "k", []byte("fourth")); err != nil {
		t.Errorf("create after a delete: got %v", err)
	}
	wantBody(t, b, "k", "fourth")
}

func testCreateRaces(t *testing.T, b store.Bucket) {
	const racers = 16
	for round := range 10 {
		key := store.Key(fmt.Sprintf("race/%d", round))
		body := func(i int) string { return strings.Repeat(fmt.Sprintf("racer %02d\n", i), 1+i*200) }
		start := make(chan struct{})
		go close(start)
		winner := -1
		for i, err := range each(racers, racers, func(i int) error {
			<-start
			return b.Create(t.Context(), key, []byte(body(i)))
		}) {
			switch {
			case err == nil && winner >= 0:
				t.Errorf("%s: racers %d and %d both won", key, winner, i)
			case err == nil:
				winner = i
			case !errors.Is(err, store.ErrExist):
				t.Errorf("%s: racer %d: got %v, want %v", key, i, err, store.ErrExist)
			}
		}
		if winner < 0 {
			t.Fatalf("%s: nobody won", key)
		}
		wantBody(t, b, key, body(winner))
	}
}

func testPutIsAllOrNothing(t *testing.T, b store.Bucket) {
	bodies := map[string]bool{}
	for _, c := range "abcd" {
		bodies[strings.Repeat(string(c), 100_000+int(c))] = true
	}
	put(t, b, "k", strings.Repeat("a", 100_000+'a'))
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for body := range bodies {
		writers.Go(func() {
			for ctx.Err() == nil {
				if err := b.Put(t.Context(), "k", []byte(body)); err != nil {
					t.Errorf("put: %v", err)
					return
				}
			}
		})
	}
	for range 50 {
		if got, err := b.Get(t.Context(), "k"); err != nil || !bodies[string(got)] {
			t.Errorf("get: got %d bytes that nobody wrote so, %v", len(got), err)
			break
		}
	}
	stop()
	writers.Wait()
}

func testNotExist(t *testing.T, b store.Bucket) {
	put(t, b, "dir/there", "x")
	for _, key := range []store.Key{"missing", "dir/missing", "dir", "dir/ther", "dir/there2", "no/dir/either"} {
		wantBody(t, b, key, "-")
		if err := b.GetRange(t.Context(), key, 0, make([]byte, 1)); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("range of %s: got %v, want %v", key, err, store.ErrNotExist)
		}
	}
}

func testRanges(t *testing.T, b store.Bucket) {
	const body = "0123456789"
	put(t, b, "k", body)
	for _, c := range []struct{ offset, n int64 }{{0, 1}, {0, 10}, {3, 4}, {9, 1}, {0, 9}, {4, 6}, {0, 0}, {10, 0}} {
		p := make([]byte, c.n)
		if err := b.GetRange(t.Context(), "k", c.offset, p); err != nil || string(p) != body[c.offset:c.offset+c.n] {
			t.Errorf("%d from %d: got %q, %v", c.n, c.offset, p, err)
		}
	}
	for _, c := range []struct{ offset, n int64 }{{0, 11}, {9, 2}, {10, 1}, {11, 1}, {1 << 40, 5}, {-1, 3}} {
		err := b.GetRange(t.Context(), "k", c.offset, make([]byte, c.n))
		if err == nil || errors.Is(err, store.ErrNotExist) || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%d from %d: got %v, want that the object ends earlier", c.n, c.offset, err)
		}
	}
}

func testDelete(t *testing.T, b store.Bucket) {
	if err := b.Delete(t.Context()); err != nil {
		t.Errorf("delete of nothing: got %v", err)
	}
	if err := b.Delete(t.Context(), "missing", "missing/too"); err != nil {
		t.Errorf("delete of what is not there: got %v", err)
	}
	var keys []store.Key
	for i := range 40 {
		keys = append(keys, store.Key(fmt.Sprintf("d/%02d", i)))
		put(t, b, keys[i], "x")
	}
	put(t, b, "kept", "x")
	if err := b.Delete(t.Context(), append(keys, "missing", keys[0])...); err != nil {
		t.Errorf("delete: got %v", err)
	}
	wantBody(t, b, keys[7], "-")
	l, err := b.List(t.Context(), "", "", 1000)
	if diff := cmp.Diff([]store.Key{"kept"}, keysOf(l)); err != nil || diff != "" {
		t.Errorf("after delete: got %v, -want +got:\n%s", err, diff)
	}
}

func testEndedContext(t *testing.T, b store.Bucket) {
	put(t, b, "k", "before")
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	for _, ctx := range []context.Context{canceled, late} {
		_, getErr := b.Get(ctx, "k")
		_, listErr := b.List(ctx, "", "", 10)
		for op, err := range map[Method]error{
			Get: getErr, List: listErr,
			Put:      b.Put(ctx, "k", []byte("after")),
			Create:   b.Create(ctx, "new", []byte("after")),
			GetRange: b.GetRange(ctx, "k", 0, make([]byte, 1)),
			Delete:   b.Delete(ctx, "k"),
		} {
			if !errors.Is(err, ctx.Err()) {
				t.Errorf("%s: got %v, want %v", op, err, ctx.Err())
			}
		}
	}
	wantBody(t, b, "k", "before")
	wantBody(t, b, "new", "-")
}
