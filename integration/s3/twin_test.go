//go:build integration

package s3_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// twin is a plain directory to which all is done that is done to a mounted home: it
// tells what the home has to look like.
type twin struct {
	t     *testing.T
	plain string
	host  *host
}

func newTwin(h *host) *twin {
	h.t.Helper()
	return &twin{t: h.t, plain: h.mkdir("twin"), host: h}
}

// both does the same to the two.
func (w *twin) both(do func(dir string)) {
	do(w.plain)
	do(w.host.dir)
}

// adopt gives the plain directory the home's times of change, which two programs
// cannot agree on, and its attributes. Whatever happens to the home then must keep them.
func (w *twin) adopt() {
	w.t.Helper()
	all := list(w.t, w.host.dir)
	for rel, f := range all {
		path := filepath.Join(w.plain, rel)
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil || st.Mode&unix.S_IFMT != f.Mode&unix.S_IFMT {
			continue // compare says so
		}
		at, err := time.Parse(time.RFC3339Nano, f.Mtime)
		must(w.t, err)
		ts, err := unix.TimeToTimespec(at)
		must(w.t, err, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
	}
	root := all["."]
	must(w.t, os.Lchown(w.plain, int(root.UID), int(root.GID)), unix.Chmod(w.plain, root.Mode&0o7777))
}

// compare wants a directory, the home by default, to be as the plain one.
func (w *twin) compare(what string, dir ...string) {
	w.t.Helper()
	if dir == nil {
		dir = []string{w.host.dir}
	}
	same(w.t, what, list(w.t, dir[0]), list(w.t, w.plain))
}
