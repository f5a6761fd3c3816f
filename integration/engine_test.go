//go:build integration

package integration

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// image is what scripts/image.sh makes.
const image = "valise-demo/desktop:latest"

// engine is the private Docker Engine of scripts/test.sh, or one more of its kind.
type engine struct {
	kind string // debian | current
	host string // DOCKER_HOST
	dir  string // its directory, and ours for what tests make

	flags []string // of dockerd, of one that a test has to itself
}

// environment returns what scripts/test.sh said.
func environment(t *testing.T, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		t.Fatalf("%s is not set: run the integration tests by scripts/test.sh", name)
	}
	return v
}

func theEngine(t *testing.T) engine {
	t.Helper()
	return engine{
		kind: environment(t, "VALISE_ENGINE"), host: environment(t, "VALISE_DOCKER_HOST"),
		dir: environment(t, "VALISE_ENGINE_DIR"),
	}
}

// script is a file of the repository's scripts.
func script(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "scripts", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestMain lets more tests run side by side than there are processors: they wait for
// the engine most of the time.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", "4"); err != nil {
			panic(err)
		}
	}
	if err := removeStale(); err != nil {
		panic(err)
	}
	code := m.Run()
	retired.close()
	os.Exit(code)
}

// numbers makes names unique within this process.
var numbers atomic.Int64

func unique(prefix string) string {
	return fmt.Sprintf("%s%d-%d", prefix, os.Getpid(), numbers.Add(1))
}

// tempDir makes a directory with a short path, for sockets, that goes with the test. A
// mount that the test left in it is unmounted.
func tempDir(t *testing.T, e engine) string {
	t.Helper()
	dir := filepath.Join(e.dir, unique("t"))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unmountBelow(t, dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return dir
}

// eventually waits until probe returns nil.
func eventually(t *testing.T, what string, timeout time.Duration, probe func() error) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		err := probe()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, timeout, err)
		}
		time.Sleep(wait)
	}
}

// contains fails the test unless text holds every part.
func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s:\ngot  %s\nwant something with %q", what, text, part)
		}
	}
}

// equal fails the test unless got is want.
func equal[V comparable](t *testing.T, what string, got, want V) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\ngot  %v\nwant %v", what, got, want)
	}
}

// wantText returns an error unless got, printed, is want.
func wantText(got any, want string) error {
	if text := fmt.Sprint(got); text != want {
		return fmt.Errorf("got %s, want %s", text, want)
	}
	return nil
}
