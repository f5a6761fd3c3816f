//go:build integration

package s3_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// writer writes numbers to a home, a thousand a second: each into a log that stays open
// and into one of some files. What it has written it knows.
type writer struct {
	t       *testing.T
	dir     string
	log     *os.File
	begun   int64
	written atomic.Int64 // up to here all is written
	synced  atomic.Int64 // up to here the log is on the disk
	stop    chan struct{}
	done    sync.WaitGroup
	err     error // why it has ended, if it was not told to
}

// startWriter goes on after the numbers that are there.
func startWriter(t *testing.T, home string) *writer {
	t.Helper()
	w := &writer{t: t, dir: filepath.Join(home, "numbers"), stop: make(chan struct{})}
	must(t, os.MkdirAll(w.dir, 0o755))
	var err error
	w.begun = last(t, home)
	w.written.Store(w.begun)
	w.synced.Store(w.begun)
	w.log, err = os.OpenFile(filepath.Join(home, "log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	must(t, err)
	w.done.Go(func() { w.err = w.run() })
	return w
}

// The files are so many, in so many directories.
const (
	numberFiles = 500
	numberDirs  = 10
)

func numberPath(dir string, n int64) string {
	n %= numberFiles
	return fmt.Sprintf("%s/%d/%d", dir, n%numberDirs, n)
}

func (w *writer) run() error {
	for n := w.begun + 1; ; n++ {
		select {
		case <-w.stop:
			return nil
		default:
		}
		path := numberPath(w.dir, n)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		next := path + "~"
		if n%2 == 0 {
			next = filepath.Join(filepath.Dir(path), ".next") // one that is listed before
		}
		if err := os.WriteFile(next, []byte(fmt.Sprint(n)), 0o644); err != nil {
			return err
		}
		if err := os.Rename(next, path); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w.log, n); err != nil {
			return err
		}
		w.written.Store(n)
		if n%20 == 0 {
			if err := w.log.Sync(); err != nil {
				return err
			}
			w.synced.Store(n)
			time.Sleep(10 * time.Millisecond) // others want the machine, too
		}
	}
}

// end stops it and wants it to have gone on until then.
func (w *writer) end() {
	w.t.Helper()
	if err := w.halt(); err != nil {
		w.t.Fatalf("the writer ended: %v", err)
	}
}

// halt stops it and returns why it had ended, if it had.
func (w *writer) halt() error {
	w.t.Helper()
	close(w.stop)
	w.done.Wait()
	must(w.t, w.log.Close())
	return w.err
}

// last is the last number in a home's log, of which none may be missing.
func last(t *testing.T, home string) int64 {
	t.Helper()
	data, err := os.ReadFile(home + "/log")
	if os.IsNotExist(err) {
		return 0
	}
	must(t, err)
	n := int64(0)
	for line := range strings.Lines(string(data)) {
		if n++; line != fmt.Sprintln(n) {
			t.Fatalf("line %d of %s/log: got %q", n, home, line)
		}
	}
	return n
}

// wantNumbers wants all numbers up to n to be there, or later ones in their place.
func wantNumbers(t *testing.T, what, home string, n int64) {
	t.Helper()
	if got := last(t, home); got < n {
		t.Errorf("%s: got %d lines in the log, want at least %d", what, got, n)
	}
	for i := max(1, n-numberFiles+1); i <= n; i++ {
		data, err := os.ReadFile(numberPath(home+"/numbers", i))
		if got, atoiErr := strconv.ParseInt(string(data), 10, 64); err != nil || atoiErr != nil || got < i || got%numberFiles != i%numberFiles {
			t.Fatalf("%s: the file of number %d: got %q, %v", what, i, data, err)
		}
	}
}
