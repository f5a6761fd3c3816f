package extract

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"valise/tree"
)

func TestToDirRestoresEverything(t *testing.T) {
	cfg := full(t).config()
	var last Progress
	cfg.Progress = func(p Progress) {
		if p.Bytes < last.Bytes || p.Files < last.Files {
			t.Errorf("progress goes back: %+v after %+v", p, last)
		}
		last = p
	}
	dir := filepath.Join(t.TempDir(), "new")
	res, err := ToDir(t.Context(), cfg, "", dir)
	if err != nil {
		t.Fatal(err)
	}
	check(t, cfg, "", dir, true)
	files, size := cfg.Tree.Total()
	if d := cmp.Diff(Result{Files: files, Dirs: 35, Bytes: size}, res); d != "" {
		t.Errorf("result (-want +got):\n%s", d)
	}
	if d := cmp.Diff(Progress{Files: files, Bytes: size, OfFiles: files, OfBytes: size}, last); d != "" {
		t.Errorf("last progress (-want +got):\n%s", d)
	}
}

func TestToDirRestoresAPart(t *testing.T) {
	cfg := full(t).config()
	for path, files := range map[string]int64{"docs": 9, "/docs/sub/": 3, "docs/./sparse": 1, "z": 1, "dangling": 1, "pipe": 1, "deep": 1} {
		t.Run(path, func(t *testing.T) {
			dir := t.TempDir()
			res, err := ToDir(t.Context(), cfg, path, dir)
			if err != nil {
				t.Fatal(err)
			}
			check(t, cfg, path, dir, true)
			if res.Files != files {
				t.Errorf("got %d files, want %d", res.Files, files)
			}
		})
	}
	dir := filepath.Join(t.TempDir(), "new")
	if _, err := ToDir(t.Context(), cfg, "docs/missing", dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing path: got %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing path made the directory: %v", err)
	}
}

func TestToDirWantsAnEmptyDirectory(t *testing.T) {
	h := newHome(t)
	h.text(0, "a", "new")
	cfg, dir := h.config(), t.TempDir()
	mustWrite(t, filepath.Join(dir, "other"), "old")
	if _, err := ToDir(t.Context(), cfg, "", dir); !errors.Is(err, ErrNotEmpty) || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want ErrNotEmpty", err)
	}
	wantNames(t, dir, "other")
	if _, err := ToDir(t.Context(), cfg, "", filepath.Join(dir, "other")); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a file: got %v", err)
	}
	if _, err := ToDir(t.Context(), cfg, "", filepath.Join(dir, "no/parent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no parent: got %v", err)
	}
}

func TestToDirRefusesAPatch(t *testing.T) {
	patch, err := tree.NewBuilder(tree.Patch, tree.Entry{Attr: tree.Attr{Mode: unix.S_IFDIR}}).Finish(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ToDir(t.Context(), Config{Tree: patch}, "", t.TempDir()); err == nil || !strings.Contains(err.Error(), "patch") {
		t.Errorf("got %v", err)
	}
}

func TestToDirIgnoresInheritedAccess(t *testing.T) {
	cfg, dir := full(t).config(), t.TempDir()
	if err := unix.Setxattr(dir, "system.posix_acl_default", []byte(acl(7, 7, 7, 7, 7)), 0); err != nil {
		t.Skipf("no ACLs here: %v", err)
	}
	if _, err := ToDir(t.Context(), cfg, "", dir); err != nil {
		t.Fatal(err)
	}
	check(t, cfg, "", dir, true)
}

// TestToDirFails is about errors in the middle of a file: of the Source, of the disk,
// and a cancelled context.
func TestToDirFails(t *testing.T) {
	broken := errors.New("broken")
	for name, want := range map[string]error{"source": broken, "cancel": context.Canceled, "full": unix.ENOSPC} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			d := h.dir(0, "d", 0o755)
			for i := range 40 {
				h.file(d, fmt.Sprintf("f%02d", i), 0o644, 0, map[int64][]byte{0: noise(uint64(i), 2<<20)})
			}
			cfg, dir := h.config(), t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			switch name {
			case "full":
				mount(t, dir, "tmpfs", "size=9m")
			default:
				h.source.before = func(ctx context.Context, _ tree.Blob) error {
					if h.source.calls.Load() < 41 {
						return nil
					}
					if name == "source" {
						return broken
					}
					cancel()
					<-ctx.Done()
					return ctx.Err()
				}
			}
			_, err := ToDir(ctx, cfg, "", dir)
			if !errors.Is(err, want) {
				t.Fatalf("got %v, want %v", err, want)
			}
			if name == "full" && !strings.Contains(err.Error(), "no room left in "+dir) {
				t.Errorf("got %v", err)
			}
			if n := h.source.inUse.Load(); n != 0 {
				t.Errorf("%d reads are still under way", n)
			}
			wantComplete(t, filepath.Join(dir, "d"), 2<<20)
		})
	}
}

// wantComplete fails if a file in dir is temporary or shorter than size.
func wantComplete(t *testing.T, dir string, size int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) == 0 || len(entries) == 40 {
		t.Errorf("%d files are there: the test shows nothing", len(entries))
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Size() != size || strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%s: %d bytes, %v", e.Name(), info.Size(), err)
		}
	}
}

func TestToDirReadsInTheOrderOfThePacks(t *testing.T) {
	h := newHome(t)
	var want []uint32
	for i := range 100 { // the later a name, the earlier its content
		want = append(want, h.end)
		h.text(0, fmt.Sprintf("f%03d", 999-i), fmt.Sprint("content ", i))
	}
	cfg := h.config()
	p, err := newPlan(cfg.Tree, "")
	if err != nil {
		t.Fatal(err)
	}
	var got []uint32
	for _, n := range (&restorer{Config: &cfg, plan: p}).byLocation() {
		e, _ := cfg.Tree.ExtentAt(n, 0)
		got = append(got, e.Blob.Offset)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %d, want %d", got, want)
	}
}

func TestReadsAreBounded(t *testing.T) {
	h := newHome(t)
	for i := range 20 {
		h.file(0, fmt.Sprint(i), 0o644, 0, map[int64][]byte{0: noise(uint64(i), 8<<20)})
	}
	cfg := h.config()
	var most atomic.Int64
	h.source.before = func(context.Context, tree.Blob) error {
		for n := h.source.inUse.Load(); ; {
			if old := most.Load(); n <= old || most.CompareAndSwap(old, n) {
				return nil
			}
		}
	}
	if _, err := ToDir(t.Context(), cfg, "", t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if n := most.Load(); n > workers*fileBlocks {
		t.Errorf("%d reads at once, want at most %d", n, workers*fileBlocks)
	}
}

func TestToDirTenThousandFiles(t *testing.T) {
	h := newHome(t)
	for i := range 100 {
		d := h.dir(0, fmt.Sprintf("d%02d", i), 0o755)
		for j := range 100 {
			h.text(d, fmt.Sprintf("f%02d", j), fmt.Sprint(i, j))
		}
	}
	cfg, dir := h.config(), t.TempDir()
	if os.Getuid() == 0 { // it is not about the disk
		mount(t, dir, "tmpfs", "")
	}
	res, err := ToDir(t.Context(), cfg, "", dir)
	if err != nil || res.Files != 10000 || res.Dirs != 100 {
		t.Fatalf("got %+v, %v", res, err)
	}
	check(t, cfg, "", dir, false)
}
