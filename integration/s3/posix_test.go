//go:build integration

package s3_test

import (
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// departures are the tests of posixtest that an overlayfs does not pass, and why.
var departures = map[string]string{}

// TestPOSIX runs go-fuse's tests of what a file system promises, in a directory that is
// new and in one that a snapshot holds.
func TestPOSIX(t *testing.T) {
	p := newProfile(t)
	a := p.host("a")
	m := a.mount()
	for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
		must(t, os.Mkdir(a.path(name), 0o755))
	}
	for i, where := range []string{"new", "of a snapshot"} {
		if i == 1 {
			m.end()
			a = p.host("b")
			m = a.mount()
		}
		t.Run(where, func(t *testing.T) {
			for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
				if departures[name] == "" {
					t.Run(name, func(t *testing.T) { posixtest.All[name](t, a.path(name)) })
				}
			}
		})
	}
	m.end()
}
