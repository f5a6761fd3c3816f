package extract

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"valise/tree"
)

// TestToTarWithTar has the system's tar list and extract what was written.
func TestToTarWithTar(t *testing.T) {
	cfg := everyKind(t).config()
	for _, path := range []string{"", "docs", "docs/large", "z"} {
		t.Run(path, func(t *testing.T) {
			archive, dir := filepath.Join(t.TempDir(), "home.tar"), t.TempDir()
			f, err := os.Create(archive)
			if err != nil {
				t.Fatal(err)
			}
			res, err := ToTar(t.Context(), cfg, path, f)
			if err := errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
			p, err := newPlan(cfg.Tree, path)
			if err != nil {
				t.Fatal(err)
			}
			if res.Files != p.files || res.Bytes != p.bytes || res.Notes != nil {
				t.Errorf("got %+v, want %d files, %d bytes", res, p.files, p.bytes)
			}
			listed, err := exec.Command("tar", "--quoting-style=escape", "-tf", archive).Output()
			if err != nil {
				t.Fatalf("list: %v", err)
			}
			if n := bytes.Count(listed, []byte("\n")); n < len(p.nodes) || n > len(p.nodes)+1 {
				t.Errorf("%d names are listed, want those of %d files", n, len(p.nodes))
			}
			out, err := exec.Command("tar", "-C", dir, "--xattrs", "--xattrs-include=*", "--numeric-owner", "--warning=no-timestamp", "-xpf", archive).CombinedOutput()
			if err != nil || len(out) > 0 {
				t.Fatalf("extract: %v\n%s", err, out)
			}
			check(t, cfg, path, dir, false)
		})
	}
}

func TestToTarHeaders(t *testing.T) {
	h := newHome(t)
	long := strings.Repeat("d", 200)
	d := h.dir(h.dir(0, long, 0o755), long, 0o755)
	h.file(d, "\xff", 0o4755, 0, map[int64][]byte{100: []byte("after a hole")}, tree.Xattr{Name: "user.a", Value: []byte("\x00\n=")})
	h.file(0, "odd", 0o600, 0, nil, tree.Xattr{Name: "user.a=b", Value: []byte("1")})
	s := h.symlink(0, "s", "to\xfe")
	h.link(0, "t", s)
	h.fifo(0, "z")
	cfg := h.config()
	var archive bytes.Buffer
	res, err := ToTar(t.Context(), cfg, "", &archive)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{`archive the attribute user.a=b of "odd": the format has no such names`}, res.Notes); d != "" {
		t.Errorf("notes (-want +got):\n%s", d)
	}
	type entry struct {
		Name, Link    string
		Type          byte
		Mode, Size    int64
		Xattr, Detail string
	}
	var got []entry
	p, _ := newPlan(cfg.Tree, "")
	nodes := append([]tree.Node{tree.Root}, p.nodes...)
	for r := tar.NewReader(&archive); ; {
		hd, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		a := cfg.Tree.Attr(nodes[len(got)])
		if hd.ModTime.UnixNano() != a.Mtime || hd.Uid != int(a.UID) || hd.Gid != int(a.GID) {
			t.Errorf("%q: got %s, %d:%d, want %+v", hd.Name, hd.ModTime, hd.Uid, hd.Gid, a)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, entry{hd.Name, hd.Linkname, hd.Typeflag, hd.Mode, hd.Size, hd.PAXRecords["SCHILY.xattr.user.a"], string(content)})
	}
	want := []entry{
		{Name: "./", Type: tar.TypeDir, Mode: 0o750},
		{Name: long + "/", Type: tar.TypeDir, Mode: 0o755},
		{Name: long + "/" + long + "/", Type: tar.TypeDir, Mode: 0o755},
		{Name: long + "/" + long + "/\xff", Type: tar.TypeReg, Mode: 0o4755, Size: 112, Xattr: "\x00\n=", Detail: strings.Repeat("\x00", 100) + "after a hole"},
		{Name: "odd", Type: tar.TypeReg, Mode: 0o600},
		{Name: "s", Type: tar.TypeSymlink, Link: "to\xfe", Mode: 0o777},
		{Name: "t", Type: tar.TypeLink, Link: "s", Mode: 0o777},
		{Name: "z", Type: tar.TypeFifo, Mode: 0o622},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("entries (-want +got):\n%s", d)
	}
}

// TestToTarIsDeterministic also bounds the reads.
func TestToTarIsDeterministic(t *testing.T) {
	h := full(t)
	cfg := h.config()
	var first, second bytes.Buffer
	for _, w := range []io.Writer{&first, &second} {
		h.source.before = func(context.Context, tree.Blob) error {
			if n := h.source.inUse.Load(); n > streamBlocks {
				t.Errorf("%d reads at once, want at most %d", n, streamBlocks)
			}
			return nil
		}
		if _, err := ToTar(t.Context(), cfg, "", w); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two archives of one tree differ")
	}
}

// TestToTarOfALargeFile writes more than the eight gigabytes of the old format.
func TestToTarOfALargeFile(t *testing.T) {
	h := newHome(t)
	const size = 8<<30 + 5
	h.file(0, "large", 0o600, 0, map[int64][]byte{size - 3: []byte("end")})
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	cfg := h.config()
	go func() {
		_, err := ToTar(ctx, cfg, "large", w)
		done <- errors.Join(err, w.CloseWithError(err))
	}()
	hd, err := tar.NewReader(r).Next()
	if err != nil || hd.Size != size {
		t.Fatalf("got %+v, %v", hd, err)
	}
	cancel() // in the middle of a hole
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
		t.Errorf("read: got %v", err)
	}
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("write: got %v", err)
	}
}

func TestToTarFails(t *testing.T) {
	h := newHome(t)
	for i := range 40 {
		h.file(0, fmt.Sprintf("f%02d", i), 0o644, 0, map[int64][]byte{0: noise(uint64(i), 1<<20)})
	}
	cfg := h.config()
	broken := errors.New("broken")
	h.source.before = func(_ context.Context, b tree.Blob) error {
		if b.Offset == 7<<20 {
			return broken
		}
		return nil
	}
	if _, err := ToTar(t.Context(), cfg, "", io.Discard); !errors.Is(err, broken) || !strings.Contains(err.Error(), `archive "f07"`) {
		t.Errorf("source: got %v", err)
	}
	if n := h.source.inUse.Load(); n != 0 {
		t.Errorf("%d reads are still under way", n)
	}
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := ToTar(t.Context(), cfg, "", f); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("writer: got %v", err)
	}
}
