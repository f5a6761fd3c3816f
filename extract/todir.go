package extract

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"valise/tree"
)

// Files are written by so many workers, each of which reads so many blocks ahead.
const (
	workers    = 8
	fileBlocks = 4
)

// ToDir makes dir a copy of the directory at path in the snapshot, the whole of it if
// path is empty, with the attributes of that directory too. Anything else at path is
// written as a file in dir, by its own name. The last part of dir is made if it is
// missing. A file with several names below path keeps them.
func ToDir(ctx context.Context, cfg Config, path, dir string) (Result, error) {
	p, err := newPlan(cfg.Tree, path)
	if err != nil {
		return Result{}, err
	}
	root, err := destination(dir, cfg.Overwrite)
	if err != nil {
		return Result{}, err
	}
	defer root.Close()
	r := &restorer{Config: &cfg, plan: p, root: int(root.Fd()), tally: newTally(&cfg, p)}
	err = r.run(ctx)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = fmt.Errorf("no room left in %s: %w", dir, err)
	}
	return r.tally.result(), err
}

// destination opens dir, which it makes if needed.
func destination(dir string, overwrite bool) (*os.File, error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	if overwrite {
		return f, nil
	}
	if _, err = f.Readdirnames(1); errors.Is(err, io.EOF) {
		return f, nil
	}
	if err == nil {
		err = fmt.Errorf("restore into %s: %w", dir, ErrNotEmpty)
	}
	return nil, errors.Join(err, f.Close())
}

// restorer writes a plan into a directory.
type restorer struct {
	*Config
	*plan
	root  int // the directory
	tally *tally
}

func (r *restorer) note(action string, n tree.Node, reason error) {
	r.tally.note(action, cmp.Or(r.path(n), "."), reason)
}

// run makes the directories, fills them, and last sets their attributes: each entry
// changes the time of its directory, and a mode may close it.
func (r *restorer) run(ctx context.Context) error {
	h := newHandle(r.root, r.plan)
	defer h.close()
	for _, n := range r.nodes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if r.tree.Attr(n).IsDir() {
			if err := r.makeDir(h, n); err != nil {
				return fmt.Errorf("make directory %q: %w", r.path(n), err)
			}
			r.tally.dir()
		}
	}
	if err := r.writeFiles(ctx); err != nil {
		return err
	}
	if err := r.writeLinks(ctx, h); err != nil {
		return err
	}
	if err := r.finishDirs(ctx, h); err != nil {
		return err
	}
	if err := retry(func() error { return unix.Syncfs(r.root) }); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

// makeDir makes n, or keeps the directory that is there.
func (r *restorer) makeDir(h *handle, n tree.Node) error {
	dir, err := h.open(r.tree.Parent(n))
	if err != nil {
		return err
	}
	name := string(r.tree.Name(n))
	mkdir := func() error { return unix.Mkdirat(dir, name, 0o700) }
	err = retry(mkdir)
	if err != unix.EEXIST || !r.Overwrite {
		return err
	}
	var st unix.Stat_t
	err = retry(func() error { return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return err
	}
	if err := remove(dir, name); err != nil {
		return err
	}
	return retry(mkdir)
}

// writeFiles writes all files under their first names.
func (r *restorer) writeFiles(ctx context.Context) error {
	files := r.byLocation()
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range min(workers, len(files)) {
		group.Go(func() error {
			h := newHandle(r.root, r.plan)
			defer h.close()
			for {
				if err := ctx.Err(); err != nil {
					return err
				}
				i := next.Add(1) - 1
				if i >= int64(len(files)) {
					return nil
				}
				if err := r.writeFile(ctx, h, files[i]); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// byLocation returns the files in the order in which their content lies in the packs,
// so that those that come with one request are read at about the same time.
func (r *restorer) byLocation() []tree.Node {
	type located struct {
		node   tree.Node
		offset uint32
		pack   tree.PackID
	}
	list := make([]located, 0, r.files)
	for _, n := range r.nodes {
		if _, further := r.linked(n); further || r.tree.Attr(n).IsDir() {
			continue
		}
		l := located{node: n}
		if e, ok := r.tree.ExtentAt(n, 0); ok {
			l.offset, l.pack = e.Blob.Offset, e.Blob.Pack
		}
		list = append(list, l)
	}
	slices.SortStableFunc(list, func(a, b located) int {
		return cmp.Or(bytes.Compare(a.pack[:], b.pack[:]), cmp.Compare(a.offset, b.offset))
	})
	out := make([]tree.Node, len(list))
	for i, l := range list {
		out[i] = l.node
	}
	return out
}

// finishDirs sets the attributes of the directories, the deepest first.
func (r *restorer) finishDirs(ctx context.Context, h *handle) error {
	for _, n := range slices.Backward(r.nodes) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !r.tree.Attr(n).IsDir() {
			continue
		}
		fd, err := h.open(n)
		if err != nil {
			return err
		}
		r.setAttributes(object{fd: fd}, n)
	}
	if r.whole {
		r.setAttributes(object{fd: r.root}, r.top)
	}
	return nil
}
