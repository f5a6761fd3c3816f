package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"valise/beneath"
	"valise/volume"
)

// reset empties a profile: what is there goes, a new one is made, with its skeleton.
// A profile that does not exist is made.
func (d *Driver) reset(ctx context.Context, p place) error {
	if p.workspace == nil {
		return fmt.Errorf("%s: only a profile can be reset", p)
	}
	if p.remote != nil {
		return d.resetRemote(ctx, p)
	}
	p.points = d.lookAtPoints(ctx, p)
	return d.unused(ctx, p, func() error {
		if _, _, err := d.discard(ctx, p); err != nil {
			return err
		}
		err := d.guarded(ctx, p, func(_ context.Context, root *beneath.Node) error {
			n, err := d.open(root, p)
			if err == nil {
				n.Close()
			}
			return err
		})
		if err == nil {
			d.cfg.Log.Info("reset profile", "user", p.user, "workspace", p.workspace.Name, "path", p.path())
			d.later(0, d.finishTrash)
		}
		return err
	})
}

// purge deletes a profile and tells whether there was one. It returns when the data
// is gone.
func (d *Driver) purge(ctx context.Context, p place) (found bool, err error) {
	if p.remote != nil {
		return d.purgeRemote(ctx, p)
	}
	var item trash
	err = d.unused(ctx, p, func() error {
		item, found, err = d.discard(ctx, p)
		return err
	})
	if err != nil || !found {
		return found, err
	}
	if err := d.delete(item); err != nil {
		return true, fmt.Errorf("%s is set aside as %q and not deleted yet, which will be tried again: %w", p, path.Join(item.Root, item.Rel), err)
	}
	d.cfg.Log.Info("purged profile", "user", p.user, "workspace", p.workspace.Name, "path", p.path())
	return true, nil
}

// unused runs act under the profile's lock when no container has it mounted.
func (d *Driver) unused(ctx context.Context, p place, act func() error) error {
	here := func(b backing) bool { return b.Path == p.path() }
	if err := d.reconcile(here); err != nil {
		return err
	}
	unlock, err := d.locks.lock(ctx, p.path())
	if err != nil {
		return err
	}
	defer unlock()
	if n := len(d.referencesTo(here)); n > 0 {
		return fmt.Errorf("%s %w by %d container(s): stop them first", p, volume.ErrInUse, n)
	}
	for _, readOnly := range []bool{false, true} {
		if err := d.detachUnused(ctx, backing{Path: p.path(), ReadOnly: readOnly, Remote: p.remote != nil}); err != nil {
			return err
		}
	}
	d.mu.Lock()
	delete(d.usage, p.path())
	d.mu.Unlock()
	return act()
}

// discard renames a profile aside, to be deleted by finishTrash. The note of where it
// went is durable before it goes, so that no crash leaves it lying there unknown.
func (d *Driver) discard(ctx context.Context, p place) (item trash, found bool, err error) {
	item = newTrash(p)
	// Whoever deletes what is noted waits until it is there.
	unlock, err := d.locks.lock(ctx, item.ID)
	if err != nil {
		return item, false, err
	}
	defer unlock()
	err = d.guarded(ctx, p, func(ctx context.Context, root *beneath.Node) error {
		parent, err := root.Open(path.Dir(p.rel))
		if err == nil {
			defer parent.Close()
			var home *beneath.Node
			if home, err = parent.Open(path.Base(p.rel)); err == nil {
				home.Close()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := d.trash.add(item); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil { // nobody waits any more, and a container may have it by now
			return errors.Join(err, d.trash.done(item))
		}
		if err := parent.Rename(path.Base(p.rel), parent, path.Base(item.Rel)); err != nil {
			return errors.Join(err, d.trash.done(item))
		}
		found = true
		return parent.Sync()
	})
	return item, found, err
}
