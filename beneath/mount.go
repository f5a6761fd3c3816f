package beneath

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Bind mounts the node, with what is mounted below it, on target, which must exist
// and be a directory or file as the node is. The copy is complete and, if asked,
// read-only before anybody can see it, and it is a slave: what is mounted below the
// source later appears, and unmounting the copy never reaches the source.
func (n *Node) Bind(target string, readOnly bool) error {
	fd, err := unix.OpenTree(n.fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("bind %q: %w", n.path, err)
	}
	defer unix.Close(fd)
	attr := unix.MountAttr{Propagation: unix.MS_SLAVE}
	if readOnly {
		attr.Attr_set = unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("bind %q: mount_setattr (Linux 5.12): %w", n.path, err)
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("bind %q on %q: %w", n.path, target, err)
	}
	return nil
}

// Unbind takes every mount off target; what still uses it goes on undisturbed. A target
// without a mount is no error.
func Unbind(target string) error {
	for {
		err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		switch err {
		case nil:
		case unix.EINVAL, unix.ENOENT: // no mount (left)
			return nil
		default:
			return fmt.Errorf("unmount %q: %w", target, err)
		}
	}
}
