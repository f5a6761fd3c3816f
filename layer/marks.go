package layer

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"valise/tree"
)

// The extended attributes in which overlayfs keeps what its upper directory means; see
// https://docs.kernel.org/filesystems/overlayfs.html. The others of trusted.overlay.
// (origin, impure, nlink, upper, uuid, protattr) do not change what users see.
const (
	xattrOverlay  = "trusted.overlay."
	xattrOpaque   = xattrOverlay + "opaque"
	xattrRedirect = xattrOverlay + "redirect"
	xattrMetacopy = xattrOverlay + "metacopy"
	xattrWhiteout = xattrOverlay + "whiteout"
)

// marks are overlayfs's notes on a file.
type marks struct {
	opaque    bool   // the directory hides the lower one
	whiteouts bool   // the directory may have whiteouts that are regular files
	whiteout  bool   // the file is one of them
	metacopy  bool   // the content is the lower file's
	redirect  string // the name or, from the root, the path in lower; "": the same name
}

// isWhiteout reports the usual form of a whiteout.
func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// readXattrs fills in v's marks and the extended attributes that are saved, of the file
// that is open as fd. It goes by way of /proc, for fd may be an O_PATH descriptor.
func readXattrs(fd int, v *version) error {
	path := fmt.Sprintf("/proc/self/fd/%d", fd)
	list, err := grow(func(buf []byte) (int, error) { return unix.Listxattr(path, buf) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list extended attributes: %w", err)
	}
	for name := range strings.SplitSeq(string(list), "\x00") {
		if !isSaved(name) && !strings.HasPrefix(name, xattrOverlay) {
			continue
		}
		value, err := grow(func(buf []byte) (int, error) { return unix.Getxattr(path, name, buf) })
		if errors.Is(err, unix.ENODATA) {
			continue // removed just now
		}
		if err != nil {
			return fmt.Errorf("read extended attribute %s: %w", name, err)
		}
		if isSaved(name) {
			v.xattrs = append(v.xattrs, tree.Xattr{Name: name, Value: value})
		} else {
			v.marks.set(name, value)
		}
	}
	return nil
}

func (m *marks) set(name string, value []byte) {
	switch name {
	case xattrOpaque:
		m.opaque = string(value) == "y"
		m.whiteouts = string(value) == "x"
	case xattrRedirect:
		m.redirect = string(value)
	case xattrMetacopy:
		m.metacopy = true
	case xattrWhiteout:
		m.whiteout = true
	}
}

// isSaved reports whether an extended attribute belongs to the home, not the system.
func isSaved(name string) bool {
	switch name {
	case "system.posix_acl_access", "system.posix_acl_default", "security.capability":
		return true
	}
	return strings.HasPrefix(name, "user.")
}

// grow calls get with buffers that grow until the answer fits.
func grow(get func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := get(buf)
		if errors.Is(err, unix.ERANGE) && size <= 1<<20 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return buf[:n:n], nil
	}
}
