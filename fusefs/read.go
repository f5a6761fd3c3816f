package fusefs

import (
	"context"
	"fmt"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"valise/tree"
)

// part is a piece of one block in the answer to a read: len bytes of it, beginning at
// from, which go to the answer's byte to.
type part struct {
	blob          tree.Blob
	to, from, len int
}

// Read answers with exactly the bytes that were asked for, up to the file's end: the
// kernel would take a shorter answer for a file that was cut.
//
// The kernel interrupts, at any signal, only the reads that it makes in a process's
// name: those past the page cache, and those of single pages. Read-ahead is nobody's;
// who waits for its pages waits on, unless the signal kills.
func (v *view) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	v.requests.add(opRead)
	n, ok := v.node(in.NodeId)
	if !ok {
		return nil, fuse.Status(syscall.ESTALE)
	}
	a := v.tree.Attr(n)
	if !a.IsRegular() {
		return nil, fuse.EINVAL
	}
	v.touched.add(n, a.Ino)
	offset := int64(in.Offset)
	if offset < 0 || offset >= a.Size {
		return fuse.ReadResultData(nil), fuse.OK
	}
	buf = buf[:min(int64(len(buf)), a.Size-offset)]

	ctx, stop := v.wait(cancel)
	defer stop()
	data, err := v.fill(ctx, buf, v.parts(n, offset, len(buf)))
	switch {
	case err == nil:
		return fuse.ReadResultData(data), fuse.OK
	case closed(cancel):
		return nil, fuse.EINTR
	}
	return nil, fuse.EIO
}

// wait returns a context that ends when the kernel interrupts the request or patience
// is over.
func (v *view) wait(cancel <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx := &fuse.Context{Cancel: cancel}
	if v.patience == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, v.patience, fmt.Errorf("not there after %s", v.patience))
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// parts lists the pieces of data among size bytes at offset of file n.
func (v *view) parts(n tree.Node, offset int64, size int) []part {
	var list []part
	for at, end := offset, offset+int64(size); at < end; {
		e, ok := v.tree.ExtentAt(n, at)
		if !ok || e.Offset >= end {
			break
		}
		at = max(at, e.Offset)
		length := min(e.End(), end) - at
		list = append(list, part{blob: e.Blob, to: int(at - offset), from: int(at - e.Offset), len: int(length)})
		at += length
	}
	return list
}

// fill returns the bytes that parts make: a piece of the block itself where they are of
// one, else buf, with the blocks fetched in parallel and zeros in the holes.
func (v *view) fill(ctx context.Context, buf []byte, parts []part) ([]byte, error) {
	if len(parts) == 1 && parts[0].len == len(buf) {
		return v.piece(ctx, parts[0])
	}
	clear(buf)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var group sync.WaitGroup
	for _, p := range parts {
		group.Go(func() {
			data, err := v.piece(ctx, p)
			if err != nil {
				stop(err) // keeps the first
				return
			}
			copy(buf[p.to:], data)
		})
	}
	group.Wait()
	return buf, context.Cause(ctx)
}

// piece fetches a block and returns the part of it. It says in the log why it could
// not, once for a block, unless the reader does not want it any more.
func (v *view) piece(ctx context.Context, p part) ([]byte, error) {
	data, err := v.content.Block(ctx, p.blob, v.tree.PackSize(p.blob.Pack))
	if err == nil && len(data) != int(p.blob.Raw) {
		err = fmt.Errorf("%d bytes came, want %d", len(data), p.blob.Raw)
	}
	if err == nil {
		return data[p.from : p.from+p.len], nil
	}
	if ctx.Err() == context.Canceled { // its reader, or another block of the same read
		return nil, err
	}
	if cause := context.Cause(ctx); cause != nil {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	if v.failures.first(p.blob.Hash) {
		v.log.Error("a block cannot be read", "block", p.blob.Hash, "pack", p.blob.Pack, "error", err)
	}
	return nil, err
}

// failures remembers which blocks were told of in the log.
type failures struct {
	mu   sync.Mutex
	seen map[tree.Hash]struct{}
}

// maxFailures bounds what is remembered; beyond it, a block may be told of again.
const maxFailures = 1 << 14

// first reports whether h is asked about for the first time.
func (f *failures) first(h tree.Hash) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.seen[h]; ok {
		return false
	}
	if f.seen == nil || len(f.seen) >= maxFailures {
		f.seen = map[tree.Hash]struct{}{}
	}
	f.seen[h] = struct{}{}
	return true
}
