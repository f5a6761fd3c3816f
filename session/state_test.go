package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"valise/store"
	"valise/tree"
)

func TestHomePath(t *testing.T) {
	long := "s3://" + strings.Repeat("l", 5000)
	urls := []string{
		"", "/", ".", "..", "://", "s3://", "s3://.", "s3://..", "s3://../..", "s3://a/..", "s3://---", "s3://\x00\n\xff",
		"s3://bucket", "s3://Bucket", "s3://bucket/", "s3://bucket/a", "s3://bucket/a/b", "s3://bucket/a_b", "s3://bucket/a-b", "s3://bucket/a%2Fb",
		"s3://bucket/ä", "s3://bucket/ö", "http://bucket/a", "s3://bucket/a?endpoint=https://host:9000", "s3://bucket/a?endpoint=https://host:9001",
		"s3://" + strings.Repeat("ü", 300), long, long + "a", long + "b", "s3://a" + long[5:], "s3://b" + long[5:],
	}
	plain := regexp.MustCompile(`^[0-9A-Za-z._-]+$`)
	seen := map[string]string{}
	for _, url := range urls {
		path := HomePath("/state", url)
		name := strings.TrimPrefix(path, "/state/s3/")
		if name == path || !filepath.IsLocal(name) || name == "." || len(name) > 255 || !plain.MatchString(name) {
			t.Errorf("%q: got %q, want a plain name below /state/s3", url, path)
		}
		if other, taken := seen[path]; taken {
			t.Errorf("%q has %q, as %q has", url, path, other)
		}
		seen[path] = url
	}
}

// Another path than an earlier version's would leave what waits there unsaved.
func TestHomePathStays(t *testing.T) {
	for url, want := range map[string]string{
		"s3://bucket/profiles/Alice-1.0":             "/state/s3/bucket_profiles_Alice-1.0-e98b82d69501",
		"s3://bucket/":                               "/state/s3/bucket-5af75b20ff3b",
		"s3://b/" + strings.Repeat("0123456789", 10): "/state/s3/" + strings.Repeat("0123456789", 8) + "-ffb30e0a784e",
	} {
		if got := HomePath("/state", url); got != want {
			t.Errorf("%q: got %q, want %q", url, got, want)
		}
	}
}

func TestLock(t *testing.T) {
	path := HomePath(t.TempDir(), "s3://bucket/alice")
	first, err := openHome(path, nil)
	must(t, err)
	for name, perm := range map[string]fs.FileMode{path: 0o700, path + "/lock": 0o600} {
		if st, err := os.Stat(name); err != nil || st.Mode().Perm() != perm {
			t.Errorf("%s: got %v, %v, want mode %o", name, st, err, perm)
		}
	}
	locked := func(when string) {
		t.Helper()
		if h, err := openHome(path, nil); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, %v, want ErrLocked that names %s", when, h, err, path)
		}
	}
	locked("the second time")
	next, err := openHome(path, first.lock)
	must(t, err)
	locked("with the lock handed on")
	must(t, first.close())
	locked("after the first has closed it")
	must(t, next.close())
	last, err := openHome(path, nil)
	must(t, err)
	must(t, last.close())
	if h, err := openHome(path, last.lock); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("with a closed lock: got %v, %v, want an error that names %s", h, err, path)
	}
}

// example is a state with a value in each field.
var example = state{
	Version: 1, URL: "s3://bucket/alice", Dir: "/home/alice", Profile: "profile", Mount: "mount", Complete: true,
	Base: store.Snapshot{Epoch: 1, Seq: 2, Time: time.Unix(3, 4).UTC(), Host: "host", Mount: "before", Nonce: "nonce", Files: 5, Size: 6},
	Saved: store.Snapshot{
		Epoch: 1, Seq: 3, Parent: "snapshots/x", Time: time.Unix(7, 8).UTC(), Host: "host", Mount: "mount", Nonce: "12345678.", Files: 9, Size: 10,
		Index: []store.Index{{ID: "index", Size: 11, Parts: []store.Part{{Size: 12, Sum: "sum"}}}}, Conflict: true,
	},
}

