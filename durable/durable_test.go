package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestWrite(t *testing.T) {
	for name, c := range map[string]struct {
		write func(path string) error
		want  string
	}{
		"bytes":   {func(path string) error { return Write(path, []byte("new\x00")) }, "new\x00"},
		"nothing": {func(path string) error { return Write(path, nil) }, ""},
		"JSON":    {func(path string) error { return WriteJSON(path, map[string]int{"a": 1}) }, "{\n  \"a\": 1\n}\n"},
		"from": {func(path string) error {
			return WriteFrom(path, func(w io.Writer) error {
				_, err := io.WriteString(w, "in ")
				_, partErr := io.WriteString(w, "parts")
				return errors.Join(err, partErr)
			})
		}, "in parts"},
	} {
		for _, before := range []string{"", "longer than what is new"} {
			t.Run(fmt.Sprintf("%s over %q", name, before), func(t *testing.T) {
				defer unix.Umask(unix.Umask(0)) // which takes nothing away
				path := filepath.Join(t.TempDir(), "file")
				if before != "" {
					must(t, os.WriteFile(path, []byte(before), 0o666))
				}
				must(t, c.write(path))
				if diff := cmp.Diff(map[string]string{"file": c.want}, files(t, filepath.Dir(path))); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
					t.Errorf("got %v, %v, want mode 0600", st.Mode(), err)
				}
			})
		}
	}
}

// A reader finds the old content or the new one, whole, whenever it opens the file.
func TestReplacesAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	contents := [][]byte{bytes.Repeat([]byte("a"), 300_000), bytes.Repeat([]byte("b"), 200_000)}
	must(t, Write(path, contents[0]))
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 1; ; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := Write(path, contents[i%2]); err != nil {
				done <- err
				return
			}
		}
	}()
	var changes int
	for last := contents[0]; changes < 20; {
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, contents[0]) && !bytes.Equal(got, contents[1]) {
			t.Errorf("got %d bytes, %v, want one content or the other", len(got), err)
			break
		}
		if !bytes.Equal(got, last) {
			last, changes = got, changes+1
		}
		if len(done) > 0 { // the writer has given up
			break
		}
	}
	close(stop)
	must(t, <-done)
}

func TestOpenFileKeepsTheOldContent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	must(t, Write(path, []byte("old")))
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	must(t, Write(path, []byte("new")))
	if got, err := io.ReadAll(f); err != nil || string(got) != "old" {
		t.Errorf("got %q, %v, want the old content", got, err)
	}
}

func TestNotWholeYet(t *testing.T) {
	dir := t.TempDir()
	must(t, WriteFrom(filepath.Join(dir, "file"), func(w io.Writer) error {
		_, err := io.WriteString(w, "part")
		list, listErr := os.ReadDir(dir)
		if len(list) != 1 || !strings.HasPrefix(list[0].Name(), TempPrefix) {
			t.Errorf("got %v, want one name that begins with %s", list, TempPrefix)
		}
		return errors.Join(err, listErr)
	}))
}

func TestErrors(t *testing.T) {
	cause := errors.New("as told")
	for name, c := range map[string]struct {
		path  string
		write func(path string) error
		want  error // nil for any
	}{
		"of the content": {"file", func(path string) error {
			return WriteFrom(path, func(w io.Writer) error {
				_, err := io.WriteString(w, "part")
				return errors.Join(err, cause)
			})
		}, cause},
		"no directory":   {"missing/file", func(path string) error { return Write(path, nil) }, fs.ErrNotExist},
		"not a file":     {"dir", func(path string) error { return Write(path, nil) }, fs.ErrExist},
		"not as JSON is": {"file", func(path string) error { return WriteJSON(path, make(chan int)) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.Mkdir(filepath.Join(dir, "dir"), 0o700))
			must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("old"), 0o600))
			path := filepath.Join(dir, c.path)
			err := c.write(path)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.HasPrefix(err.Error(), "write "+path+": ") {
				t.Errorf("got %v, want %v that names %s", err, c.want, path)
			}
			if diff := cmp.Diff(map[string]string{"dir": "(directory)", "file": "old"}, files(t, dir)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSyncDir(t *testing.T) {
	dir := t.TempDir()
	must(t, SyncDir(dir))
	missing := filepath.Join(dir, "missing")
	if err := SyncDir(missing); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("got %v, want ErrNotExist that names %s", err, missing)
	}
}

// files are the entries of dir and what they hold.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	out := map[string]string{}
	for _, e := range entries {
		if e.IsDir() {
			out[e.Name()] = "(directory)"
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		must(t, err)
		out[e.Name()] = string(data)
	}
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
