package migrate

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"fmt"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"valise/store"
)

func TestFetch(t *testing.T) {
	source := newFake(map[string]stored{
		"":                    {user: map[string]string{"mode": "16832", "ctime": "1", "mtime": "77"}},
		"a":                   plain("A"),
		"d/":                  {user: map[string]string{"mode": "16872", "ctime": "1", "mtime": "1000000000.5", "xattr": "%7B%22user.d%22%3A%22eA%3D%3D%22%7D"}},
		"d/f":                 {body: "F", user: map[string]string{"mtime": "981173106.123456789"}},
		"d/sub/deep/g":        plain("G"),
		"d/l.rclonelink":      {body: "../../outside", user: map[string]string{"mtime": "5.25"}},
		"e/":                  {},
		"empty":               {},
		"pipe":                {user: map[string]string{"mode": "4516", "ctime": "1"}},
		"x":                   {body: "X", user: map[string]string{"mode": "33261", "ctime": "1", "uid": "7"}},
		".valise-0123456789a": plain("mine"),
	})
	cfg := configFor(t, source, staging(t))
	var last Progress
	cfg.Progress = func(p Progress) { last = p }
	got := fetched(t, cfg)
	owner := "1234:4321"
	want := map[string]file{
		"a":                   {"100644", owner, when, "A", nil},
		"d":                   {"40750", owner, time.Unix(1e9, 5e8).UTC(), "", map[string]string{"user.d": "x"}},
		"d/f":                 {"100644", owner, time.Unix(981173106, 123456789).UTC(), "F", nil},
		"d/sub":               {"40755", owner, when, "", nil},
		"d/sub/deep":          {"40755", owner, when, "", nil},
		"d/sub/deep/g":        {"100644", owner, when, "G", nil},
		"d/l":                 {"120777", owner, time.Unix(5, 25e7).UTC(), "../../outside", nil},
		"e":                   {"40755", owner, when, "", nil},
		"empty":               {"100644", owner, when, "", nil},
		"pipe":                {"10644", owner, when, "", nil},
		"x":                   {"100755", owner, when, "X", nil},
		".valise-0123456789a": {"100644", owner, when, "mine", nil},
	}
	if diff := cmp.Diff(want, look(t, cfg.Dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	wantResult := Result{Files: 6, Links: 1, Fifos: 1, Dirs: 3, Bytes: 8, Fetched: 11, FetchedBytes: 8 + 13}
	if diff := cmp.Diff(wantResult, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if want := (Progress{Listed: 11, Objects: 11, OfObjects: 11, Bytes: 21, OfBytes: 21}); last != want {
		t.Errorf("got %+v, want %+v", last, want)
	}
	var st unix.Stat_t
	if err := unix.Stat(cfg.Dir, &st); err != nil || st.Mode != 0o40700 || st.Uid != testUID || st.Mtim.Sec != 77 {
		t.Errorf("top: got mode %o, uid %d, mtime %d, %v", st.Mode, st.Uid, st.Mtim.Sec, err)
	}

	// Once more reads nothing, and changes nothing.
	source.opened = map[string]int{}
	again := fetched(t, cfg)
	wantResult.Fetched, wantResult.FetchedBytes = 0, 0
	if diff := cmp.Diff(wantResult, again); diff != "" || source.opens() != 0 {
		t.Errorf("again: %d objects read (-want +got):\n%s", source.opens(), diff)
	}
	if diff := cmp.Diff(want, look(t, cfg.Dir)); diff != "" {
		t.Errorf("again (-want +got):\n%s", diff)
	}
	if err := Forget(cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(Sidecar(cfg.Dir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want no sidecar", err)
	}
	if _, err := Fetch(t.Context(), cfg); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("got %v, want ErrNotEmpty", err)
	}
}

func TestWhatIsNoFileIsSkipped(t *testing.T) {
	long := strings.Repeat("x", 300)
	source := newFake(map[string]stored{
		"/etc/passwd": plain("0"), "../up": plain("0"), "a/../../up": plain("0"), "a//b": plain("0"), "a/./b": plain("0"),
		long: plain("0"), "nul\x00": plain("0"), "bad\xff": plain("0"),
		"both": plain("file"), "both/x": plain("in it"),
		"marked": {}, "marked/": {},
		"old": {kind: "application/x-directory", user: map[string]string{"mtime": "99", "mode": "16832", "ctime": "1"}}, "old/x": plain("in it"),
		"link": {body: "/etc", user: map[string]string{"mode": "41471", "ctime": "1"}}, "link/passwd": plain("no"),
		"twice": plain("file"), "twice.rclonelink": plain("target"),
		"nowhere.rclonelink": plain(""), "far.rclonelink": plain(strings.Repeat("f", 4096)), "zero.rclonelink": plain("a\x00b"),
		"null": {user: map[string]string{"mode": "8612", "ctime": "1"}}, "sda": {user: map[string]string{"mode": "25008", "ctime": "1"}},
		"sock":     {user: map[string]string{"mode": "49645", "ctime": "1"}},
		"content/": plain("of a directory"),
	})
	cfg := configFor(t, source, staging(t))
	got := fetched(t, cfg)
	want := map[string]string{
		"both/": "", "both/x": "in it", "marked/": "", "old/": "", "old/x": "in it", "link/": "", "link/passwd": "no",
		"twice": "file", "content/": "",
	}
	if diff := cmp.Diff(want, contents(t, cfg.Dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	reasons := map[string]string{}
	for _, s := range got.Skipped {
		reasons[s.Key] = s.Reason
	}
	dir := "other objects make its name a directory"
	wantReasons := map[string]string{
		"/etc/passwd": "its key has an empty part", "a//b": "its key has an empty part",
		"../up": `its key has the part ".."`, "a/../../up": `its key has the part ".."`, "a/./b": `its key has the part "."`,
		long: "its name has 300 bytes, more than 255", "nul\x00": "its key has a zero byte", "bad\xff": "its key is not UTF-8",
		"both": dir, "marked": dir, "link": dir,
		"twice.rclonelink":   "another object is the file of that name",
		"nowhere.rclonelink": "it is a symbolic link to a name of 0 bytes",
		"far.rclonelink":     "it is a symbolic link to a name of 4096 bytes",
		"zero.rclonelink":    "it is a symbolic link to a name with a zero byte",
		"null":               "it is a device", "sda": "it is a device", "sock": "it is a socket",
	}
	if diff := cmp.Diff(wantReasons, reasons); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if want := []string{`leave out the content of the directory's object of "content"`}; !cmp.Equal(want, got.Notes) {
		t.Errorf("got notes %q", got.Notes)
	}
	// A continued one tells the same.
	again := fetched(t, cfg)
	again.Fetched, again.FetchedBytes = got.Fetched, got.FetchedBytes
	if diff := cmp.Diff(got, again); diff != "" {
		t.Errorf("again (-want +got):\n%s", diff)
	}
}

func TestLinksAreNotFollowed(t *testing.T) {
	outside := t.TempDir()
	source := newFake(map[string]stored{
		"l.rclonelink": plain(outside), "m": {body: outside, user: map[string]string{"mode": "41471", "ctime": "1"}},
	})
	cfg := configFor(t, source, staging(t))
	fetched(t, cfg)
	// Now the links' names are files and directories.
	source.remove("l.rclonelink")
	source.remove("m")
	source.put("l/x", plain("X"))
	source.put("m", plain("M"))
	fetched(t, cfg)
	if diff := cmp.Diff(map[string]string{"l/": "", "l/x": "X", "m": "M"}, contents(t, cfg.Dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Somebody puts a link in the way of a directory.
	source.put("l/y", plain("Y"))
	if err := errors.Join(os.RemoveAll(filepath.Join(cfg.Dir, "l")), os.Symlink(outside, filepath.Join(cfg.Dir, "l"))); err != nil {
		t.Fatal(err)
	}
	fetched(t, cfg)
	if diff := cmp.Diff(map[string]string{"l/": "", "l/x": "X", "l/y": "Y", "m": "M"}, contents(t, cfg.Dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{}, contents(t, outside)); diff != "" {
		t.Errorf("outside (-want +got):\n%s", diff)
	}
}

func TestFilter(t *testing.T) {
	source := newFake(map[string]stored{"a": plain("A"), ".cache/x": plain("X"), ".cache/": {}, ".cache": plain("c"), "b.rclonelink": plain("a"), "b2": plain("B")})
	cfg := configFor(t, source, staging(t))
	cfg.Filter = func(path string, dir bool) bool {
		return path == ".cache" || strings.HasPrefix(path, ".cache/") || path == "b"
	}
	got := fetched(t, cfg)
	if diff := cmp.Diff(map[string]string{"a": "A", "b2": "B"}, contents(t, cfg.Dir)); diff != "" || got.Filtered != 4 {
		t.Errorf("got %d filtered (-want +got):\n%s", got.Filtered, diff)
	}
	if source.opens() != 2 {
		t.Errorf("got %d reads", source.opens())
	}
}

func TestBodiesThatBreakOff(t *testing.T) {
	patience = time.Millisecond
	long := strings.Repeat("0123456789", 100_000)
	for name, c := range map[string]struct {
		body  func(n int, body io.ReadCloser) io.ReadCloser
		opens int
		err   string
	}{
		"sometimes": {func(n int, body io.ReadCloser) io.ReadCloser {
			if n > 4 {
				return body
			}
			return &cut{io.LimitReader(body, 100_001), errBroken}
		}, 5, ""},
		"it ends early": {func(n int, body io.ReadCloser) io.ReadCloser {
			if n > 1 {
				return body
			}
			return &cut{io.LimitReader(body, 100_001), nil}
		}, 2, ""},
		"without a byte": {func(n int, body io.ReadCloser) io.ReadCloser {
			if n == 7 {
				return body
			}
			return &cut{io.LimitReader(body, 0), errBroken}
		}, 7, ""},
		"for ever": {func(n int, body io.ReadCloser) io.ReadCloser {
			return &cut{io.LimitReader(body, max(0, 10-int64(n))), errBroken}
		}, 0, "again and again: connection reset by peer"},
		"a wrong checksum": {func(n int, body io.ReadCloser) io.ReadCloser {
			if n > 1 {
				return body
			}
			return &cut{body, errBroken}
		}, 2, ""},
		"a wrong checksum always": {func(n int, body io.ReadCloser) io.ReadCloser {
			return &cut{body, errBroken}
		}, 3, "its end is wrong: connection reset by peer"},
		"too long": {func(n int, body io.ReadCloser) io.ReadCloser {
			return &cut{io.MultiReader(body, strings.NewReader("x")), nil}
		}, 1, "more than the 1000000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			source := newFake(map[string]stored{"k": plain(long), "ok": plain("ok")})
			source.onBody = func(key string, n int, body io.ReadCloser) io.ReadCloser {
				if key != "k" {
					return body
				}
				return c.body(n, body)
			}
			cfg := configFor(t, source, staging(t))
			var last Progress
			cfg.Progress = func(p Progress) { last = p }
			_, err := Fetch(t.Context(), cfg)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), `fetch "k"`) {
					t.Errorf("got %v, want %q", err, c.err)
				}
				if _, there := contents(t, cfg.Dir)["k"]; there {
					t.Error("the file is there")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := contents(t, cfg.Dir)["k"]; got != long {
				t.Errorf("got %d bytes", len(got))
			}
			if source.opened["k"] != c.opens || last.Bytes != last.OfBytes {
				t.Errorf("got %d reads, want %d; progress %+v", source.opened["k"], c.opens, last)
			}
		})
	}
}

func TestObjectsThatChangeMeanwhile(t *testing.T) {
	source := newFake(map[string]stored{
		"same": plain("same"), "changes": plain("one"), "goes": plain("x"), "goes/not": plain("y"), "mode": plain("m"), "gone": plain("z"),
	})
	source.onOpen = func(key string, n int) error {
		if n > 1 {
			return nil
		}
		switch key {
		case "changes": // before it is read
			source.put("changes", plain("two"))
		case "mode": // its metadata alone: the ETag stays
			source.put("mode", stored{body: "m", modified: when.Add(time.Second), user: map[string]string{"mode": "33261", "ctime": "1"}})
		case "gone":
			source.remove("gone")
		case "same":
			source.remove("goes/not")
			source.put("new/dir", plain("N"))
		}
		return nil
	}
	source.onBody = func(key string, n int, body io.ReadCloser) io.ReadCloser {
		if key == "changes" && n == 2 { // while it is read
			source.put("changes", plain("three"))
			return &cut{io.LimitReader(body, 1), errBroken}
		}
		return body
	}
	patience = time.Millisecond
	cfg := configFor(t, source, staging(t))
	got := fetched(t, cfg)
	want := map[string]string{"same": "same", "changes": "three", "goes": "x", "mode": "m", "new/": "", "new/dir": "N"}
	if diff := cmp.Diff(want, contents(t, cfg.Dir)); diff != "" || len(got.Skipped) != 0 {
		t.Errorf("skipped %v (-want +got):\n%s", got.Skipped, diff)
	}
	if m := look(t, cfg.Dir)["mode"]; m.Mode != "100755" {
		t.Errorf("got mode %s", m.Mode)
	}
	if source.opened["same"] != 1 {
		t.Errorf("what did not change was read %d times", source.opened["same"])
	}
}

func TestObjectsThatKeepChanging(t *testing.T) {
	source := newFake(map[string]stored{"a": plain("a")})
	source.onList = func(n int) error { source.put("log", plain(fmt.Sprint(n))); return nil }
	if _, err := Fetch(t.Context(), configFor(t, source, staging(t))); !errors.Is(err, ErrChanging) {
		t.Errorf("got %v, want ErrChanging", err)
	}
	source = newFake(map[string]stored{"a": plain("a")})
	source.onOpen = func(string, int) error { return store.ErrNotExist }
	if _, err := Fetch(t.Context(), configFor(t, source, staging(t))); !errors.Is(err, ErrChanging) || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("got %v, want ErrChanging that names a", err)
	}
}

func TestErrorsOfTheSource(t *testing.T) {
	source := newFake(map[string]stored{"a": plain("a"), "secret": plain("b")})
	source.onOpen = func(key string, _ int) error {
		if key == "secret" {
			return store.ErrDenied
		}
		return nil
	}
	cfg := configFor(t, source, staging(t))
	if _, err := Fetch(t.Context(), cfg); !errors.Is(err, store.ErrDenied) || !strings.Contains(err.Error(), `fetch "secret"`) {
		t.Errorf("got %v, want ErrDenied that names the object", err)
	}
	source.onOpen = nil
	fetched(t, cfg)
	if diff := cmp.Diff(map[string]string{"a": "a", "secret": "b"}, contents(t, cfg.Dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	source.onList = func(int) error { return store.ErrUnavailable }
	if _, err := Fetch(t.Context(), cfg); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	source.onList = nil
	if _, err := Fetch(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
}

func TestRefuses(t *testing.T) {
	source := newFake(map[string]stored{"a": plain("a")})
	cfg := configFor(t, source, staging(t))
	fetched(t, cfg)
	for name, change := range map[string]func(c *Config){
		"another source": func(c *Config) { c.Name = "s3://bucket/other/" },
		"another owner":  func(c *Config) { c.UID++ },
	} {
		other := cfg
		change(&other)
		if _, err := Fetch(t.Context(), other); !errors.Is(err, ErrOther) {
			t.Errorf("%s: got %v, want ErrOther", name, err)
		}
	}
	side, err := os.Open(filepath.Join(Sidecar(cfg.Dir), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer side.Close()
	if err := unix.Flock(int(side.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := Fetch(t.Context(), cfg); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
	// The same path, but another directory, with files that must not be swept.
	side.Close()
	moved := cfg.Dir + "-moved"
	if err := errors.Join(os.Rename(cfg.Dir, moved), os.Mkdir(cfg.Dir, 0o700), os.WriteFile(filepath.Join(cfg.Dir, "thesis"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Fetch(t.Context(), cfg); !errors.Is(err, ErrOther) {
		t.Errorf("got %v, want ErrOther", err)
	}
	full := configFor(t, source, t.TempDir())
	if err := os.WriteFile(filepath.Join(full.Dir, "thesis"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Fetch(t.Context(), full); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("got %v, want ErrNotEmpty", err)
	}
	for _, at := range []string{"", "alice/", "homes/bob/"} {
		ours := newFake(map[string]stored{at + "valise.json": plain("{}"), at + "packs/00ff": plain("p"), at + "snapshots/0-1": plain("s")})
		if _, err := Fetch(t.Context(), configFor(t, ours, staging(t))); !errors.Is(err, ErrProfile) || ours.opens() != 0 {
			t.Errorf("profile at %q: got %v, %d reads", at, err, ours.opens())
		}
	}
	plainFiles := newFake(map[string]stored{"valise.json": plain("{}"), "packs/x/y": plain("p"), "src/packs/a": plain("s")})
	fetched(t, configFor(t, plainFiles, staging(t)))
}

func TestWhatVanishedIsFetchedAgain(t *testing.T) {
	source := newFake(map[string]stored{"a": plain("A"), "d/b": plain("B"), "d/c": plain("C"), "l.rclonelink": plain("a")})
	cfg := configFor(t, source, staging(t))
	fetched(t, cfg)
	in := func(name string) string { return filepath.Join(cfg.Dir, name) }
	if err := errors.Join(os.Remove(in("a")), os.Truncate(in("d/b"), 0), os.Remove(in("l")), os.Mkdir(in("l"), 0o700),
		os.WriteFile(in("d/.valise-00"), []byte("part"), 0o600), os.WriteFile(in("l/x"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	got := fetched(t, cfg)
	if diff := cmp.Diff(map[string]string{"a": "A", "d/": "", "d/b": "B", "d/c": "C", "l": "→ a"}, contents(t, cfg.Dir)); diff != "" || got.Fetched != 3 {
		t.Errorf("fetched %d (-want +got):\n%s", got.Fetched, diff)
	}
	// A torn journal costs what it lost.
	journal := filepath.Join(Sidecar(cfg.Dir), "journal")
	st, err := os.Stat(journal)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(journal, st.Size()-3); err != nil {
		t.Fatal(err)
	}
	if got := fetched(t, cfg); got.Fetched != 1 {
		t.Errorf("fetched %d, want 1", got.Fetched)
	}
}

// many is a source of so many empty objects.
type many struct{ n int }

func (m many) List(ctx context.Context, after string) (page []Object, more bool, err error) {
	first := 0
	if after != "" {
		if _, err := fmt.Sscanf(after, "some/directory/%05d/of/a/home/file-%07d.txt", new(int), &first); err != nil {
			return nil, false, err
		}
		first++
	}
	for i := first; i < min(first+1000, m.n); i++ {
		page = append(page, Object{Key: fmt.Sprintf("some/directory/%05d/of/a/home/file-%07d.txt", i/100, i), ETag: fmt.Sprintf(`"%032x"`, i), Size: 1, Modified: when})
	}
	return page, first+1000 < m.n, nil
}

func (m many) Open(context.Context, string, string, int64) (io.ReadCloser, Meta, error) {
	return nil, Meta{}, errors.New("not read")
}

func TestMemoryOfALargeListing(t *testing.T) {
	const n = 500_000
	f := &fetch{cfg: Config{Source: many{n}}, side: &sidecar{path: t.TempDir()}, tally: &tally{}}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	p, err := f.list(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if p.objects != n || p.bytes != n {
		t.Errorf("got %d objects, %d bytes", p.objects, p.bytes)
	}
	if got := int64(after.HeapAlloc) - int64(before.HeapAlloc); got > 60*n {
		t.Errorf("%d objects take %d bytes", n, got)
	}
	runtime.KeepAlive(p)
}

func TestOutOfOrderListing(t *testing.T) {
	_, err := Fetch(t.Context(), configFor(t, reversed{}, staging(t)))
	if err == nil || !strings.Contains(err.Error(), "not in order") {
		t.Errorf("got %v", err)
	}
}

type reversed struct{ many }

func (reversed) List(context.Context, string) ([]Object, bool, error) {
	return []Object{{Key: "b"}, {Key: "a"}}, false, nil
}
