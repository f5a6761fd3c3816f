//go:build integration && vm

package s3_test

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLimitEnforced needs project quotas: scripts/vm.sh has them.
func TestLimitEnforced(t *testing.T) {
	const mb = 1 << 20
	p := newProfile(t)
	h := p.host("a")
	mount := func() *mount { return h.mount("--size-limit", "20m", "--enforce-limit") }
	full := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, unix.EDQUOT) && !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: got %v, want that there is no room", what, err)
		}
	}
	put := func(name string, size int) error { return os.WriteFile(h.path(name), []byte(noise(size)), 0o644) }

	m := mount()
	var df unix.Statfs_t
	must(t, unix.Statfs(h.dir, &df))
	if got := int64(df.Blocks) * df.Bsize; got < 20*mb || got > 22*mb {
		t.Errorf("df: got %d bytes in all, want the limit", got)
	}
	must(t, os.Mkdir(h.path("sub"), 0o755))
	must(t, put("sub/big", 15*mb))
	full("over the limit", put("more", 10*mb))
	must(t, os.Remove(h.path("more")))
	must(t, os.Rename(h.path("sub/big"), h.path("big")))
	h.sync()
	if st := h.status(); st.OverLimit {
		t.Errorf("got %+v, want the home to be saved", st)
	}
	m.end()

	m = mount() // the file is in the lower now
	full("over the limit of all sessions", put("more", 10*mb))
	must(t, os.Remove(h.path("more")))
	must(t, os.Remove(h.path("big")))
	h.sync() // it measures
	must(t, put("more", 10*mb))
	h.sync()
	m.killWorker()
	full("after the worker was killed", put("too much", 15*mb))
	must(t, os.Remove(h.path("too much")))
	m.killAll()
	m = mount() // it takes the upper up
	full("after all was killed", put("too much", 15*mb))
	must(t, os.Remove(h.path("too much")))
	m.end()
	p.check()
	wantNames(t, p.restore(""), "more", "sub")

	m = h.mount("--size-limit", "20m") // without enforcing it
	must(t, put("too much", 15*mb))
	must(t, os.Remove(h.path("too much")))
	m.end()
}
