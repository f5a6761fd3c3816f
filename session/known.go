package session

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"

	"valise/durable"
	"valise/store"
	"valise/tree"
)

// A host that has released a profile remembers in known.json what was there, and keeps the
// tree of the newest snapshot beside it: if nobody else has used the profile meanwhile, the
// next mount needs to read neither. A torn tree shows by its checksum.

// known returns what the host remembers, or nil.
func (h *home) known() *store.Known {
	data, err := os.ReadFile(h.file("known.json"))
	k := &store.Known{}
	if err != nil || json.Unmarshal(data, k) != nil {
		return nil
	}
	return k
}

// remember keeps what is known once the lease is released. base is the snapshot whose tree
// base.tree is, which nothing needs any more.
func (h *home) remember(k store.Known, base store.Snapshot) error {
	if k.Head.Nonce == base.Nonce && base.Nonce != "" {
		if err := os.Rename(h.file("base.tree"), h.headTree(base)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return durable.WriteJSON(h.file("known.json"), k)
}

func (h *home) headTree(s store.Snapshot) string { return h.file("head-" + s.Nonce + ".tree") }

// keepTree keeps the tree of the newest snapshot, and no other.
func (h *home) keepTree(s store.Snapshot, t *tree.Tree) error {
	old, err := filepath.Glob(h.file("head-*.tree"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return os.WriteFile(h.headTree(s), t.Bytes(), 0o600)
}

// knownTree maps the tree of a snapshot that was kept.
func (h *home) knownTree(s store.Snapshot) (*tree.Tree, bool) {
	t, err := tree.Map(h.headTree(s))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		_ = os.Remove(h.headTree(s)) // whatever is wrong with it, the store has it
	}
	return t, err == nil
}

// ForgetTrees deletes the trees in stateDir that were kept before a time.
func ForgetTrees(stateDir string, before time.Time) error {
	kept, err := filepath.Glob(filepath.Join(stateDir, "s3", "*", "head-*.tree"))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range kept {
		info, err := os.Stat(path)
		if err == nil && info.ModTime().Before(before) {
			err = os.Remove(path)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) { // a mount has just taken it
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
