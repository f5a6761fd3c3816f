//go:build vm

package quota

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fill writes n bytes below dir, as one who can't go over quotas.
func fill(t *testing.T, dir, name string, n int) error {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, name))
	must(t, err)
	_, err = f.Write(bytes.Repeat([]byte("x"), n))
	return errors.Join(err, f.Sync(), f.Close())
}

// bounded drops what lets root go over quotas, for as long as the test lasts.
func bounded(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // whose capabilities they are
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var before [2]unix.CapUserData
	must(t, unix.Capget(&header, &before[0]))
	less := before
	less[0].Effective &^= 1 << unix.CAP_SYS_RESOURCE
	must(t, unix.Capset(&header, &less[0]))
	t.Cleanup(func() {
		must(t, unix.Capset(&header, &before[0]))
		runtime.UnlockOSThread()
	})
}

func TestLimit(t *testing.T) {
	top := t.TempDir()
	must(t, Check(top))
	if _, ok, err := Of(top); ok || err != nil {
		t.Errorf("a directory that was never assigned: got %v, %v", ok, err)
	}
	if err := Limit(top, 1<<20); err == nil {
		t.Error("the limit of a directory without a project: got no error")
	}
	one, two := filepath.Join(top, "one"), filepath.Join(top, "two")
	for _, dir := range []string{one, two} {
		must(t, os.Mkdir(dir, 0o755))
		must(t, Assign(dir))
		must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o755))
	}
	must(t, Limit(one, 1<<20))
	bounded(t)
	must(t, fill(t, one, "file", 600_000))
	if err := fill(t, one, "sub/file", 600_000); !errors.Is(err, unix.EDQUOT) {
		t.Errorf("above the limit: got %v, want EDQUOT", err)
	}
	must(t, fill(t, two, "file", 1_200_000))
	must(t, os.Rename(filepath.Join(one, "file"), filepath.Join(one, "sub/moved")))
	u, ok, err := Of(one)
	if !ok || err != nil || u.Limit != 1<<20 || u.Used < 600_000 || u.Used > 1<<20 {
		t.Errorf("got %+v, %v, %v", u, ok, err)
	}
	must(t, Limit(one, 2<<20))
	must(t, fill(t, one, "sub/file", 600_000))
	must(t, Limit(one, 0))
	must(t, fill(t, one, "sub/more", 1_200_000))
}
