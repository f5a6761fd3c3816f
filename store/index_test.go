package store_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"valise/store"
	"valise/store/storetest"
	"valise/tree"
)

// noise is text that does not compress.
func noise(seed uint64, size int) string {
	rnd := rand.NewChaCha8([32]byte(binary.LittleEndian.AppendUint64(make([]byte, 24), seed)))
	b := make([]byte, size)
	_, _ = rnd.Read(b)
	return string(b)
}

// wide is a patch with symbolic links, whose index has about so many KiB.
func wide(t *testing.T, seed uint64, size int) *tree.Tree {
	t.Helper()
	b := tree.NewBuilder(tree.Patch, tree.Entry{Attr: tree.Attr{Mode: 0o40755}})
	for i := range size {
		target := strings.ReplaceAll(noise(seed<<16+uint64(i), 1<<10), "\x00", "0")
		b.Add(0, tree.Entry{Name: fmt.Appendf(nil, "%d-%d", seed, i), Attr: tree.Attr{Mode: 0o120777}, Symlink: []byte(target)})
	}
	patch, err := b.Finish(nil)
	if err != nil {
		t.Fatal(err)
	}
	return patch
}

// An index is a patch as long as patches are few and small, measured by the whole.
func TestSaveIndexChoosesPatchOrWhole(t *testing.T) {
	for _, tt := range []struct {
		name    string
		whole   int   // KiB of the first index, about
		patches []int // KiB of those after it
		want    []int // number of parts of the index after each
	}{
		{"small patches are always patches", 1, []int{10, 100, 100}, []int{2, 3, 4}},
		{"together they are large", 1, []int{100, 100, 100}, []int{2, 3, 1}},
		{"one is large", 1, []int{300, 10}, []int{1, 2}},
		{"large beside a larger whole", 1600, []int{300, 10, 200}, []int{2, 3, 1}},
		{"many", 1, []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, []int{2, 3, 4, 5, 6, 7, 8, 9, 1, 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := &storetest.Memory{}
			r := open(t, b)
			var index []store.Index
			base := emptyTree()
			var got []int
			for i, size := range append([]int{tt.whole}, tt.patches...) {
				var err error
				if index, base, err = r.SaveIndex(t.Context(), index, base, wide(t, uint64(i), size)); err != nil {
					t.Fatal(err)
				}
				got = append(got, len(index))
				read, err := open(t, b).Tree(t.Context(), store.Snapshot{Index: index})
				if err != nil || string(read.Bytes()) != string(base.Bytes()) {
					t.Errorf("index %d: read back: %v, or it is another tree", i, err)
				}
			}
			if diff := cmp.Diff(append([]int{1}, tt.want...), got); diff != "" {
				t.Errorf("lengths, -want +got:\n%s", diff)
			}
		})
	}
}

func TestIndexOfSeveralParts(t *testing.T) {
	b := &storetest.Memory{}
	r := open(t, b)
	index, whole, err := r.SaveIndex(t.Context(), nil, emptyTree(), wide(t, 1, 20<<10))
	if err != nil || len(index) != 1 || len(index[0].Parts) < 3 {
		t.Fatalf("got %d trees, %v, want one of 3 parts", len(index), err)
	}
	got, err := r.Tree(t.Context(), store.Snapshot{Index: index})
	if err != nil || string(got.Bytes()) != string(whole.Bytes()) {
		t.Errorf("read back: %v, or it is another tree", err)
	}
}

func TestTreeRefusesADamagedIndex(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, b store.Bucket, s *store.Snapshot, key store.Key)
		want   error
		says   string // "" for the key
	}{
		{"missing part", func(t *testing.T, b store.Bucket, _ *store.Snapshot, key store.Key) {
			if err := b.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}, store.ErrNotExist, ""},
		{"flipped byte", func(t *testing.T, b store.Bucket, _ *store.Snapshot, key store.Key) {
			change(t, b, key, func(p []byte) []byte { p[len(p)/2] ^= 1; return p })
		}, store.ErrCorrupt, ""},
		{"truncated", func(t *testing.T, b store.Bucket, _ *store.Snapshot, key store.Key) {
			change(t, b, key, func(p []byte) []byte { return p[:len(p)-1] })
		}, store.ErrCorrupt, ""},
		{"shorter than it says", func(_ *testing.T, _ store.Bucket, s *store.Snapshot, _ store.Key) {
			s.Index[1].Size++
		}, store.ErrCorrupt, "index"},
		{"larger than any", func(_ *testing.T, _ store.Bucket, s *store.Snapshot, _ store.Key) {
			s.Index[1].Size = 1 << 62
		}, store.ErrCorrupt, "index"},
		{"no part", func(_ *testing.T, _ store.Bucket, s *store.Snapshot, _ store.Key) {
			s.Index[1].Parts = nil
		}, store.ErrCorrupt, "index"},
		{"no whole tree first", func(_ *testing.T, _ store.Bucket, s *store.Snapshot, _ store.Key) {
			s.Index = s.Index[1:]
		}, store.ErrCorrupt, "patch"},
		{"none", func(_ *testing.T, _ store.Bucket, s *store.Snapshot, _ store.Key) {
			s.Index = nil
		}, store.ErrCorrupt, "none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := &storetest.Memory{}
			withOldHead(t, b)
			m := mustBegin(t, open(t, b), "b")
			m.files = filesB
			m.mustSave(t)
			s := m.saved
			if len(s.Index) != 2 {
				t.Fatalf("got %d trees, want 2", len(s.Index))
			}
			key := store.Key("index/" + s.Index[1].ID + "-0")
			tt.damage(t, b, &s, key)
			_, err := m.repo.Tree(t.Context(), s)
			if tt.says == "" {
				tt.says = string(key)
			}
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "snapshot 2") {
				t.Errorf("got error %v, want %v of snapshot 2 that says %q", err, tt.want, tt.says)
			}
		})
	}
}
