package beneath

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNotDirectory is something else where a directory has to be.
var ErrNotDirectory = errors.New("it is not a directory")

// MakeDir opens the directory name, one component, and makes it first where it is
// missing. A new one belongs to uid:gid from the moment its maker's own bits let go.
func (n *Node) MakeDir(name string, perm fs.FileMode, uid, gid int) (dir *Node, made bool, err error) {
	err = unix.Mkdirat(n.fd, name, 0o700)
	made = err == nil
	if err != nil && err != unix.EEXIST {
		return nil, false, &fs.PathError{Op: "mkdir", Path: path.Join(n.path, name), Err: err}
	}
	if dir, err = n.Open(name); err != nil {
		return nil, made, err
	}
	st, err := dir.Stat()
	if err == nil && !st.IsDir() {
		err = &fs.PathError{Op: "mkdir", Path: dir.path, Err: ErrNotDirectory}
	}
	if err == nil && made {
		if err = dir.Own(uid, gid); err == nil {
			err = dir.Chmod(perm)
		}
	}
	if err != nil {
		dir.Close()
		return nil, made, err
	}
	return dir, made, nil
}

// MakeDirs is MakeDir for each component of rel.
func (n *Node) MakeDirs(rel string, perm fs.FileMode, uid, gid int) (*Node, error) {
	at, err := n.Open(".")
	if err != nil {
		return nil, err
	}
	if rel == "." || rel == "" {
		return at, nil
	}
	for _, name := range strings.Split(rel, "/") {
		next, _, err := at.MakeDir(name, perm, uid, gid)
		at.Close()
		if err != nil {
			return nil, err
		}
		at = next
	}
	return at, nil
}

// MakeFile makes an empty file name where nothing is, owned by uid:gid: the mount
// point of a file. A directory or symbolic link in its place is an error.
func (n *Node) MakeFile(name string, perm fs.FileMode, uid, gid int) error {
	fd, err := n.openat(name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, uint64(perm.Perm()))
	if err == nil {
		defer unix.Close(fd)
		return unix.Fchown(fd, uid, gid)
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := n.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.IsDir() {
		return &fs.PathError{Op: "create", Path: f.path, Err: errors.New("a directory is in the way")}
	}
	return nil
}

// Rename moves the entry from, one component of n, to the entry to of the directory
// dir. An empty directory at to is replaced, anything else there is fs.ErrExist.
func (n *Node) Rename(from string, dir *Node, to string) error {
	err := unix.Renameat(n.fd, from, dir.fd, to)
	if err == unix.ENOTEMPTY {
		err = unix.EEXIST
	}
	if err != nil {
		return fmt.Errorf("rename %q to %q: %w", path.Join(n.path, from), path.Join(dir.path, to), err)
	}
	return nil
}

// Sync makes what was renamed in the directory durable.
func (n *Node) Sync() error {
	fd, err := n.openat(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fsync(fd)
}
