package plugin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"

	"valise/beneath"
	"valise/identity"
)

// parentMode is the mode of the directories that are made above and inside a profile.
const parentMode = 0o755

// guarded runs call on the opened root of a place within the place's time.
func (d *Driver) guarded(ctx context.Context, p place, call func(context.Context, *beneath.Node) error) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	err := d.guard.do(ctx, p.lane(), p.path(), func(ctx context.Context) error {
		root, err := p.root.Open()
		if err != nil {
			return err
		}
		defer root.Close()
		return call(ctx, root)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	return nil
}

// check tells whether a place could be mounted now, and makes what a mapping needs.
// A profile that does not exist yet is fine: it is made when it is mounted.
func (d *Driver) check(ctx context.Context, p place) error {
	if p.remote != nil {
		return nil // its mount will tell; to ask S3 twice would slow every launch
	}
	return d.guarded(ctx, p, func(ctx context.Context, root *beneath.Node) error {
		if p.mapping != nil {
			n, err := openMapping(root, p)
			if err == nil {
				n.Close()
			}
			return err
		}
		n, err := root.Open(p.rel)
		if errors.Is(err, fs.ErrNotExist) && p.workspace != nil {
			return nil
		}
		if err != nil {
			return err
		}
		defer n.Close()
		return wantDir(n)
	})
}

// open opens a place for mounting, and makes it first where it is a profile.
func (d *Driver) open(root *beneath.Node, p place) (*beneath.Node, error) {
	switch {
	case p.mapping != nil:
		return openMapping(root, p)
	case p.workspace != nil:
		return d.openProfile(root, p)
	}
	n, err := root.Open(p.rel)
	if err != nil {
		return nil, err
	}
	if err := wantDir(n); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// openMapping probes a mapping's source and sets the owner of a directory. A path
// with a per-user token is made below its fixed part.
func openMapping(root *beneath.Node, p place) (n *beneath.Node, err error) {
	m := p.mapping
	n, err = root.Open(p.rel)
	if errors.Is(err, fs.ErrNotExist) && m.Source.PerUser() {
		n, err = root.MakeDirs(p.rel, parentMode, m.UID, m.GID)
	}
	if err != nil {
		return nil, err
	}
	if m.SkipCheck {
		return n, nil
	}
	st, err := n.Probe()
	if err == nil && st.IsDir() {
		err = n.Own(m.UID, m.GID)
	}
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// openProfile opens a user's home, made where it is missing, with its owner and mode as
// they should be (Docker's copy-up gives an empty home to the image's owner) and the
// mount points that mappings need.
func (d *Driver) openProfile(root *beneath.Node, p place) (home *beneath.Node, err error) {
	w := p.workspace
	parent, err := root.MakeDirs(path.Dir(p.rel), parentMode, w.UID, w.GID)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	name := path.Base(p.rel)
	home, err = parent.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		home, err = d.makeProfile(parent, name, p)
	}
	if err != nil {
		return nil, err
	}
	if err = wantDir(home); err == nil {
		err = home.Own(w.UID, w.GID)
	}
	if err == nil {
		err = home.Chmod(w.Mode)
	}
	for i := 0; err == nil && i < len(p.points); i++ {
		err = makePoint(home, p, p.points[i])
	}
	if err != nil {
		home.Close()
		return nil, err
	}
	return home, nil
}

// makeProfile makes a home aside and renames it into its place, so that a home is
// there with all of its skeleton or not at all.
func (d *Driver) makeProfile(parent *beneath.Node, name string, p place) (*beneath.Node, error) {
	w := p.workspace
	aside := identity.ReservedPrefix + "new-" + rand.Text()
	dir, _, err := parent.MakeDir(aside, w.Mode, w.UID, w.GID)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if w.Skeleton != "" {
		err = d.copySkeleton(dir, p)
	}
	if err == nil {
		err = parent.Rename(aside, parent, name)
	}
	if err != nil {
		// Another host may have been first; then its home is as good.
		removeErr := removeAll(parent, aside)
		if !errors.Is(err, fs.ErrExist) {
			return nil, errors.Join(err, removeErr)
		}
	}
	d.cfg.Log.Info("made profile", "user", p.user, "workspace", w.Name, "path", p.path())
	return parent.Open(name)
}

// copySkeleton copies the workspace's skeleton into a new home and gives all of it
// to the home's owner.
func (d *Driver) copySkeleton(home *beneath.Node, p place) error {
	w := p.workspace
	from, err := d.rules.Load().locate(w.Skeleton)
	if err != nil {
		return fmt.Errorf("skeleton: %w", err)
	}
	root, err := from.root.Open()
	if err != nil {
		return fmt.Errorf("skeleton: %w", err)
	}
	defer root.Close()
	skeleton, err := root.Open(from.rel)
	if err != nil {
		return fmt.Errorf("skeleton: %w", err)
	}
	defer skeleton.Close()
	if err := os.CopyFS(home.Proc(), os.DirFS(skeleton.Proc()+"/.")); err != nil {
		return fmt.Errorf("copy skeleton %q: %w", w.Skeleton, err)
	}
	return filepath.WalkDir(home.Proc()+"/.", func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, w.UID, w.GID)
	})
}

// lookAtPoints finds out which mount points have to be files and leaves out those
// whose source does not answer: its own mount will tell. It is done before the
// profile's own call enters the guard, so that no call in the guard waits for another.
func (d *Driver) lookAtPoints(ctx context.Context, p place) []point {
	points := make([]*point, len(p.points))
	var wg sync.WaitGroup
	for i, pt := range p.points {
		wg.Go(func() {
			err := d.guarded(ctx, pt.source, func(_ context.Context, root *beneath.Node) error {
				n, err := openMapping(root, pt.source)
				if err != nil {
					return err
				}
				defer n.Close()
				st, err := n.Stat()
				pt.file = !st.IsDir()
				return err
			})
			if err != nil {
				d.cfg.Log.Warn("no mount point", "user", p.user, "target", pt.rel, "error", err)
				return
			}
			points[i] = &pt
		})
	}
	wg.Wait()
	var found []point
	for _, pt := range points {
		if pt != nil {
			found = append(found, *pt)
		}
	}
	return found
}

// makePoint makes one mount point inside the home, owned by the user.
func makePoint(home *beneath.Node, p place, pt point) error {
	w := p.workspace
	rel := pt.rel
	if pt.file {
		rel = path.Dir(rel)
	}
	dir, err := home.MakeDirs(rel, parentMode, w.UID, w.GID)
	if err == nil {
		defer dir.Close()
		if pt.file {
			err = dir.MakeFile(path.Base(pt.rel), 0o644, w.UID, w.GID)
		}
	}
	if err != nil {
		return fmt.Errorf("mount point %q of %s: %w", pt.rel, pt.source.mapping, err)
	}
	return nil
}

func wantDir(n *beneath.Node) error {
	st, err := n.Stat()
	if err == nil && !st.IsDir() {
		err = fmt.Errorf("%q: %w", n.Path(), beneath.ErrNotDirectory)
	}
	return err
}

// removeAll deletes the entry name of dir with everything below it.
func removeAll(dir *beneath.Node, name string) error {
	root, err := os.OpenRoot(dir.Proc())
	if err != nil {
		return err
	}
	defer root.Close()
	return root.RemoveAll(name)
}
