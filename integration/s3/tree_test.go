//go:build integration

package s3_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// facts is all that is compared of a file.
type facts struct {
	Mode, UID, GID uint32 // Mode with the type
	Mtime          string // with ns
	Size           int64
	Content        string // a hash of it; see contentOf
	Symlink        string
	Xattrs         map[string]string
	Names          []string // of the same file, if there are several
}

// tree is a directory and all that is in it, by relative path.
type tree map[string]facts

// list reads a tree by way of the kernel. Sockets and device nodes, which are not
// saved, are left out.
func list(t testing.TB, root string) tree {
	t.Helper()
	out, names := tree{}, map[uint64][]string{}
	must(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &os.PathError{Op: "lstat", Path: path, Err: err}
		}
		f := facts{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Mtime: time.Unix(st.Mtim.Unix()).UTC().Format(time.RFC3339Nano)}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			f.Size = st.Size
			f.Content, err = contentOf(path, st.Size)
		case unix.S_IFLNK:
			f.Symlink, err = os.Readlink(path)
		case unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK:
			return nil
		}
		if err != nil {
			return err
		}
		if f.Xattrs, err = xattrsOf(path); err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			names[st.Ino] = append(names[st.Ino], rel)
		}
		out[rel] = f
		return err
	}))
	for _, group := range names {
		if len(group) > 1 {
			slices.Sort(group)
			for _, rel := range group {
				f := out[rel]
				f.Names = group
				out[rel] = f
			}
		}
	}
	return out
}

var zeros = make([]byte, block)

const (
	block = 1 << 20
	// wholeFile is the size up to which holes are read as well.
	wholeFile = 64 << 20
)

// contentOf hashes the blocks that are not all zeros, with their places. What the file
// system calls a hole is read, too, and must be zeros, but not in a file that is too
// large for that.
func contentOf(path string, size int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum, buf := sha256.New(), make([]byte, min(block, size))
	for at := int64(0); at < size; at += block {
		if size > wholeFile {
			data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
			if errors.Is(err, unix.ENXIO) {
				break
			}
			if err != nil {
				return "", fmt.Errorf("%s: seek to data: %w", path, err)
			}
			at = data / block * block
		}
		n, err := f.ReadAt(buf[:min(block, size-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		if !bytes.Equal(buf[:n], zeros[:n]) {
			fmt.Fprintln(sum, at, n)
			sum.Write(buf[:n])
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:8]), nil
}

func xattrsOf(path string) (map[string]string, error) {
	buf := make([]byte, 1<<16)
	n, err := unix.Llistxattr(path, buf)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil // the answer for files of a snapshot in which none has any
	}
	if err != nil {
		return nil, &os.PathError{Op: "listxattr", Path: path, Err: err}
	}
	var out map[string]string
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		// Those of the system are the file system's own: overlayfs's, SELinux's.
		if name == "" || strings.HasPrefix(name, "trusted.") || name == "security.selinux" {
			continue
		}
		value := make([]byte, 1<<16)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, &os.PathError{Op: "getxattr " + name, Path: path, Err: err}
		}
		if out == nil {
			out = map[string]string{}
		}
		out[name] = string(value[:n])
	}
	return out, nil
}

// same fails the test where two trees differ.
func same(t testing.TB, what string, got, want tree) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		if len(diff) > 8000 {
			diff = diff[:8000] + "…"
		}
		t.Fatalf("%s: (-want +got)\n%s", what, diff)
	}
}

// allocated is how much of the disk a file takes.
func allocated(t testing.TB, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	return st.Blocks * 512
}

// holes returns the holes of a file as [from, to).
func holes(t testing.TB, path string) [][2]int64 {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	fi, err := f.Stat()
	must(t, err)
	var out [][2]int64
	for at := int64(0); at < fi.Size(); {
		from, err := unix.Seek(int(f.Fd()), at, unix.SEEK_HOLE)
		must(t, err)
		if from == fi.Size() {
			break
		}
		to, err := unix.Seek(int(f.Fd()), from, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			to, err = fi.Size(), nil
		}
		must(t, err)
		out = append(out, [2]int64{from, to})
		at = to
	}
	return out
}

func write(t testing.TB, path, data string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(data), 0o644))
}

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return string(data)
}

// wantFile compares a file's content.
func wantFile(t testing.TB, path, want string) {
	t.Helper()
	if got := read(t, path); got != want {
		t.Errorf("%s: got %.80q, want %.80q", path, got, want)
	}
}
