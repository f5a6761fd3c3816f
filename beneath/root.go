package beneath

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// Root is a directory below which profiles and mappings may lie.
type Root struct {
	Path         string // absolute and clean
	RequireMount bool   // it must be a mount point: an unmounted NFS directory exists and is empty
	Marker       string // a file that must exist in it, "" = none; another way to tell
}

// The reasons a root can't be used.
var (
	ErrRootMissing = errors.New("the directory does not exist; valise makes everything below it, but never the directory itself")
	ErrNotMounted  = errors.New("nothing is mounted there, and require_mount is set")
	ErrNoMarker    = errors.New("its marker file is missing, so the file system that belongs there is probably not mounted")
)

// Open opens the root and checks that it is what it should be. It is opened for each
// use, because a file system may be mounted over it at any time.
func (r Root) Open() (*Node, error) {
	fd, err := unix.Open(r.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		err = ErrRootMissing
	}
	if err != nil {
		return nil, fmt.Errorf("root %q: %w", r.Path, err)
	}
	n := &Node{fd: fd, path: r.Path}
	if err := r.check(n); err != nil {
		n.Close()
		return nil, fmt.Errorf("root %q: %w", r.Path, err)
	}
	return n, nil
}

func (r Root) check(n *Node) error {
	if r.RequireMount {
		var st unix.Statx_t
		if err := unix.Statx(n.fd, "", unix.AT_EMPTY_PATH, 0, &st); err != nil {
			return err
		}
		if st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 {
			return errors.New("this kernel does not tell mount points (Linux 5.8 does); use marker instead of require_mount")
		}
		if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
			return ErrNotMounted
		}
	}
	if r.Marker != "" {
		m, err := n.Open(r.Marker)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %q", ErrNoMarker, r.Marker)
		}
		if err != nil {
			return err
		}
		m.Close()
	}
	return nil
}
