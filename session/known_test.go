package session

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"valise/store"
)

func TestRemember(t *testing.T) {
	base, next := store.Snapshot{Epoch: 1, Seq: 1, Nonce: "ba5e"}, store.Snapshot{Epoch: 1, Seq: 2, Nonce: "4e77"}
	for name, head := range map[string]store.Snapshot{"nothing was saved": base, "something was saved": next} {
		t.Run(name, func(t *testing.T) {
			h, s := newHome(t), example
			s.Base = base
			if k := h.known(); k != nil {
				t.Fatalf("at first: got %+v, want nothing", k)
			}
			mapped, err := h.begin(s, newBase(t), nil)
			must(t, err)
			defer mapped.Close()
			if head.Nonce != base.Nonce {
				must(t, h.keepTree(head, newBase(t)))
			}
			want := store.Known{Profile: "id", Epoch: 7, Head: head, Released: time.Unix(1, 0).UTC()}
			must(t, h.remember(want, base))
			s.Complete = true
			must(t, h.drop(s))
			got := h.known()
			if got == nil || !cmp.Equal(*got, want, cmp.AllowUnexported(store.Snapshot{})) {
				t.Fatalf("got %+v, want %+v", got, want)
			}
			kept, ok := h.knownTree(head)
			if !ok {
				t.Fatal("the tree is not kept")
			}
			defer kept.Close()
			// The next mount takes the file as it is.
			s.Base = head
			again, err := h.begin(s, kept, nil)
			must(t, err)
			if again != kept || !bytes.Equal(again.Bytes(), newBase(t).Bytes()) {
				t.Error("the kept tree is not the base of the next mount")
			}
			if got := names(t, h.path); !cmp.Equal(got, []string{"base.tree", "known.json", "layers", "lock", "state.json", "trash"}) {
				t.Errorf("got %q, want the tree as the base", got)
			}
		})
	}
}

func TestKnownThatIsBroken(t *testing.T) {
	h, head := newHome(t), store.Snapshot{Epoch: 1, Seq: 1, Nonce: "ba5e"}
	must(t, os.WriteFile(h.file("known.json"), []byte(`{"prof`), 0o600))
	if k := h.known(); k != nil {
		t.Errorf("half a file: got %+v, want nothing", k)
	}
	must(t, h.keepTree(head, newBase(t)))
	must(t, os.Truncate(h.headTree(head), 40))
	if _, ok := h.knownTree(head); ok {
		t.Error("half a tree is taken for one")
	}
	if _, err := os.Stat(h.headTree(head)); !os.IsNotExist(err) {
		t.Errorf("half a tree: got %v, want it gone", err)
	}
}

func TestForgetTrees(t *testing.T) {
	h := newHome(t)
	old, young := store.Snapshot{Nonce: "01d"}, store.Snapshot{Nonce: "404"}
	must(t, os.WriteFile(h.headTree(old), nil, 0o600))
	must(t, os.WriteFile(h.headTree(young), nil, 0o600))
	now := time.Now()
	must(t, os.Chtimes(h.headTree(old), now, now.Add(-time.Hour)))
	must(t, ForgetTrees(filepath.Dir(filepath.Dir(h.path)), now.Add(-time.Minute)))
	if got, want := names(t, h.path), []string{filepath.Base(h.headTree(young)), "lock"}; !cmp.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
