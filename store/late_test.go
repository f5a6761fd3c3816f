package store_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"valise/store"
	"valise/store/storetest"
)

// expire is longer than the leases of these tests with their margin.
const expire = 2 * time.Minute

// tick is a step of the store's clock: what it tells apart.
const tick = time.Second

var (
	filesA = files{"a": "a"}
	filesB = files{"b": "b"}
)

// wantAside checks that the mount has its files in a snapshot beside the main line.
func wantAside(t *testing.T, m *mount) {
	t.Helper()
	if !m.saved.Conflict {
		t.Fatalf("mount on %s saved %s, want a conflict", m.claim.Host, m.saved.Key())
	}
	s, err := m.repo.Find(t.Context(), m.saved.Name())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := contentOf(t.Context(), m.repo, s); err != nil || len(got) != len(m.files) || got["a"] != m.files["a"] {
		t.Errorf("snapshot %s: got %v, %v, want %v", s.Name(), got, err, m.files)
	}
}

// A commit whose request arrives when another mount has the lease takes nothing from
// that one, and is not lost. That holds in each order.
func TestLateCommit(t *testing.T) {
	for _, arrives := range []string{"before b reads the head", "before b saves", "after b has saved"} {
		for _, empty := range []bool{false, true} {
			name := arrives
			if empty {
				name += ", in a new profile"
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { lateCommit(t, arrives, empty) })
			})
		}
	}
}

func lateCommit(t *testing.T, arrives string, empty bool) {
	plain := &storetest.Memory{}
	if !empty {
		withOldHead(t, plain)
	}
	held := &late{Bucket: plain, prefix: "-"}
	a := mustBegin(t, open(t, held), "a")
	a.files = filesA
	held.prefix = "snapshots/"
	wantErr(t, a.save(t.Context()), store.ErrUnavailable)
	time.Sleep(expire)

	hook := &hooked{Bucket: plain}
	if arrives == "before b reads the head" {
		hook.before = once(storetest.List, "snapshots/", func() { held.arrive() })
	}
	b := mustBegin(t, open(t, hook), "b")
	b.files = filesB
	time.Sleep(tick)
	if arrives == "before b saves" {
		held.arrive()
	}
	b.mustSave(t)
	if arrives == "after b has saved" {
		held.arrive()
	}
	if b.lost {
		t.Error("b has lost the lease to a late commit")
	}
	wantHead(t, plain, filesB)
	a.mustSave(t)
	wantAside(t, a)
	wantHead(t, plain, filesB)
	wantSound(t, plain)
	b.files = files{"b": "b again"}
	b.mustSave(t)
	wantHead(t, plain, b.files)

	conflicts := 2 // what a kept, and what came late
	if arrives == "before b reads the head" {
		conflicts = 1
	}
	for _, name := range snapshotNames(t, b.repo) {
		if strings.Contains(name, "-") {
			conflicts--
		}
	}
	if conflicts != 0 {
		t.Errorf("snapshots: got %v, want %d conflicts more", snapshotNames(t, b.repo), conflicts)
	}
}

// The same, with a clock at fault: nothing but the order of requests tells a that it
// has lost.
func TestTakeoverDuringACommit(t *testing.T) {
	for _, tt := range []struct {
		name   string
		method storetest.Method
		key    store.Key
		jump   time.Duration // of the store's clock
		sleep  time.Duration // of host a
		aside  bool          // a's work is
	}{
		{"asleep before the head is read", storetest.List, "snapshots/", 0, expire, true},
		{"asleep before the snapshot is created", storetest.Create, "snapshots/", 0, expire, true},
		{"the store's clock jumps before the head is read", storetest.List, "snapshots/", time.Hour, 0, true},
		{"the store's clock jumps before the snapshot is created", storetest.Create, "snapshots/", time.Hour, 0, true},
		{"asleep before the leases are listed", storetest.List, "lease/", 0, expire, true},
		{"the store's clock jumps before the leases are listed", storetest.List, "lease/", time.Hour, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				jump := time.Duration(0)
				plain := &storetest.Memory{Now: func() time.Time { return time.Now().Add(jump) }}
				withOldHead(t, plain)
				hook := &hooked{Bucket: plain}
				a := mustBegin(t, open(t, hook), "a")
				a.files = filesA
				var b *mount
				hook.before = once(tt.method, tt.key, func() {
					jump = tt.jump
					time.Sleep(tt.sleep)
					b = mustBegin(t, open(t, plain), "b")
					time.Sleep(tick)
				})
				a.mustSave(t)
				if a.lost != tt.aside {
					t.Fatalf("a saved %s, lost: got %t, want %t", a.saved.Key(), a.lost, tt.aside)
				}
				wantAside(t, a)
				b.files["b"] = "b"
				b.mustSave(t)
				if b.lost {
					t.Error("b has lost the lease that it holds")
				}
				wantHead(t, plain, b.files)
				wantSound(t, plain)
			})
		})
	}
}

