//go:build integration

package s3_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"valise/store/storetest/server"
)

// suite is what the tests share.
var suite struct {
	dir    string // of all files of the run
	binary string
	minio  *server.Server
}

// bucket holds the profiles of all tests.
const bucket = "homes"

func TestMain(m *testing.M) {
	os.Exit(runAll(m))
}

func runAll(m *testing.M) (code int) {
	l := &lasting{}
	defer func() {
		l.end()
		if l.failed {
			code = 1
		}
	}()
	l.setUp()
	if l.failed {
		return 1
	}
	code = m.Run()
	l.nothingLeft()
	return code
}

func (l *lasting) setUp() {
	if os.Getuid() != 0 {
		l.Fatal("mounting needs root")
	}
	var err error
	if suite.binary = os.Getenv("VALISE_BINARY"); suite.binary == "" {
		suite.binary, err = filepath.Abs("../../build/valise")
	}
	if err == nil {
		_, err = os.Stat(suite.binary)
	}
	if err != nil {
		l.Fatalf("%v: run make build", err)
	}
	if suite.dir, err = os.MkdirTemp("", "valise-s3-"); err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { l.check(os.RemoveAll(suite.dir)) })
	l.check(os.Mkdir(filepath.Join(suite.dir, "tmp"), 0o700))
	suite.minio = server.MinIO(l)
	suite.minio.Bucket(l, bucket)
}

// nothingLeft looks for traces of the tests, which have all ended; sockets are the hosts'
// own matter.
func (l *lasting) nothingLeft() {
	for _, m := range mounts() {
		if strings.HasPrefix(m.Mountpoint, suite.dir) {
			l.Errorf("left behind: %s mounted at %s", m.FSType, m.Mountpoint)
		}
	}
	for _, line := range commandLines() {
		if strings.HasPrefix(line, suite.binary+" ") && strings.Contains(line, suite.dir) {
			l.Errorf("left behind: process %s", line)
		}
	}
	left, err := os.ReadDir(filepath.Join(suite.dir, "tmp"))
	l.check(err)
	for _, e := range left {
		l.Errorf("left behind: temporary file %s", e.Name())
	}
}

func commandLines() []string {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var out []string
	for _, name := range files {
		if data, err := os.ReadFile(name); err == nil { // it may have ended meanwhile
			out = append(out, strings.ReplaceAll(string(data), "\x00", " "))
		}
	}
	return out
}

// lasting is the testing.TB of the whole run, for a server that all tests share.
type lasting struct {
	testing.TB
	failed   bool
	cleanups []func()
}

func (l *lasting) Helper()                  {}
func (l *lasting) Context() context.Context { return context.Background() }
func (l *lasting) Failed() bool             { return l.failed }
func (l *lasting) Cleanup(f func())         { l.cleanups = append(l.cleanups, f) }
func (l *lasting) Logf(f string, a ...any)  { fmt.Fprintf(os.Stderr, f+"\n", a...) }

func (l *lasting) Errorf(f string, a ...any) {
	l.failed = true
	l.Logf(f, a...)
}

func (l *lasting) Fatalf(f string, a ...any) {
	l.Errorf(f, a...)
	l.end()
	os.Exit(1)
}

func (l *lasting) Fatal(a ...any) { l.Fatalf("%s", fmt.Sprint(a...)) }

func (l *lasting) TempDir() string {
	dir, err := os.MkdirTemp(suite.dir, "")
	if err != nil {
		l.Fatal(err)
	}
	return dir
}

func (l *lasting) check(err error) {
	if err != nil {
		l.Errorf("%v", err)
	}
}

func (l *lasting) end() {
	for _, f := range slices.Backward(l.cleanups) {
		f()
	}
	l.cleanups = nil
}
