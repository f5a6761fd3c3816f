package migrate

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"mime"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// kind is the type of a file, as the mode has it.
type kind uint32

const (
	regular   kind = unix.S_IFREG
	directory kind = unix.S_IFDIR
	symlink   kind = unix.S_IFLNK
	fifo      kind = unix.S_IFIFO
)

// String is the name of a kind for people.
func (k kind) String() string {
	switch k {
	case regular:
		return "a regular file"
	case directory:
		return "a directory"
	case symlink:
		return "a symbolic link"
	case fifo:
		return "a fifo"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device"
	case unix.S_IFSOCK:
		return "a socket"
	}
	return "of an unknown type"
}

// attributes are what a file gets beside its content.
type attributes struct {
	Mode   uint32            `json:"mode"` // permissions
	Mtime  int64             `json:"mtime"`
	Xattrs map[string][]byte `json:"xattrs,omitempty"`
}

// The modes of what does not say its own.
const (
	defaultFile = 0o644
	defaultDir  = 0o755
)

// convention is how a tool writes metadata that others write otherwise.
type convention int

const (
	unknown convention = iota
	rclone             // octal modes, RFC 3339 times beside mtime, xattrs as metadata
	s3fs               // decimal modes, all times in seconds, xattrs in one value
)

func conventionOf(user map[string]string) convention {
	_, changed := user["ctime"]
	switch {
	case strings.Contains(user["btime"], "T") || strings.Contains(user["atime"], "T"):
		return rclone
	case changed || user["atime"] != "":
		return s3fs
	}
	return unknown
}

// interpret returns what an object is and its attributes, for files of uid and gid.
// What it could not take is in the notes, sentences to be followed by a path.
func interpret(e *entry, m Meta, uid, gid int) (k kind, a attributes, notes []string) {
	c := conventionOf(m.User)
	a.Mtime = e.Modified
	if s, ok := m.User["mtime"]; ok {
		if t, err := parseTime(s, c); err == nil {
			a.Mtime = t
		} else {
			notes = append(notes, fmt.Sprintf("take the time the store has, for the mtime is %.40q,", s))
		}
	}
	mode, known := uint32(0), false
	if s, ok := m.User["mode"]; ok {
		if mode, known = parseMode(s, c); !known {
			notes = append(notes, fmt.Sprintf("take the default mode, for the mode is %.40q,", s))
		}
	}
	k = kind(mode & unix.S_IFMT)
	switch mediaType, _, _ := strings.Cut(m.ContentType, ";"); {
	case e.Dir:
		k = directory
	case e.Link: // the mode may be that of the file that has the target
		return symlink, a, notes
	case k == 0 && mediaType == "application/x-directory" && m.Size == 0:
		k = directory
	case k == 0:
		k = regular
	}
	a.Mode = mode & 0o7777
	if !known {
		a.Mode = defaultFile
		if k == directory {
			a.Mode = defaultDir
		}
	}
	if k != directory {
		// With another owner than they were set for, these bits would say another thing.
		drop := uint32(0)
		if m.User["uid"] != strconv.Itoa(uid) {
			drop |= a.Mode & unix.S_ISUID
		}
		if m.User["gid"] != strconv.Itoa(gid) {
			drop |= a.Mode & unix.S_ISGID
		}
		if drop != 0 {
			notes = append(notes, "drop the set-id bits, which are another owner's,")
		}
		a.Mode &^= drop
	}
	var err error
	if a.Xattrs, err = xattrs(m.User, c); err != nil {
		notes = append(notes, fmt.Sprintf("leave out some extended attributes (%v)", err))
	}
	return k, a, notes
}

// parseMode reads a mode, with the type or without it.
func parseMode(s string, c convention) (uint32, bool) {
	octal, octalOK := modeIn(s, 8)
	decimal, decimalOK := modeIn(s, 10)
	switch {
	case strings.HasPrefix(s, "0") || c == rclone:
		return octal, octalOK
	case c == s3fs || decimalOK:
		return decimal, decimalOK
	}
	return octal, octalOK
}

// modeIn is a number of that base, if it is a mode.
func modeIn(s string, base int) (uint32, bool) {
	m, err := strconv.ParseUint(s, base, 16)
	switch m & unix.S_IFMT {
	case 0, unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK, unix.S_IFIFO, unix.S_IFCHR, unix.S_IFBLK, unix.S_IFSOCK:
		return uint32(m), err == nil
	}
	return 0, false
}

// parseTime reads seconds with a fraction, or RFC 3339, to ns.
func parseTime(s string, c convention) (int64, error) {
	if strings.Contains(s, "T") {
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return 0, err
		}
		return inRange(t.Unix(), int64(t.Nanosecond()))
	}
	whole, fraction, _ := strings.Cut(s, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return 0, err
	}
	nanos := uint64(0)
	if fraction != "" {
		if nanos, err = strconv.ParseUint((fraction + "000000000")[:9], 10, 32); err != nil {
			return 0, err
		}
	}
	if strings.HasPrefix(whole, "-") && c != s3fs { // which writes whole seconds rounded down
		return inRange(seconds, -int64(nanos))
	}
	return inRange(seconds, int64(nanos))
}

func inRange(seconds, nanos int64) (int64, error) {
	if seconds > math.MaxInt64/int64(time.Second)-1 || seconds < math.MinInt64/int64(time.Second)+1 {
		return 0, strconv.ErrRange
	}
	return seconds*1e9 + nanos, nil
}

// xattrs returns those of the name space user. There are no others in a home that its
// owner may set.
func xattrs(user map[string]string, c convention) (out map[string][]byte, err error) {
	out = map[string][]byte{}
	if s := user["xattr"]; s != "" && c != rclone {
		return out, s3fsXattrs(s, out)
	}
	if c != rclone {
		return out, nil
	}
	words := new(mime.WordDecoder)
	for name, value := range user {
		switch name {
		case "mtime", "atime", "btime", "mode", "uid", "gid", "rdev", "md5chksum":
			continue
		}
		decoded, wordErr := words.DecodeHeader(value)
		if wordErr != nil {
			err = wordErr
			continue
		}
		out["user."+name] = []byte(decoded)
	}
	return out, err
}

// plainACL is the size of a list of access rights that says no more than the mode does:
// a version and three entries.
const plainACL = 4 + 3*8

// s3fsXattrs reads a JSON object of base64 values, which is encoded as in a URL.
func s3fsXattrs(s string, out map[string][]byte) error {
	plain, err := url.PathUnescape(s)
	if err != nil {
		return err
	}
	var encoded map[string]string
	if err := json.Unmarshal([]byte(plain), &encoded); err != nil {
		return err
	}
	for name, value := range encoded {
		decoded, valueErr := base64.StdEncoding.DecodeString(value)
		switch {
		case valueErr != nil:
			err = valueErr
		case strings.HasPrefix(name, "user."):
			out[name] = decoded
		case name == "system.posix_acl_access" && len(decoded) == plainACL: // cp -a sets one everywhere
		default:
			err = fmt.Errorf("%.40q is not user's", name)
		}
	}
	return err
}
