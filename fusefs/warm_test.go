package fusefs

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"valise/tree"
)

// run runs a command and returns what it wrote and how long it took.
func run(t *testing.T, name string, args ...string) ([]byte, time.Duration) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stderr = os.Stderr
	start := time.Now()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return out, time.Since(start)
}

// asked is what was asked but for what the kernel forgets as it likes and STATFS, which
// it never remembers (find asks it; under an overlayfs it goes to the upper directory).
func asked(s *Server) map[string]uint64 {
	m := s.Requests()
	delete(m, opForget.String())
	delete(m, opStatFs.String())
	return m
}

// ordinary is a tree as homes are, of about n entries.
func ordinary(n int) *plan {
	p := newPlan()
	var d tree.Ref
	for i := range n {
		if i%20 == 0 {
			if i%400 == 0 {
				d = p.dir(0, fmt.Sprint("d", i))
			}
			d = p.dir(d, fmt.Sprint("sub", i))
		}
		p.file(d, fmt.Sprint("file number ", i), 300)
	}
	for i := range 5 {
		p.file(0, fmt.Sprint("large ", i), mib+i*100000)
	}
	p.entry(0, "link", syscall.S_IFLNK|0o777, func(e *tree.Entry) { e.Symlink = []byte("d0") })
	return p
}

// firstHole is where the first hole of a file begins, as programs look for it that copy or search.
func firstHole(t *testing.T, path string) int64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_HOLE)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestWhatWasReadIsReadAgainWithoutARequest(t *testing.T) {
	for _, kind := range []string{"direct", "overlay"} {
		t.Run(kind, func(t *testing.T) {
			dir, tr, s := mountPlan(t, ordinary(20000), nil)
			if kind == "overlay" {
				dir, _ = overlay(t, dir)
			}
			pass := func() (list []byte) {
				list, finding := run(t, "find", dir, "-ls")
				_, reading := run(t, "sh", "-c", `! grep -r "no such text" "$1"`, "sh", dir)
				t.Logf("find -ls of %d entries: %v; reading all: %v; %v", tr.Len(), finding, reading, asked(s))
				for range 3 {
					if _, err := os.Lstat(dir + "/d0/not there"); !os.IsNotExist(err) {
						t.Error(err)
					}
				}
				if end := firstHole(t, dir+"/large 1"); end != mib+100000 {
					t.Errorf("the first hole is at %d", end)
				}
				if target, err := os.Readlink(dir + "/link"); err != nil || target != "d0" {
					t.Error(target, err)
				}
				return list
			}
			cold := pass()
			before := asked(s)
			diff := "no pass"
			for try := 0; diff != "" && try < 5; try++ { // the machine may drop pages that were idle
				last := asked(s)
				if warm := pass(); !bytes.Equal(cold, warm) {
					t.Error("the warm pass found something else")
				}
				diff = cmp.Diff(last, asked(s))
			}
			if diff != "" {
				t.Errorf("the warm pass asked: %s", diff)
			}
			if n := before["LOOKUP"]; n > 5 {
				t.Errorf("%d lookups in spite of READDIRPLUS", n)
			}
			if before["OPEN"] != 1 || before["OPENDIR"] != 1 || before["FLUSH"] > 1 || before["GETXATTR"]+before["LISTXATTR"] > 2 {
				t.Errorf("the kernel asked again what it was told not to: %v", before)
			}
		})
	}
}

func TestANameThatIsNotThereIsRemembered(t *testing.T) {
	p := newPlan()
	p.file(0, "f", 1)
	dir, _, s := mountPlan(t, p, nil)
	for range 3 {
		if _, err := os.Lstat(dir + "/missing"); !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	if n := asked(s)["LOOKUP"]; n != 1 {
		t.Errorf("%d lookups, want 1", n)
	}
}
