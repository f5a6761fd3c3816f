package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"valise/store"
	"valise/store/storetest"
)

const grace = time.Hour

// mustPrune prunes with the grace of these tests.
func mustPrune(t *testing.T, b store.Bucket, keep store.Retention) store.PruneResult {
	t.Helper()
	keep.Grace = grace
	res, err := open(t, b).Prune(t.Context(), keep)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// Objects go one grace after they were marked, and are marked one grace after they
// were uploaded.
func TestPruneTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &storetest.Memory{}
		m := mustBegin(t, open(t, b), "a")
		for _, body := range []string{"1", "2"} {
			m.files = files{"a": body}
			m.mustSave(t)
		}
		if err := m.repo.Unpin(t.Context(), "a-mount"); err != nil {
			t.Fatal(err)
		}
		for i, want := range []store.PruneResult{
			{Forgotten: []string{"1"}}, // too young to be marked
			{Marked: 2},
			{},
			{Deleted: 2},
			{},
		} {
			if i == 0 || i == 2 {
				time.Sleep(grace - time.Second)
			} else {
				time.Sleep(time.Second)
			}
			for _, dry := range []bool{true, false} {
				before := len(keys(t, b, ""))
				got := mustPrune(t, b, store.Retention{Last: 1, DryRun: dry})
				if !slices.Equal(got.Forgotten, want.Forgotten) || got.Marked != want.Marked || got.Deleted != want.Deleted {
					t.Errorf("run %d, dry %t: got %+v, want %+v", i, dry, got, want)
				}
				if after := len(keys(t, b, "")); dry && after != before {
					t.Errorf("run %d, dry: got %d objects, want the %d that there were", i, after, before)
				}
			}
		}
		if got := keys(t, b, "packs/"); len(got) != 1 {
			t.Errorf("got packs %v, want the head's", got)
		}
		if got := append(keys(t, b, "marks/"), keys(t, b, "pins/")...); len(got) != 0 {
			t.Errorf("got %v, want no marks and pins", got)
		}
		wantHead(t, b, files{"a": "2"})
		wantSound(t, b)
	})
}

func TestPruneHonoursPins(t *testing.T) {
	for _, force := range []bool{false, true} {
		t.Run(fmt.Sprintf("force %t", force), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &storetest.Memory{}
				m := mustBegin(t, open(t, b), "a")
				m.files = files{"a": "1"}
				m.mustSave(t)
				reader := m.saved
				if err := m.repo.Pin(t.Context(), store.Claim{Host: "reader", Mount: "r"}, reader); err != nil {
					t.Fatal(err)
				}
				m = mustBegin(t, m.repo, "a")
				m.files = files{"a": "2"}
				m.mustSave(t)
				m.files = files{"a": "3"}
				m.mustSave(t)
				var res store.PruneResult
				for range 4 {
					res = mustPrune(t, b, store.Retention{Last: 1, Force: force})
					time.Sleep(grace)
				}
				if got := slices.Sorted(slices.Values(res.Pinned)); (len(got) == 0) != force || !force && !slices.Equal(got, []string{"a", "reader"}) {
					t.Errorf("pinned: got %v", got)
				}
				got, err := contentOf(t.Context(), m.repo, reader)
				if !force && (err != nil || got["a"] != "1") {
					t.Errorf("pinned snapshot: got %v, %v", got, err)
				}
				wantHead(t, b, files{"a": "3"})
				wantSound(t, b)
			})
		})
	}
}

// A writer that comes back to what it had uploaded long ago, in a snapshot that is gone
// or in a save that failed, stores it again if a prune took it, at whatever point.
func TestPruneBesideAWriter(t *testing.T) {
	for _, tt := range []struct {
		name   string
		prunes int // before the save
	}{
		{"forgotten", 1}, {"marked", 2}, {"deleted", 3}, {"deleted and no mark left", 4},
	} {
		for _, failed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, failed save %t", tt.name, failed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					plain := &storetest.Memory{}
					f := storetest.NewFaulty(t, plain)
					m := mustBegin(t, open(t, f), "a")
					m.files = files{"a": "once and again"}
					if failed {
						f.Add(storetest.Step{N: 1, Method: storetest.Create, Key: "snapshots/", Fault: storetest.Drop})
						wantErr(t, m.save(t.Context()), store.ErrUnavailable)
					} else {
						m.mustSave(t)
					}
					m.files = files{"a": "other"}
					m.mustSave(t)
					for range tt.prunes {
						time.Sleep(grace)
						mustPrune(t, plain, store.Retention{Last: 1})
					}
					m.files = files{"a": "once and again"}
					m.mustSave(t)
					wantSound(t, plain)
					for range 3 {
						time.Sleep(grace)
						mustPrune(t, plain, store.Retention{Last: 1})
					}
					wantSound(t, plain)
					wantHead(t, plain, m.files)
				})
			})
		}
	}
}