func TestStateIsReadBack(t *testing.T) {
	h := newHome(t)
	if _, found, err := h.load(); found || err != nil {
		t.Errorf("before: got %v, %v, want none", found, err)
	}
	unversioned := example
	unversioned.Version = 0
	must(t, h.save(unversioned))
	for range 2 {
		got, found, err := h.load()
		if diff := cmp.Diff(example, got, cmpopts.IgnoreUnexported(store.Snapshot{})); diff != "" || !found || err != nil {
			t.Errorf("found %v, %v (-want +got):\n%s", found, err, diff)
		}
		// What version 1 wrote.
		must(t, os.WriteFile(h.file("state.json"), []byte(`{"version": 1, "url": "s3://bucket/alice", "dir": "/home/alice", "profile": "profile",
			"mount": "mount", "base": {"epoch": 1, "seq": 2, "time": "1970-01-01T00:00:03.000000004Z", "host": "host", "mount": "before",
			"nonce": "nonce", "index": null, "files": 5, "size": 6}, "saved": {"epoch": 1, "seq": 3, "parent": "snapshots/x",
			"time": "1970-01-01T00:00:07.000000008Z", "host": "host", "mount": "mount", "nonce": "12345678.", "index": [{"id": "index",
			"size": 11, "parts": [{"size": 12, "blake3": "sum"}]}], "files": 9, "size": 10, "conflict": true}, "complete": true}`), 0o600))
	}
}

func TestStateThatCannotBeRead(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"newer version":  {`{"version": 2}`, "version 2, this program reads version 1"},
		"no version":     {`{}`, "version 0, this program reads version 1"},
		"not an object":  {`[]`, "cannot unmarshal array"},
		"cut off":        {`{"version": 1, "url"`, "unexpected end of JSON input"},
		"empty":          {"", "unexpected end of JSON input"},
		"a wrong type":   {`{"version": 1, "complete": "no"}`, "complete"},
		"something else": {"{\"version\": 1}\x00", "invalid character"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			path := h.file("state.json")
			must(t, os.WriteFile(path, []byte(c.content), 0o600))
			_, found, err := h.load()
			if found || err == nil || !strings.HasPrefix(err.Error(), path+": ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, %v, want an error that names %s and says %q", found, err, path, c.want)
			}
		})
	}
	h := newHome(t)
	must(t, os.Mkdir(h.file("state.json"), 0o700))
	if _, found, err := h.load(); found || !errors.Is(err, unix.EISDIR) || !strings.Contains(err.Error(), h.file("state.json")) {
		t.Errorf("a directory: got %v, %v, want EISDIR that names it", found, err)
	}
}

func TestMakeLayer(t *testing.T) {
	base := newBase(t)
	for name, before := range map[string]func(h *home){
		"new": func(*home) {},
		"cut off": func(h *home) { // in the middle of copyRoot
			must(t, os.MkdirAll(h.layer("mount", "work"), 0o700))
			must(t, os.Mkdir(h.layer("mount", "new"), 0o700))
			must(t, os.Lchown(h.layer("mount", "new"), 5, 6))
			must(t, unix.Setxattr(h.layer("mount", "new"), "user.note", []byte("else"), 0))
		},
		"cut off at the start": func(h *home) { must(t, os.MkdirAll(h.layer("mount", "work"), 0o700)) },
		"made already":         func(h *home) { must(t, h.makeLayer("mount", base, nil)) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			before(h)
			must(t, h.makeLayer("mount", base, nil))
			checkRoot(t, h.layer("mount", "upper"), base)
			if got, want := names(t, h.layer("mount", "")), []string{"upper", "work"}; !cmp.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestMakeLayerKeepsTheUpper(t *testing.T) {
	h, base := newHome(t), newBase(t)
	must(t, h.makeLayer("mount", base, nil))
	upper := h.layer("mount", "upper")
	must(t, os.WriteFile(upper+"/file", []byte("unsaved"), 0o600))
	must(t, os.Chmod(upper, 0o711))
	must(t, h.makeLayer("mount", base, nil))
	if got, err := os.ReadFile(upper + "/file"); err != nil || string(got) != "unsaved" {
		t.Errorf("got %q, %v, want what was written", got, err)
	}
	if st, err := os.Stat(upper); err != nil || st.Mode().Perm() != 0o711 {
		t.Errorf("got %v, %v, want the mode that the user gave", st, err)
	}
}

func TestBegin(t *testing.T) {
	h, base := newHome(t), newBase(t)
	mapped, err := h.begin(example, base, nil)
	must(t, err)
	defer mapped.Close()
	checkRoot(t, h.layer("mount", "upper"), base)
	if got, err := os.ReadFile(h.file("base.tree")); err != nil || !bytes.Equal(got, base.Bytes()) {
		t.Errorf("base.tree: got %d bytes, %v, want those of the base", len(got), err)
	}
	if got, found, err := h.load(); err != nil || !found || got.Mount != "mount" {
		t.Errorf("state: got %+v, %v, %v", got, found, err)
	}
}

func TestDrop(t *testing.T) {
	h, s := newHome(t), example
	s.Complete = false
	base, err := h.begin(s, newBase(t), nil)
	must(t, err)
	defer base.Close()
	must(t, os.WriteFile(h.layer("mount", "upper/file"), []byte("content"), 0o600))
	must(t, h.makeLayer("other", newBase(t), nil))
	all := []string{"base.tree", "layers", "lock", "state.json"}
	if err := h.drop(s); err == nil || !strings.Contains(err.Error(), h.layer("mount", "")) {
		t.Errorf("not complete: got %v, want an error that names the layer", err)
	}
	if got := names(t, h.path); !cmp.Equal(got, all) {
		t.Errorf("not complete: got %q, want %q", got, all)
	}
	if got, err := os.ReadFile(h.layer("mount", "upper/file")); err != nil || string(got) != "content" {
		t.Errorf("not complete: got %q, %v, want what was written", got, err)
	}

	s.Complete = true
	for _, when := range []string{"complete", "once more"} { // a crash may come before state.json is deleted
		must(t, h.drop(s))
		if got, want := names(t, h.path), []string{"layers", "lock", "trash"}; !cmp.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", when, got, want)
		}
		if got, err := os.ReadFile(h.file("trash/mount/upper/file")); err != nil || string(got) != "content" {
			t.Errorf("%s: trash has %q, %v, want what was written", when, got, err)
		}
		if got, want := names(t, h.file("layers")), []string{"other"}; !cmp.Equal(got, want) {
			t.Errorf("%s: got the layers %q, want %q", when, got, want)
		}
	}

	for _, when := range []string{"full", "empty"} {
		must(t, h.emptyTrash())
		if got, want := names(t, h.path), []string{"layers", "lock"}; !cmp.Equal(got, want) {
			t.Errorf("after emptying the %s trash: got %q, want %q", when, got, want)
		}
	}
	if got, want := names(t, h.file("layers")), []string{"other"}; !cmp.Equal(got, want) {
		t.Errorf("after emptying the trash: got the layers %q, want %q", got, want)
	}
}

// The process that ended before may still be deleting what it had dropped.
func TestDropWhileTheTrashIsEmptied(t *testing.T) {
	h, s := newHome(t), example
	s.Complete = true
	end, emptied := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-end:
				emptied <- nil
				return
			default:
				if err := h.emptyTrash(); err != nil {
					emptied <- err
					return
				}
			}
		}
	}()
	for i := range 300 {
		s.Mount = fmt.Sprint("mount", i)
		must(t, os.MkdirAll(h.layer(s.Mount, "upper"), 0o700))
		must(t, h.drop(s))
		if got := names(t, h.file("layers")); len(got) > 0 {
			t.Fatalf("got the layers %q, want none", got)
		}
	}
	close(end)
	must(t, <-emptied)
}

