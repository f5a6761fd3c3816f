package layer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"valise/tree"
)

// errMoved says that a name does not lead where it did before.
var errMoved = errors.New("it was moved or replaced")

// dir is a directory of upper in one walk.
type dir struct {
	parent *dir
	name   string
	item   int   // its place in walk.items
	stamp  stamp // before it was listed
	fd     int   // -1: closed

	base   tree.Node // what it continues in the base
	inBase bool
	marks  marks
}

// names returns the names from the root of upper to d.
func (d *dir) names() []string {
	var out []string
	for ; d.parent != nil; d = d.parent {
		out = append(out, d.name)
	}
	slices.Reverse(out)
	return out
}

func (d *dir) path() string { return strings.Join(d.names(), "/") }

// child returns the path of an entry, for messages.
func (d *dir) child(name string) string {
	if d.parent == nil {
		return name
	}
	return d.path() + "/" + name
}

// maxOpen is how many directories a walk has open at a time.
const maxOpen = 64

// openDirs opens directories of upper, each relative to its parent, so that no path is
// too long and no symbolic link leads out. Only the last ones used stay open; one that
// is needed again is opened from its nearest open ancestor, and its inode number is
// compared. (".." would lead into another directory after a rename.)
type openDirs struct {
	root *dir
	used []*dir // open, the last one used at the end; without root
}

// get returns d's descriptor, which is good until the next call.
func (o *openDirs) get(d *dir) (int, error) {
	if d == o.root {
		return d.fd, nil
	}
	if d.fd >= 0 {
		i := slices.Index(o.used, d)
		o.used = append(slices.Delete(o.used, i, i+1), d)
		return d.fd, nil
	}
	parent, err := o.get(d.parent)
	if err != nil {
		return -1, err
	}
	fd, err := openBeneath(parent, d.name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Ino != d.stamp.ino {
		unix.Close(fd)
		return -1, errors.Join(err, errMoved)
	}
	if len(o.used) == maxOpen {
		o.used[0].close()
		o.used = slices.Delete(o.used, 0, 1)
	}
	d.fd = fd
	o.used = append(o.used, d)
	return fd, nil
}

// stampOf looks at d again, where it was found.
func (o *openDirs) stampOf(d *dir) (stamp, error) {
	var st unix.Stat_t
	if d == o.root {
		err := unix.Fstat(d.fd, &st)
		return stampOf(&st), err
	}
	parent, err := o.get(d.parent)
	if err == nil {
		err = unix.Fstatat(parent, d.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	}
	return stampOf(&st), err
}

func (o *openDirs) close() {
	for _, d := range o.used {
		d.close()
	}
	o.used = nil
}

func (d *dir) close() {
	unix.Close(d.fd)
	d.fd = -1
}

// openBeneath opens the entry name of a directory, never by a symbolic link or a mount.
func openBeneath(dir int, name string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// dirent is an entry of a directory: its name and type (unix.DT_…).
type dirent struct {
	name string
	kind byte
}

// readDir lists a directory from its beginning, without . and .., sorted.
func readDir(fd int, buf []byte) ([]dirent, error) {
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return nil, fmt.Errorf("rewind: %w", err)
	}
	var out []dirent
	for {
		n, err := unix.Getdents(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list: %w", err)
		}
		if n <= 0 {
			break
		}
		out = appendDirents(out, buf[:n])
	}
	slices.SortFunc(out, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
	return slices.CompactFunc(out, func(a, b dirent) bool { return a.name == b.name }), nil
}

// appendDirents decodes struct linux_dirent64: inode, offset, length, type, name.
func appendDirents(out []dirent, p []byte) []dirent {
	for len(p) > 19 {
		size := int(binary.NativeEndian.Uint16(p[16:]))
		name := p[19:size]
		for i, c := range name {
			if c == 0 {
				name = name[:i]
				break
			}
		}
		if s := string(name); s != "." && s != ".." {
			out = append(out, dirent{name: s, kind: p[18]})
		}
		p = p[size:]
	}
	return out
}