// A save that sleeps between two of its requests, while prunes run, stores anew what
// they took.
func TestPruneWhileASaveSleeps(t *testing.T) {
	prunes := func(t *testing.T, b store.Bucket) {
		for range 4 {
			time.Sleep(grace)
			mustPrune(t, b, store.Retention{Last: 1})
		}
	}
	for _, tt := range []struct {
		name   string
		method storetest.Method
		key    store.Key
	}{
		{"after the packs", storetest.Put, "index/"},
		{"before the marks are read", storetest.List, "marks/"},
		{"before the head is read", storetest.List, "snapshots/"},
		{"before the snapshot is created", storetest.Create, "snapshots/"},
		{"before the leases are listed", storetest.List, "lease/"},
	} {
		for _, aside := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, aside %t", tt.name, aside), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					plain := &storetest.Memory{}
					hook := &hooked{Bucket: plain}
					m := mustBegin(t, open(t, hook), "a")
					m.files = files{"a": "before"}
					m.mustSave(t)
					m.files = files{"b": "new", "a": "before"}
					asleep := func() {
						if aside {
							time.Sleep(expire)
							b := mustBegin(t, open(t, plain), "b")
							b.files = filesB
							b.mustSave(t)
							b.mustSave(t)
						}
						prunes(t, plain)
					}
					hook.before = once(tt.method, tt.key, asleep)
					m.mustSave(t)
					if m.lost != aside {
						t.Errorf("lost: got %t, want %t", m.lost, aside)
					}
					got, err := contentOf(t.Context(), m.repo, m.saved)
					if err != nil || got["b"] != "new" || got["a"] != "before" {
						t.Errorf("saved %s: got %v, %v", m.saved.Key(), got, err)
					}
					if !aside {
						wantHead(t, plain, m.files)
					}
				})
			})
		}
	}
}

// A snapshot that is committed while a prune runs keeps what it uses.
func TestACommitDuringAPrune(t *testing.T) {
	// The prune stops before each of its requests in turn.
	for stop := 1; ; stop++ {
		done := false
		t.Run(fmt.Sprint(stop), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				plain := &storetest.Memory{}
				m := mustBegin(t, open(t, plain), "a")
				for _, body := range []string{"once and again", "other"} {
					m.files = files{"a": body}
					m.mustSave(t)
				}
				time.Sleep(grace)
				mustPrune(t, plain, store.Retention{Last: 1}) // marks
				time.Sleep(grace)
				var mu sync.Mutex // mu guards at: a prune reads several snapshots at once
				at := 0
				hook := &hooked{Bucket: plain}
				hook.before = func(storetest.Method, store.Key) {
					mu.Lock()
					defer mu.Unlock()
					if at++; at == stop {
						m.files = files{"a": "once and again"}
						m.mustSave(t)
					}
				}
				r := open(t, hook)
				at = 0
				if _, err := r.Prune(t.Context(), store.Retention{Last: 1, Grace: grace}); err != nil {
					t.Fatal(err)
				}
				done = at < stop
				wantSound(t, plain)
				for range 3 {
					time.Sleep(grace)
					mustPrune(t, plain, store.Retention{Last: 1})
				}
				wantSound(t, plain)
				wantHead(t, plain, m.files)
			})
		})
		if done || t.Failed() {
			return
		}
	}
}

func TestPrunesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &storetest.Memory{}
		withGarbage(t, b)
		for range 4 {
			done := make(chan error)
			for range 3 {
				r := open(t, b)
				go func() {
					_, err := r.Prune(t.Context(), store.Retention{Last: 1, Grace: grace})
					done <- err
				}()
			}
			for range 3 {
				if err := <-done; err != nil {
					t.Errorf("prune beside others: got error %v", err)
				}
			}
			time.Sleep(grace)
		}
		wantSound(t, b)
		wantHead(t, b, oldFiles)
		if got := keys(t, b, "packs/"); len(got) != 4 {
			t.Errorf("got packs %v, want 4", got)
		}
	})
}

func TestPruneRefusesWhatItCannotRead(t *testing.T) {
	for _, prefix := range []store.Key{"snapshots/", "conflicts/", "index/", "pins/", "marks/"} {
		t.Run(string(prefix), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &storetest.Memory{}
				withGarbage(t, b)
				m := mustBegin(t, open(t, b), "c")
				m.mustSave(t)
				mustPrune(t, b, store.Retention{Last: 2})
				time.Sleep(grace)
				for _, key := range keys(t, b, prefix) {
					change(t, b, key, func(p []byte) []byte { return []byte(strings.ToUpper(string(p))) })
				}
				before := keys(t, b, "packs/")
				if _, err := m.repo.Prune(t.Context(), store.Retention{Last: 1, Grace: grace}); err == nil {
					t.Error("got no error")
				}
				if got := keys(t, b, "packs/"); !slices.Equal(got, before) {
					t.Errorf("got packs %v, want the %v that there were", got, before)
				}
			})
		})
	}
}

func TestForget(t *testing.T) {
	b := &storetest.Memory{}
	m := mustBegin(t, open(t, b), "a")
	for range 4 {
		m.mustSave(t)
	}
	m.lost = true
	m.mustSave(t)
	aside := m.saved.Name()
	for _, tt := range []struct {
		forget []string
		err    error // nil: one that says why
		left   int
	}{
		{[]string{"2"}, nil, 4},
		{[]string{"2"}, store.ErrNoSnapshot, 4},
		{[]string{"1", "nonsense"}, store.ErrNoSnapshot, 4},
		{[]string{aside, "1", "1"}, nil, 2},
	} {
		_, err := m.repo.Prune(context.Background(), store.Retention{Forget: tt.forget, Grace: grace})
		wantErr(t, err, tt.err)
		if got := snapshotNames(t, m.repo); len(got) != tt.left {
			t.Errorf("after forgetting %v: got %v, want %d", tt.forget, got, tt.left)
		}
	}
	if _, err := m.repo.Prune(t.Context(), store.Retention{Forget: []string{"4"}, Grace: grace}); err == nil {
		t.Error("forget the newest: got no error")
	}
}