func TestPending(t *testing.T) {
	dir := t.TempDir()
	if got, err := Pending(dir); len(got) != 0 || err != nil {
		t.Errorf("no profile: got %v, %v, want none", got, err)
	}
	begin := func(name string, complete bool, base, saved store.Snapshot) *home {
		t.Helper()
		s := state{URL: "s3://bucket/" + name, Dir: "/home/" + name, Mount: "of " + name, Base: base, Saved: saved, Complete: complete}
		h, err := openHome(HomePath(dir, s.URL), nil)
		must(t, err)
		must(t, h.save(s))
		return h
	}
	base := store.Snapshot{Epoch: 1, Seq: 2, Time: time.Unix(3, 0).UTC(), Size: 4}
	saved := store.Snapshot{Epoch: 1, Seq: 3, Time: time.Unix(5, 0).UTC(), Size: 6}
	aside := store.Snapshot{Epoch: 1, Seq: 4, Time: time.Unix(7, 0).UTC(), Size: 8, Nonce: "0123456789", Conflict: true}
	must(t, begin("clean", true, base, saved).close())
	must(t, begin("first", false, store.Snapshot{}, store.Snapshot{}).close())
	must(t, begin("second", false, base, saved).close())
	must(t, begin("third", false, base, aside).close())
	mounted := begin("mounted", false, base, saved)
	never, err := openHome(HomePath(dir, "s3://bucket/never"), nil)
	must(t, errors.Join(err, never.close()))

	want := []Status{
		{URL: "s3://bucket/first", Dir: "/home/first", Mount: "of first", State: "pending", Base: "0"},
		{URL: "s3://bucket/second", Dir: "/home/second", Mount: "of second", State: "pending", Base: "2", Snapshot: "3", SavedAt: saved.Time, Size: 6},
		{URL: "s3://bucket/third", Dir: "/home/third", Mount: "of third", State: "pending", Base: "2", Snapshot: "4-01234567", SavedAt: aside.Time, Size: 8, Conflict: true},
	}
	for range 2 { // the first leaves nothing locked
		got, err := Pending(dir)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("got %v (-want +got):\n%s", err, diff)
		}
	}
	must(t, mounted.close())
	if got, err := Pending(dir); err != nil || len(got) != len(want)+1 {
		t.Errorf("after the mount has died: got %v, %v, want one more", got, err)
	}
	path := mounted.file("state.json")
	must(t, os.WriteFile(path, []byte("{"), 0o600))
	got, err := Pending(dir)
	broken := slices.ContainsFunc(got, func(st Status) bool { return strings.Contains(st.Error, path) })
	if err != nil || len(got) != len(want)+1 || !broken {
		t.Errorf("with a broken state: got %v, %v, want the others and an error that names %s", got, err, path)
	}
}

