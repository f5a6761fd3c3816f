package extract

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"golang.org/x/sys/unix"

	"valise/tree"
)

// handle keeps the directory open that was used last: neighbours share it. It has one
// owner.
type handle struct {
	root int // the destination
	plan *plan

	node tree.Node
	fd   int // of node; root if that is top
}

func newHandle(root int, p *plan) *handle { return &handle{root: root, plan: p, node: p.top, fd: root} }

// open returns the descriptor of directory n, good until the next call.
func (h *handle) open(n tree.Node) (int, error) {
	if n == h.node {
		return h.fd, nil
	}
	at, rest := h.root, h.plan.path(n)
	if rest != "" && h.plan.tree.Parent(n) == h.node {
		at, rest = h.fd, string(h.plan.tree.Name(n))
	}
	fd, err := openDir(at, rest)
	if err != nil {
		return -1, fmt.Errorf("open directory %q: %w", h.plan.path(n), err)
	}
	h.close()
	h.node, h.fd = n, fd
	return h.fd, nil
}

// close lets go of the directory; the handle may be used again.
func (h *handle) close() {
	if h.fd != h.root {
		_ = unix.Close(h.fd)
	}
	h.node, h.fd = h.plan.top, h.root
}

// openDir opens the directory path below the directory at, without following a link.
// The path may be longer than the kernel takes at once. An empty one gives at itself.
func openDir(at int, path string) (int, error) {
	fd := at
	for path != "" {
		part := path
		if len(part) >= unix.PathMax {
			part = part[:strings.LastIndexByte(part[:unix.PathMax], '/')]
		}
		path = strings.TrimPrefix(path[len(part):], "/")
		next, err := openBeneath(fd, part, unix.O_RDONLY|unix.O_DIRECTORY)
		if fd != at {
			_ = unix.Close(fd)
		}
		if err != nil {
			return -1, err
		}
		fd = next
	}
	return fd, nil
}

// openBeneath opens what is at path below the directory at, without following a link.
func openBeneath(at int, path string, flags int) (fd int, err error) {
	how := &unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	err = retry(func() (err error) { fd, err = unix.Openat2(at, path, how); return err })
	return fd, err
}

// retry calls f until no signal interrupts it, which happens on network file systems
// and FUSE.
func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// closeFile tells the errors of delayed writes. An interrupted close has closed.
func closeFile(fd int) error {
	if err := unix.Close(fd); err != nil && err != unix.EINTR {
		return err
	}
	return nil
}

// writeAt writes all of p.
func writeAt(fd int, p []byte, offset int64) error {
	for len(p) > 0 {
		n := 0
		err := retry(func() (err error) { n, err = unix.Pwrite(fd, p, offset); return err })
		if err != nil {
			return err
		}
		p, offset = p[n:], offset+int64(n)
	}
	return nil
}

// remove removes a temporary name that may be gone already.
func remove(dir int, name string) error {
	err := retry(func() error { return unix.Unlinkat(dir, name, 0) })
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// temporaryName is one that nobody else has.
func temporaryName() string { return fmt.Sprintf(".valise-%016x", rand.Uint64()) }
