package plugin

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"valise/beneath"
	"valise/durable"
	"valise/identity"
)

// trash is a directory on its way to deletion.
type trash struct {
	ID   string `json:"id"`
	Root string `json:"root"` // path of the configured root
	Rel  string `json:"rel"`  // below it
}

func newTrash(p place) trash {
	id := rand.Text()
	return trash{ID: id, Root: p.root.Path, Rel: path.Join(path.Dir(p.rel), identity.ReservedPrefix+"trash-"+id)}
}

// trashStore notes what has to be deleted, a file each, across restarts.
type trashStore struct{ dir string }

func (s trashStore) path(t trash) string { return filepath.Join(s.dir, t.ID+".json") }

func (s trashStore) add(t trash) error {
	if err := durable.WriteJSON(s.path(t), t); err != nil {
		return fmt.Errorf("note a deletion: %w", err)
	}
	return nil
}

func (s trashStore) done(t trash) error { return os.Remove(s.path(t)) }

func (s trashStore) list() ([]trash, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var out []trash
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(s.dir, e.Name()))
		var t trash
		if err == nil {
			err = json.Unmarshal(data, &t)
		}
		if err == nil && !strings.HasPrefix(path.Base(t.Rel), identity.ReservedPrefix) {
			err = fmt.Errorf("%q is nothing of valise's", t.Rel)
		}
		if err != nil {
			return out, fmt.Errorf("deletion %q: %w", e.Name(), err)
		}
		out = append(out, t)
	}
	return out, nil
}

// finishTrash deletes what was set aside. What can't be deleted now stays noted for the
// next time.
func (d *Driver) finishTrash() {
	items, err := d.trash.list()
	if err != nil {
		d.cfg.Log.Error("deletions", "error", err)
	}
	for _, t := range items {
		if err := d.delete(t); err != nil {
			d.cfg.Log.Error("delete", "root", t.Root, "path", t.Rel, "error", err)
		}
	}
}

// rootAt is the configured root at path, with its conditions: in a file system that is
// not mounted now, everything looks deleted.
func (d *Driver) rootAt(path string) (beneath.Root, error) {
	r := d.rules.Load()
	for _, root := range r.Roots {
		if root.Path == path {
			return root, nil
		}
	}
	return beneath.Root{Path: path}, r.err
}

func (d *Driver) delete(t trash) error {
	unlock, err := d.locks.lock(d.ctx, t.ID)
	if err != nil {
		return err
	}
	defer unlock()
	root, err := d.rootAt(t.Root)
	if err != nil {
		return err
	}
	err = d.guard.do(d.ctx, t.Root, path.Join(t.Root, t.Rel), func(context.Context) error {
		n, err := root.Open()
		if err != nil {
			return err
		}
		defer n.Close()
		parent, err := n.Open(path.Dir(t.Rel))
		if err != nil {
			return err
		}
		defer parent.Close()
		return removeAll(parent, path.Base(t.Rel))
	})
	// A root that is missing may be one that is not mounted now; below it, gone is gone.
	if err != nil && (errors.Is(err, beneath.ErrRootMissing) || !errors.Is(err, fs.ErrNotExist)) {
		return err
	}
	if err := d.trash.done(t); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