func TestAwaited(t *testing.T) {
	blob, id := tree.Blob{Raw: 7}, tree.PackID{8}
	for name, c := range map[string]struct {
		ask  func(ctx context.Context, a *awaited) ([]byte, error)
		want asked
	}{
		"Block":    {func(ctx context.Context, a *awaited) ([]byte, error) { return a.Block(ctx, blob, 9) }, asked{blob: blob, size: 9}},
		"Prefetch": {func(ctx context.Context, a *awaited) ([]byte, error) { return nil, a.Prefetch(ctx, id, 9) }, asked{id: id, size: 9}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, content := &awaited{ready: make(chan struct{})}, &answers{data: []byte("data"), err: errors.New("as told")}
				ctx, cancel := context.WithCancel(t.Context())
				early, late := make(chan error, 1), make(chan error, 1)
				go func() { _, err := c.ask(ctx, a); early <- err }()
				go func() {
					data, err := c.ask(t.Context(), a)
					if name == "Block" && string(data) != "data" {
						t.Errorf("got %q, want what the content answers", data)
					}
					late <- err
				}()
				synctest.Wait()
				if len(early)+len(late) != 0 {
					t.Fatal("there is an answer before there is content")
				}
				cancel()
				if err := <-early; err != context.Canceled {
					t.Errorf("ctx has ended: got %v, want its error", err)
				}
				synctest.Wait()
				if len(late) != 0 {
					t.Fatal("the end of one's ctx is an answer to another")
				}
				a.arrive(content)
				if err := <-late; err != content.err {
					t.Errorf("got %v, want what the content answers", err)
				}
				if _, err := c.ask(t.Context(), a); err != content.err {
					t.Errorf("afterwards: got %v, want what the content answers", err)
				}
				if want := []asked{c.want, c.want}; !cmp.Equal(content.asked, want, cmp.AllowUnexported(asked{})) {
					t.Errorf("the content was asked for %+v, want %+v", content.asked, want)
				}
			})
		})
	}
}

// asked is what content was asked for.
type asked struct {
	blob tree.Blob
	id   tree.PackID
	size uint32
}

// answers is fusefs.Content that answers the same to everything.
type answers struct {
	data  []byte
	err   error
	asked []asked
}

func (c *answers) Block(_ context.Context, b tree.Blob, packSize uint32) ([]byte, error) {
	c.asked = append(c.asked, asked{blob: b, size: packSize})
	return c.data, c.err
}

func (c *answers) Prefetch(_ context.Context, id tree.PackID, size uint32) error {
	c.asked = append(c.asked, asked{id: id, size: size})
	return c.err
}

func newHome(t *testing.T) *home {
	t.Helper()
	h, err := openHome(HomePath(t.TempDir(), example.URL), nil)
	must(t, err)
	t.Cleanup(func() { must(t, h.close()) })
	return h
}

// newBase is a home whose directory has attributes of all kinds.
func newBase(t *testing.T) *tree.Tree {
	t.Helper()
	base, err := tree.NewBuilder(tree.Whole, tree.Entry{
		Attr: tree.Attr{
			Mode: unix.S_IFDIR | unix.S_ISGID | unix.S_ISVTX | 0o751, UID: 1234, GID: 5678, Ino: 1,
			Mtime: time.Date(1969, 12, 31, 23, 59, 58, 999, time.UTC).UnixNano(),
		},
		Xattrs: []tree.Xattr{{Name: "user.note", Value: []byte("a\x00b")}, {Name: "user.empty"}, {Name: "trusted.mark", Value: []byte("root's")}},
	}).Finish(nil)
	must(t, err)
	return base
}

// checkRoot compares dir with the base's root.
func checkRoot(t *testing.T, dir string, base *tree.Tree) {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(dir, &st))
	want := base.Attr(tree.Root)
	got := want
	got.Mode, got.UID, got.GID, got.Mtime = st.Mode, st.Uid, st.Gid, st.Mtim.Nano()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", dir, diff)
	}
	for name, value := range base.Xattrs(tree.Root) {
		buf := make([]byte, 100)
		n, err := unix.Lgetxattr(dir, string(name), buf)
		if err != nil || !bytes.Equal(buf[:n], value) {
			t.Errorf("%s of %s: got %q, %v, want %q", name, dir, buf[:max(0, n)], err, value)
		}
	}
}

// names are the entries of a directory.
func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
