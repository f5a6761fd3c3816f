package extract

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"valise/tree"
)

// writeFile writes n, of any type but a directory, under its name.
func (r *restorer) writeFile(ctx context.Context, h *handle, n tree.Node) error {
	dir, err := h.open(r.tree.Parent(n))
	if err != nil {
		return err
	}
	temporary := temporaryName()
	err = r.fill(ctx, dir, temporary, n)
	if err == nil {
		err = r.place(dir, temporary, string(r.tree.Name(n)))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %q: %w", r.path(n), err), remove(dir, temporary))
	}
	r.tally.file()
	return nil
}

// fill makes a file with the content and attributes of n. After an error it may be there.
func (r *restorer) fill(ctx context.Context, dir int, name string, n tree.Node) (err error) {
	o, err := r.create(dir, name, n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeFile(o.fd)) }()
	if r.tree.Attr(n).IsRegular() {
		if err := r.content(ctx, o.fd, n); err != nil {
			return err
		}
	}
	r.setAttributes(o, n)
	return nil
}

// create makes an empty file of n's type and opens it.
func (r *restorer) create(dir int, name string, n tree.Node) (o object, err error) {
	kind := r.tree.Attr(n).Mode & unix.S_IFMT
	flags := 0 // to open it with
	switch kind {
	case unix.S_IFREG:
		flags := unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
		err = retry(func() (err error) { o.fd, err = unix.Openat(dir, name, flags, 0o600); return err })
		return o, err
	case unix.S_IFLNK:
		target := string(r.tree.Symlink(n))
		err = retry(func() error { return unix.Symlinkat(target, dir, name) })
		flags, o.symlink = unix.O_PATH, true
	case unix.S_IFIFO:
		err = retry(func() error { return unix.Mknodat(dir, name, unix.S_IFIFO|0o600, 0) })
		flags = unix.O_RDWR | unix.O_NONBLOCK // waits for no other end
	default:
		err = fmt.Errorf("unknown type, mode %o", kind)
	}
	if err != nil {
		return o, err
	}
	if o.fd, err = openBeneath(dir, name, flags); err != nil {
		return o, err
	}
	// Who else may write here could have put something else at the name: what is not
	// ours alone must not get the attributes.
	var st unix.Stat_t
	if err = retry(func() error { return unix.Fstat(o.fd, &st) }); err == nil && (st.Mode&unix.S_IFMT != kind || st.Nlink > 1) {
		err = fmt.Errorf("somebody else changed %s: %w", name, unix.ESTALE)
	}
	if err != nil {
		return o, errors.Join(err, closeFile(o.fd))
	}
	return o, nil
}

// content writes the data of n; what no extent covers stays a hole.
func (r *restorer) content(ctx context.Context, fd int, n tree.Node) error {
	end, size := int64(0), r.tree.Attr(n).Size
	for b, err := range r.blocks(ctx, r.tree.Extents(n), fileBlocks) {
		if err != nil {
			return err
		}
		if err := writeAt(fd, b.raw, b.Offset); err != nil {
			return err
		}
		r.tally.bytes(b.End() - end)
		end = b.End()
	}
	if end < size {
		if err := retry(func() error { return unix.Ftruncate(fd, size) }); err != nil {
			return err
		}
		r.tally.bytes(size - end)
	}
	return nil
}

// place gives a complete file its name, in place of what has it if that may be.
func (r *restorer) place(dir int, temporary, name string) error {
	rename := func() error { return unix.Renameat(dir, temporary, dir, name) }
	if r.Overwrite {
		err := retry(rename)
		if err != unix.EISDIR {
			return err
		}
		if err := retry(func() error { return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) }); err != nil {
			return fmt.Errorf("replace the directory in its way: %w", err)
		}
		return retry(rename)
	}
	// The destination was empty, but another writer may have been faster, and on some
	// file systems two names of the snapshot are one.
	err := retry(func() error { return unix.Renameat2(dir, temporary, dir, name, unix.RENAME_NOREPLACE) })
	if err != unix.EINVAL && err != unix.ENOSYS {
		return err
	}
	var st unix.Stat_t
	err = retry(func() error { return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	switch {
	case err == nil:
		return unix.EEXIST
	case err != unix.ENOENT:
		return err
	}
	return retry(rename)
}
