package extract

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"valise/tree"
)

// errOwner is why a file gets no set-id bits.
var errOwner = errors.New("its owner is another")

// object is a file that is open to set its attributes.
type object struct {
	fd      int
	symlink bool // then fd is but a place (O_PATH)
}

// setAttributes gives o what the tree says of n. What the file system refuses becomes a
// note. The order matters: a change of owner clears capabilities and set-id bits, a
// list of access rights changes the mode, and both change times.
func (r *restorer) setAttributes(o object, n tree.Node) {
	a := r.tree.Attr(n)
	refused := func(action string, err error) {
		if err != nil {
			r.note(action, n, err)
		}
	}
	mode := a.Mode & 0o7777
	err := retry(func() error { return unix.Fchownat(o.fd, "", int(a.UID), int(a.GID), unix.AT_EMPTY_PATH) })
	refused("set the owner", err)
	if bits := mode & (unix.S_ISUID | unix.S_ISGID); err != nil && bits != 0 && !a.IsDir() {
		refused("set the set-id bits", errOwner)
		mode &^= bits
	}
	if !o.symlink {
		r.removeXattrs(o, n)
	}
	for name, value := range r.tree.Xattrs(n) {
		refused(fmt.Sprintf("set the attribute %s", name), o.setXattr(string(name), value))
	}
	if !o.symlink {
		refused("set the mode", retry(func() error { return unix.Fchmod(o.fd, mode) }))
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(a.Mtime)}
	refused("set the time", retry(func() error { return unix.UtimesNanoAt(o.fd, "", times, unix.AT_EMPTY_PATH) }))
}

func (o object) setXattr(name string, value []byte) error {
	if !o.symlink {
		return retry(func() error { return unix.Fsetxattr(o.fd, name, value, 0) })
	}
	// A place takes no attributes itself, but its name in /proc leads to the link.
	place := fmt.Sprintf("/proc/self/fd/%d", o.fd)
	return retry(func() error { return unix.Setxattr(place, name, value, 0) })
}

// removeXattrs removes what the snapshot does not have: the access rights that a new
// file got from its directory, and what a directory had that was kept. What belongs to
// the system (security., trusted.) stays.
func (r *restorer) removeXattrs(o object, n tree.Node) {
	list, err := o.listXattrs()
	if err != nil {
		if !errors.Is(err, unix.ENOTSUP) {
			r.note("list the attributes", n, err)
		}
		return
	}
	for part := range bytes.SplitSeq(list, []byte{0}) {
		name := string(part)
		if !strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "system.posix_acl_") {
			continue
		}
		if _, ok := r.tree.Xattr(n, part); ok {
			continue
		}
		if err := retry(func() error { return unix.Fremovexattr(o.fd, name) }); err != nil && err != unix.ENODATA {
			r.note("remove the attribute "+name, n, err)
		}
	}
}

// listXattrs returns the names, each with a zero byte after it.
func (o object) listXattrs() ([]byte, error) {
	for size := 512; ; size = 64 << 10 { // the kernel's limit
		list := make([]byte, size)
		n := 0
		err := retry(func() (err error) { n, err = unix.Flistxattr(o.fd, list); return err })
		if err == nil {
			return list[:n], nil
		}
		if err != unix.ERANGE || size == 64<<10 {
			return nil, err
		}
	}
}
