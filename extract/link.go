package extract

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"valise/tree"
)

// noLink are the answers of file systems that take no such link, however often asked.
var noLink = []error{unix.EPERM, unix.EMLINK, unix.EXDEV, unix.ENOTSUP, unix.ENOSYS}

// writeLinks gives the files, which are all there, their further names.
func (r *restorer) writeLinks(ctx context.Context, h *handle) error {
	if len(r.first) == 0 {
		return nil
	}
	source := newHandle(r.root, r.plan)
	defer source.close()
	for _, n := range r.nodes {
		to, further := r.linked(n)
		if !further {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		err := r.writeLink(h, n, source, to)
		if i := slices.IndexFunc(noLink, func(e error) bool { return errors.Is(err, e) }); i >= 0 {
			r.note("make a hard link, not a copy,", n, noLink[i])
			err = r.writeCopy(ctx, h, n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeLink makes n, in h, a further name of to, in source.
func (r *restorer) writeLink(h *handle, n tree.Node, source *handle, to tree.Node) error {
	from, err := source.open(r.tree.Parent(to))
	if err != nil {
		return err
	}
	dir, err := h.open(r.tree.Parent(n))
	if err != nil {
		return err
	}
	name, target := string(r.tree.Name(n)), string(r.tree.Name(to))
	link := func(as string) error {
		return retry(func() error { return unix.Linkat(from, target, dir, as, 0) })
	}
	if !r.Overwrite {
		err = link(name)
	} else {
		temporary := temporaryName()
		if err = link(temporary); err == nil {
			// Renaming does nothing where both are names of one file already.
			err = errors.Join(r.place(dir, temporary, name), remove(dir, temporary))
		}
	}
	if err != nil {
		return fmt.Errorf("link %q to %q: %w", r.path(n), r.path(to), err)
	}
	return nil
}

// writeCopy makes n a file of its own.
func (r *restorer) writeCopy(ctx context.Context, h *handle, n tree.Node) error {
	size := int64(0)
	if a := r.tree.Attr(n); a.IsRegular() {
		size = a.Size
	}
	r.tally.expect(1, size)
	return r.writeFile(ctx, h, n)
}