// A commit that was acknowledged is what the next holder starts from, although its
// own clock or the store's gives the lease away at once.
func TestACommitCountsWhenTheLeaseIsTakenRightAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plain := &storetest.Memory{}
		hook := &hooked{Bucket: plain}
		a := mustBegin(t, open(t, hook), "a")
		a.files = filesA
		var b *mount
		hook.after = once(storetest.List, "lease/", func() {
			time.Sleep(expire)
			b = mustBegin(t, open(t, plain), "b")
		})
		a.mustSave(t)
		if a.lost || b == nil || b.files["a"] != "a" {
			t.Errorf("a saved %s, b found %+v", a.saved.Key(), b)
		}
	})
}

// Two processes may go on with the same mount, one of them a copy that was suspended.
func TestTheSameMountTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plain := &storetest.Memory{}
		zombie := mustBegin(t, open(t, plain), "a")
		zombie.files = files{"a": "zombie"}
		live := mustBegin(t, open(t, plain), "a")
		live.files = filesA
		live.mustSave(t)
		zombie.mustSave(t)
		if !zombie.lost || live.lost {
			t.Errorf("lost: got %t and %t, want true and false", zombie.lost, live.lost)
		}
		wantAside(t, zombie)
		wantHead(t, plain, filesA)
		live.files = files{"a": "again"}
		live.mustSave(t)
		wantHead(t, plain, live.files)
	})
}

// An own try of a commit that arrives late, even in between, is gone on from.
func TestOwnLateCommit(t *testing.T) {
	for _, when := range []string{"before the next try", "during the next try", "in a later epoch"} {
		t.Run(when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				plain := &storetest.Memory{}
				hook := &hooked{Bucket: plain}
				held := &late{Bucket: hook, prefix: "-"}
				a := mustBegin(t, open(t, held), "a")
				a.files = filesA
				held.prefix = "snapshots/"
				wantErr(t, a.save(t.Context()), store.ErrUnavailable)
				a.files = files{"a": "second"}
				switch when {
				case "before the next try":
					held.arrive()
				case "during the next try":
					hook.before = once(storetest.Create, "snapshots/", held.arrive)
				case "in a later epoch":
					time.Sleep(time.Hour)
				}
				a.mustSave(t)
				held.arrive()
				a.mustSave(t)
				if a.lost {
					t.Error("a has lost the lease to itself")
				}
				wantHead(t, plain, a.files)
				wantSound(t, plain)
			})
		})
	}
}

// What a late commit left among the snapshots of the main line is never dropped by a
// rule that is for those.
func TestPruneKeepsLateCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plain := &storetest.Memory{}
		withGarbage(t, plain)
		r := open(t, plain)
		for range 3 {
			if _, err := r.Prune(t.Context(), store.Retention{Last: 1, Grace: time.Hour}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		names := snapshotNames(t, r)
		if len(names) != 3 || names[0] != "4" {
			t.Fatalf("after all prunes: got snapshots %v, want 4 and two conflicts", names)
		}
		for _, name := range names[1:] {
			s, err := r.Find(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := contentOf(t.Context(), r, s); err != nil || got["late"] != "too late" {
				t.Errorf("snapshot %s: got %v, %v", name, got, err)
			}
		}
		if _, err := r.Prune(t.Context(), store.Retention{Forget: names[1:], Grace: time.Hour}); err != nil {
			t.Fatal(err)
		}
		if got := snapshotNames(t, r); len(got) != 1 {
			t.Errorf("after forgetting %v: got snapshots %v, want 4 alone", names[1:], got)
		}
		_, err := r.Find(t.Context(), names[1])
		wantErr(t, err, store.ErrNoSnapshot)
	})
}
