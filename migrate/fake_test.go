package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"valise/store"
)

const (
	testUID = 1234
	testGID = 4321
)

var when = time.Date(2020, 2, 3, 4, 5, 6, 789_000_000, time.UTC)

// stored is an object of a fake.
type stored struct {
	body     string
	etag     string
	modified time.Time
	kind     string // content type
	user     map[string]string
}

// fake is a source in memory with faults.
type fake struct {
	mu      sync.Mutex
	objects map[string]stored
	page    int
	lists   int
	opened  map[string]int

	onList func(n int) error                                         // before the n-th listing's first page
	onOpen func(key string, n int) error                             // before the n-th Open of that key
	onBody func(key string, n int, body io.ReadCloser) io.ReadCloser // wraps what that one reads
}

func newFake(objects map[string]stored) *fake {
	return &fake{objects: objects, page: 3, opened: map[string]int{}}
}

func plain(body string) stored { return stored{body: body} }

// put changes the object while a Fetch may run.
func (f *fake) put(key string, o stored) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.objects[key] = o
}

func (f *fake) remove(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.objects, key)
}

func (o stored) object(key string) Object {
	out := Object{Key: key, ETag: o.etag, Size: int64(len(o.body)), Modified: o.modified}
	if out.ETag == "" {
		out.ETag = fmt.Sprintf(`"%x"`, sum(o.body))
	}
	if out.Modified.IsZero() {
		out.Modified = when
	}
	return out
}

// List implements Source.
func (f *fake) List(ctx context.Context, after string) (page []Object, more bool, err error) {
	if after == "" {
		f.mu.Lock()
		f.lists++
		n := f.lists
		f.mu.Unlock()
		if f.onList != nil {
			if err := f.onList(n); err != nil {
				return nil, false, err
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(f.objects)) {
		if key <= after && (after != "" || key != "") {
			continue
		}
		if len(page) == f.page {
			return page, true, nil
		}
		page = append(page, f.objects[key].object(key))
	}
	return page, false, ctx.Err()
}

// Open implements Source.
func (f *fake) Open(ctx context.Context, key, etag string, offset int64) (io.ReadCloser, Meta, error) {
	f.mu.Lock()
	f.opened[key]++
	n := f.opened[key]
	f.mu.Unlock()
	if f.onOpen != nil {
		if err := f.onOpen(key, n); err != nil {
			return nil, Meta{}, err
		}
	}
	f.mu.Lock()
	o, ok := f.objects[key]
	f.mu.Unlock()
	if !ok || o.object(key).ETag != etag {
		return nil, Meta{}, fmt.Errorf("get %s: %w", key, store.ErrNotExist)
	}
	body := io.NopCloser(bytes.NewReader([]byte(o.body)[offset:]))
	if f.onBody != nil {
		body = f.onBody(key, n, body)
	}
	return body, Meta{Size: int64(len(o.body)), ContentType: o.kind, User: o.user}, ctx.Err()
}

func (f *fake) opens() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, times := range f.opened {
		n += times
	}
	return n
}

// cut is a body that breaks off.
type cut struct {
	io.Reader
	err error
}

func (c *cut) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err == io.EOF && c.err != nil {
		err = c.err
	}
	return n, err
}
func (c *cut) Close() error { return nil }

var errBroken = errors.New("connection reset by peer")

func configFor(t testing.TB, source Source, dir string) Config {
	return Config{Source: source, Name: "s3://bucket/prefix/", Dir: dir, UID: testUID, GID: testGID}
}

func staging(t testing.TB) string { return filepath.Join(t.TempDir(), "staging") }

func fetched(t testing.TB, cfg Config) Result {
	t.Helper()
	r, err := Fetch(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// file is what a test compares of one.
type file struct {
	Mode    string // with the type, octal
	Owner   string
	Mtime   time.Time
	Content string // or target
	Xattrs  map[string]string
}

// look returns all files of dir, without the top, by their paths.
func look(t testing.TB, dir string) map[string]file {
	t.Helper()
	out := map[string]file{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		f := file{Mode: fmt.Sprintf("%o", st.Mode), Owner: fmt.Sprintf("%d:%d", st.Uid, st.Gid), Mtime: time.Unix(st.Mtim.Unix()).UTC()}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			f.Content = string(data)
		case unix.S_IFLNK:
			if f.Content, err = os.Readlink(path); err != nil {
				return err
			}
		}
		if st.Mode&unix.S_IFMT != unix.S_IFLNK {
			f.Xattrs = xattrsOf(t, path)
		}
		out[rel] = f
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func xattrsOf(t testing.TB, path string) map[string]string {
	t.Helper()
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, list)
	if err != nil {
		return nil
	}
	var out map[string]string
	for name := range bytes.SplitSeq(list[:n], []byte{0}) {
		if !bytes.HasPrefix(name, []byte("user.")) {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, string(name), value)
		if err != nil {
			t.Fatal(err)
		}
		if out == nil {
			out = map[string]string{}
		}
		out[string(name)] = string(value[:n])
	}
	return out
}

// contents are the regular files of dir, and directories and links by what they are.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for path, f := range look(t, dir) {
		switch f.Mode[:len(f.Mode)-4] {
		case "10":
			out[path] = f.Content
		case "12":
			out[path] = "→ " + f.Content
		case "4":
			out[path+"/"] = ""
		default:
			out[path] = f.Mode
		}
	}
	return out
}
