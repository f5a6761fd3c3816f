//go:build integration

package s3_test

import (
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// departures are the tests of posixtest that are left out, and why.
var departures = map[string]string{
	"FcntlFlockLocksFile": "it wants a process to be kept out by a record lock of its own, which fcntl(2) denies; ext4 does not pass it either",
}

// TestPOSIX runs go-fuse's tests of what a file system promises, in a directory that is
// new and in one that a snapshot holds.
func TestPOSIX(t *testing.T) {
	p := newProfile(t)
	a := p.host("a")
	m := a.mount()
	names := slices.Sorted(maps.Keys(posixtest.All))
	for _, name := range names {
		must(t, os.MkdirAll(a.path("new/"+name), 0o755), os.MkdirAll(a.path("of a snapshot/"+name), 0o755))
	}
	for _, where := range []string{"new", "of a snapshot"} {
		if where != "new" {
			m.end()
			a = p.host("b")
			m = a.mount()
		}
		t.Run(where, func(t *testing.T) {
			for _, name := range names {
				if departures[name] == "" {
					t.Run(name, func(t *testing.T) { posixtest.All[name](t, a.path(where+"/"+name)) })
				}
			}
		})
	}
	m.end()
}
