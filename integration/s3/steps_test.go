//go:build integration

package s3_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// names is how many names a file had in the mounted snapshot, 0 if it is not of that.
func (m *model) names(rel string) uint64 {
	st, err := lstat(filepath.Join(m.plain, rel))
	if err != nil {
		return 0
	}
	return m.inSnapshot[st.Ino]
}

// die gives the same numbers to the two sides of a step.
type die struct{ *rand.Rand }

func (d die) bytes() []byte {
	n := d.IntN(300)
	if d.IntN(10) == 0 {
		n = d.IntN(3 << 20)
	}
	p := make([]byte, n)
	for i := range min(n, 100) {
		p[d.IntN(n)] = byte(i)
	}
	return p
}

// open opens a regular file and does something to it.
func open(p string, flags int, do func(*os.File) error) error {
	f, err := os.OpenFile(p, flags|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return err
	}
	return do(f)
}

// create makes or overwrites a regular file.
func create(p string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NONBLOCK|unix.O_NOFOLLOW, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(data)
	return err
}

// step is something that programs do to files: to p, or from p to another path.
type step struct {
	name string
	do   func(d die, p, to string) error
}

var steps = []step{
	{"create", func(d die, p, _ string) error { return create(p, d.bytes(), 0o640) }},
	{"create", func(d die, _, to string) error { return create(to, d.bytes(), 0o644) }},
	{"replace", func(d die, p, _ string) error { // as editors do
		if err := create(p+"~", d.bytes(), 0o600); err != nil {
			return err
		}
		return unix.Rename(p+"~", p)
	}},
	{"append", func(d die, p, _ string) error {
		return open(p, os.O_WRONLY|os.O_APPEND, func(f *os.File) error { _, err := f.Write(d.bytes()); return err })
	}},
	{"truncate", func(d die, p, _ string) error {
		return open(p, os.O_WRONLY, func(f *os.File) error { return f.Truncate(int64(d.IntN(4000))) })
	}},
	{"sparse write", func(d die, p, _ string) error {
		return open(p, os.O_WRONLY, func(f *os.File) error {
			_, err := f.WriteAt(d.bytes(), int64(d.IntN(3<<20)))
			return err
		})
	}},
	{"rename", func(_ die, p, to string) error { return unix.Rename(p, to) }},
	{"rename", func(_ die, p, to string) error { return unix.Rename(p, to) }},
	{"rename beside", func(d die, p, _ string) error {
		return unix.Rename(p, filepath.Join(filepath.Dir(p), string(rune('a'+d.IntN(8)))))
	}},
	{"exchange", func(_ die, p, to string) error {
		return unix.Renameat2(unix.AT_FDCWD, p, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
	}},
	{"link", func(_ die, p, to string) error { return os.Link(p, to) }},
	{"symlink", func(d die, _, to string) error { return os.Symlink(strings.Repeat("x/", 1+d.IntN(200)), to) }},
	{"mkdir", func(_ die, p, _ string) error { return os.Mkdir(p, 0o755) }},
	{"mkdir", func(_ die, _, to string) error { return os.Mkdir(to, 0o700) }},
	{"remove", func(_ die, p, _ string) error { return os.Remove(p) }},
	{"remove and mkdir", func(_ die, p, _ string) error { os.RemoveAll(p); return os.Mkdir(p, 0o711) }},
	{"remove and create", func(d die, p, _ string) error {
		if d.IntN(2) == 0 {
			os.RemoveAll(p)
		}
		return create(p, d.bytes(), 0o600)
	}},
	{"chmod", func(d die, p, _ string) error {
		return unix.Fchmodat(unix.AT_FDCWD, p, uint32(0o400|d.IntN(0o10000)), unix.AT_SYMLINK_NOFOLLOW)
	}},
	{"chown", func(d die, p, _ string) error { return os.Lchown(p, d.IntN(5), d.IntN(5)) }},
	{"setxattr", func(d die, p, _ string) error {
		return unix.Lsetxattr(p, fmt.Sprint("user.", d.IntN(3)), []byte(fmt.Sprint(d.IntN(9))), 0)
	}},
	{"removexattr", func(d die, p, _ string) error {
		unix.Lremovexattr(p, fmt.Sprint("user.", d.IntN(3))) // the errors differ
		return nil
	}},
	{"set an ACL", func(d die, p, _ string) error {
		return unix.Lsetxattr(p, "system.posix_acl_access", acl(uint32(d.IntN(9))), 0)
	}},
	{"utimens", func(d die, p, _ string) error {
		ts := []unix.Timespec{{}, {Sec: int64(d.IntN(2e9)), Nsec: int64(d.IntN(1e9))}}
		return unix.UtimesNanoAt(unix.AT_FDCWD, p, ts, unix.AT_SYMLINK_NOFOLLOW)
	}},
	{"mkfifo", func(_ die, _, to string) error { return unix.Mkfifo(to, 0o600) }},
	{"punch", func(d die, p, _ string) error {
		return open(p, os.O_WRONLY, func(f *os.File) error {
			return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(d.IntN(1<<20)), 1<<20)
		})
	}},
	{"mapped store", func(d die, p, _ string) error {
		return open(p, os.O_RDWR, func(f *os.File) error {
			fi, err := f.Stat()
			if err != nil || fi.Size() == 0 {
				return err
			}
			data, err := unix.Mmap(int(f.Fd()), 0, int(fi.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			if err != nil {
				return err
			}
			data[d.IntN(len(data))]++
			return unix.Munmap(data)
		})
	}},
	{"copy", func(_ die, p, to string) error {
		return open(p, os.O_RDONLY, func(f *os.File) error {
			data, err := io.ReadAll(f)
			if err != nil {
				return err
			}
			return create(to, data, 0o644)
		})
	}},
}
