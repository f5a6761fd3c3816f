package extract

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"valise/tree"
)

// A stream is read so many blocks ahead and written in pieces of so many bytes.
const (
	streamBlocks = 32
	streamBuffer = 256 << 10
)

// xattrRecord is what the keys of extended attributes begin with in an archive.
const xattrRecord = "SCHILY.xattr."

// ToTar writes what ToDir would write to w, as a tar archive in PAX format: names of
// any bytes and length, times in nanoseconds, extended attributes, further names of a
// file as links to the first. Names are relative to path; the directory itself is the
// first entry, "./". Holes are written as zeros, because archive/tar writes no sparse
// files. GNU tar sets all attributes again with --xattrs --xattrs-include='*'.
//
// It does not close w, and a Write that blocks is not interrupted by ctx. After an
// error the archive lacks its end.
func ToTar(ctx context.Context, cfg Config, path string, w io.Writer) (Result, error) {
	p, err := newPlan(cfg.Tree, path)
	if err != nil {
		return Result{}, err
	}
	a := &archiver{plan: p, tally: newTally(&cfg, p), zeros: make([]byte, streamBuffer)}
	err = a.run(ctx, &cfg, w)
	return a.tally.result(), err
}

// archiver writes a plan as an archive.
type archiver struct {
	*plan
	tally *tally
	zeros []byte
}

func (a *archiver) run(ctx context.Context, cfg *Config, w io.Writer) error {
	next, stop := iter.Pull2(cfg.blocks(ctx, a.extents, streamBlocks))
	defer stop()
	buffer := bufio.NewWriterSize(w, streamBuffer)
	out := tar.NewWriter(buffer)
	if a.whole {
		if err := out.WriteHeader(a.header(a.top)); err != nil {
			return fmt.Errorf("archive the directory itself: %w", err)
		}
	}
	for _, n := range a.nodes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.entry(ctx, out, n, next); err != nil {
			return fmt.Errorf("archive %q: %w", a.path(n), err)
		}
	}
	if err := errors.Join(out.Close(), buffer.Flush()); err != nil {
		return fmt.Errorf("end the archive: %w", err)
	}
	return nil
}

// extents yields the content of all entries, in their order.
func (a *archiver) extents(yield func(tree.Extent) bool) {
	for _, n := range a.nodes {
		if _, further := a.linked(n); further {
			continue
		}
		for e := range a.tree.Extents(n) {
			if !yield(e) {
				return
			}
		}
	}
}

// entry writes n; next gives the blocks of the file.
func (a *archiver) entry(ctx context.Context, out *tar.Writer, n tree.Node, next func() (block, error, bool)) error {
	if err := out.WriteHeader(a.header(n)); err != nil {
		return err
	}
	attr := a.tree.Attr(n)
	if attr.IsDir() {
		a.tally.dir()
		return nil
	}
	if _, further := a.linked(n); further {
		return nil
	}
	if attr.IsRegular() {
		if err := a.content(ctx, out, n, next); err != nil {
			return err
		}
	}
	a.tally.file()
	return nil
}

func (a *archiver) content(ctx context.Context, out io.Writer, n tree.Node, next func() (block, error, bool)) error {
	end, size := int64(0), a.tree.Attr(n).Size
	for e := range a.tree.Extents(n) {
		b, err, ok := next()
		if err != nil {
			return err
		}
		if !ok || b.Extent != e {
			return errors.New("blocks are out of step")
		}
		if err := a.hole(ctx, out, e.Offset-end); err != nil {
			return err
		}
		if err := a.write(out, b.raw); err != nil {
			return err
		}
		end = e.End()
	}
	return a.hole(ctx, out, size-end)
}

// hole writes n zeros, which may be many.
func (a *archiver) hole(ctx context.Context, out io.Writer, n int64) error {
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := min(n, int64(len(a.zeros)))
		if err := a.write(out, a.zeros[:part]); err != nil {
			return err
		}
		n -= part
	}
	return nil
}

func (a *archiver) write(out io.Writer, p []byte) error {
	if _, err := out.Write(p); err != nil {
		return err
	}
	a.tally.bytes(int64(len(p)))
	return nil
}

// header describes n. The format is always the same, so that the reader of an archive
// meets no surprise in a corner of it.
func (a *archiver) header(n tree.Node) *tar.Header {
	attr := a.tree.Attr(n)
	h := &tar.Header{
		Name: a.path(n), Mode: int64(attr.Mode & 0o7777), Uid: int(attr.UID), Gid: int(attr.GID),
		ModTime: time.Unix(0, attr.Mtime), Format: tar.FormatPAX,
	}
	if to, further := a.linked(n); further {
		h.Typeflag, h.Linkname = tar.TypeLink, a.path(to)
		return h
	}
	switch attr.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		if n == a.top {
			h.Name = "./"
		}
	case unix.S_IFLNK:
		h.Typeflag, h.Linkname = tar.TypeSymlink, string(a.tree.Symlink(n))
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		h.Typeflag, h.Size = tar.TypeReg, attr.Size
	}
	h.PAXRecords = a.xattrs(n)
	return h
}

// xattrs are the records of n's extended attributes. A name with an equal sign cannot
// be one.
func (a *archiver) xattrs(n tree.Node) map[string]string {
	var records map[string]string
	for name, value := range a.tree.Xattrs(n) {
		key := string(name)
		if strings.Contains(key, "=") {
			a.tally.note("archive the attribute "+key, a.path(n), errors.New("the format has no such names"))
			continue
		}
		if records == nil {
			records = map[string]string{}
		}
		records[xattrRecord+key] = string(value)
	}
	return records
}
