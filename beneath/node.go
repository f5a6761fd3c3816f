package beneath

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrSymlink is a symbolic link where a directory or file should be.
var ErrSymlink = errors.New("a symbolic link is in the way")

// Node is an open file or directory at or below a root.
type Node struct {
	fd   int // O_PATH
	path string
}

// Path returns where the node was found, for messages: by now something else may be there.
func (n *Node) Path() string { return n.path }

// Proc returns a path that leads to the very file that was opened, as long as n is open.
func (n *Node) Proc() string { return "/proc/self/fd/" + strconv.Itoa(n.fd) }

// Close gives the descriptor back.
func (n *Node) Close() { unix.Close(n.fd) }

// Open opens what rel, a relative path, leads to. "." is n itself.
func (n *Node) Open(rel string) (*Node, error) {
	fd, err := n.openat(rel, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	return &Node{fd: fd, path: path.Join(n.path, rel)}, nil
}

// openat is the one way to a file. EAGAIN is openat2's answer to a race with a rename
// or mount; it is safe to try again.
func (n *Node) openat(rel string, flags uint64, mode uint64) (int, error) {
	how := unix.OpenHow{
		Flags: flags | unix.O_CLOEXEC, Mode: mode,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(n.fd, rel, &how)
		switch {
		case err == nil:
			return fd, nil
		case (err == unix.EAGAIN || err == unix.EINTR) && try < 100:
			continue
		case err == unix.ELOOP:
			err = ErrSymlink
		case err == unix.EXDEV:
			err = errors.New("leads out of its root")
		}
		return -1, &fs.PathError{Op: "open", Path: path.Join(n.path, rel), Err: err}
	}
}

// Info is what the driver needs to know of a node.
type Info struct {
	Dev, Ino uint64
	Mode     uint32 // type and permissions as in stat(2)
	UID, GID int
}

// IsDir reports whether the node is a directory.
func (i Info) IsDir() bool { return i.Mode&unix.S_IFMT == unix.S_IFDIR }

// Stat describes the open file.
func (n *Node) Stat() (Info, error) {
	var st unix.Stat_t
	if err := unix.Fstat(n.fd, &st); err != nil {
		return Info{}, &fs.PathError{Op: "stat", Path: n.path, Err: err}
	}
	return Info{Dev: st.Dev, Ino: st.Ino, Mode: st.Mode, UID: int(st.Uid), GID: int(st.Gid)}, nil
}

// Own makes uid:gid the owner, where it is not already. Nothing below is touched.
func (n *Node) Own(uid, gid int) error {
	st, err := n.Stat()
	if err != nil || (st.UID == uid && st.GID == gid) {
		return err
	}
	if err := unix.Fchownat(n.fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("set the owner of %q to %d:%d: %w", n.path, uid, gid, err)
	}
	return nil
}

// Chmod sets the permission bits, where they are not so already.
func (n *Node) Chmod(perm fs.FileMode) error {
	st, err := n.Stat()
	if err != nil || st.Mode&0o7777 == uint32(perm.Perm()) {
		return err
	}
	// fchmod(2) refuses O_PATH descriptors; the link in /proc leads to the open file.
	if err := unix.Chmod(n.Proc(), uint32(perm.Perm())); err != nil {
		return fmt.Errorf("set the mode of %q to %#o: %w", n.path, perm.Perm(), err)
	}
	return nil
}

// Probe asks the file system itself, not a cache, about the node. On a network file
// system it takes as long as the server does.
func (n *Node) Probe() (Info, error) {
	var st unix.Statx_t
	err := unix.Statx(n.fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st)
	if err == nil {
		var sfs unix.Statfs_t
		err = unix.Fstatfs(n.fd, &sfs)
	}
	if err != nil {
		return Info{}, &fs.PathError{Op: "probe", Path: n.path, Err: err}
	}
	return n.Stat()
}

// Is reports whether fi, of os.Stat, describes the same file.
func (i Info) Is(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && st.Dev == i.Dev && st.Ino == i.Ino
}
