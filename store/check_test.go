package store_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"valise/store"
	"valise/store/storetest"
)

// change replaces an object.
func change(t *testing.T, b store.Bucket, key store.Key, edit func([]byte) []byte) {
	t.Helper()
	body, err := b.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), key, edit(body)); err != nil {
		t.Fatal(err)
	}
}

func TestCheckFinds(t *testing.T) {
	flip := func(at func(size int) int) func([]byte) []byte {
		return func(p []byte) []byte { p[at(len(p))] ^= 0x10; return p }
	}
	remove := func([]byte) []byte { return nil }
	for _, tt := range []struct {
		name   string
		prefix store.Key
		edit   func([]byte) []byte // nil: the object is deleted
		want   store.Key           // prefix of the object that is at fault
		data   bool                // found only by reading the data
		of     int                 // snapshots that need it
	}{
		{"missing pack", "packs/", remove, "packs/", false, 2},
		{"truncated pack", "packs/", func(p []byte) []byte { return p[:len(p)-1] }, "packs/", false, 2},
		{"flipped byte in a block", "packs/", flip(func(int) int { return 10 }), "packs/", true, 2},
		{"flipped byte in a pack's table", "packs/", flip(func(n int) int { return n - 60 }), "packs/", true, 2},
		{"flipped byte in a pack's end", "packs/", flip(func(n int) int { return n - 5 }), "packs/", true, 2},
		{"missing index", "index/", remove, "snapshots/", false, 1},
		{"flipped byte in an index", "index/", flip(func(n int) int { return n / 2 }), "snapshots/", false, 1},
		{"flipped byte in a snapshot", "snapshots/", flip(func(n int) int { return n / 2 }), "snapshots/", false, 0},
		{"empty snapshot", "snapshots/", func([]byte) []byte { return []byte("{}") }, "", false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := &storetest.Memory{}
			m := mustBegin(t, open(t, b), "a")
			m.files = files{"text": strings.Repeat("text ", 1000), "noise": noise(1, 3000)}
			m.mustSave(t)
			m.mustSave(t)
			key := keys(t, b, tt.prefix)[0]
			body, err := b.Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			if body = tt.edit(body); body == nil {
				err = b.Delete(t.Context(), key)
			} else {
				err = b.Put(t.Context(), key, body)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, data := range []bool{false, true} {
				res, err := m.repo.Check(t.Context(), data, nil)
				if tt.want == "" { // of another format: what it needs can't be told
					if err == nil {
						t.Error("got no error")
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if want := data || !tt.data; (len(res.Faults) == 1) != want {
					t.Fatalf("read data %t: got faults %v, want one: %t", data, res.Faults, want)
				}
				for _, f := range res.Faults {
					if !strings.HasPrefix(string(f.Object), string(tt.want)) || len(f.Snapshots) != tt.of || f.Cause == "" {
						t.Errorf("got fault %+v, want one of %s in %d snapshots", f, tt.want, tt.of)
					}
				}
			}
		})
	}
}

// Others can be restored when one snapshot is damaged.
func TestFindBesideADamagedSnapshot(t *testing.T) {
	b := &storetest.Memory{}
	m := mustBegin(t, open(t, b), "a")
	for range 3 {
		m.mustSave(t)
	}
	change(t, b, keys(t, b, "snapshots/")[1], func([]byte) []byte { return []byte("?") })
	if s, err := m.repo.Find(t.Context(), "1"); err != nil || s.Seq != 1 {
		t.Errorf("find 1: got %+v, %v", s, err)
	}
	_, err := m.repo.Find(t.Context(), "2")
	wantErr(t, err, store.ErrCorrupt)
	_, err = m.repo.Snapshots(t.Context())
	wantErr(t, err, store.ErrCorrupt)
	_, err = m.repo.Prune(t.Context(), store.Retention{Grace: time.Hour})
	wantErr(t, err, store.ErrCorrupt)
}

func TestCheckTellsProgressAndUnused(t *testing.T) {
	b := &storetest.Memory{}
	m := mustBegin(t, open(t, b), "a")
	m.files = filesA
	m.mustSave(t)
	if err := b.Put(t.Context(), "packs/00000000000000000000000000000000", []byte("unused")); err != nil {
		t.Fatal(err)
	}
	var told [][2]int
	res, err := m.repo.Check(t.Context(), true, func(done, of int) { told = append(told, [2]int{done, of}) })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][2]int{{1, 1}}, told); diff != "" {
		t.Errorf("progress, -want +got:\n%s", diff)
	}
	if res.Snapshots != 1 || res.Packs != 2 || res.Unused != 1 || res.Bytes == 0 || len(res.Faults) != 0 {
		t.Errorf("got %+v, want 1 snapshot, 2 packs, 1 unused", res)
	}
}

// The newest snapshot is superseded and dropped between its listing and its reading.
func TestHeadThatIsDroppedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plain := &storetest.Memory{}
		m := mustBegin(t, open(t, plain), "a")
		m.mustSave(t)
		hook := &hooked{Bucket: plain}
		r := open(t, hook)
		hook.before = once(storetest.Get, "snapshots/", func() {
			m.mustSave(t)
			if _, err := m.repo.Prune(t.Context(), store.Retention{Last: 1, Grace: grace}); err != nil {
				t.Fatal(err)
			}
		})
		if s, err := r.Head(t.Context()); err != nil || s.Seq != 2 {
			t.Errorf("got snapshot %d, %v, want 2", s.Seq, err)
		}
	})
}
