package fusefs

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"valise/tree"
)

const mib = 1 << 20

// roleEnv makes the test binary another program; see TestMain.
const roleEnv = "VALISE_FUSEFS_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "":
		os.Exit(m.Run())
	case "serve":
		exit(serveRole())
	case "read":
		exit(readRole())
	}
	os.Exit(2)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// role returns a command that runs the test binary as another program.
func role(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

// readRole reads a file to its end and says so.
func readRole() error {
	f, err := os.Open(os.Args[1])
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, f)
	fmt.Println(n)
	return err
}

// memory is a Content whose blocks can be held back or broken.
type memory struct {
	mu        sync.Mutex
	blocks    map[tree.Hash][]byte
	fetched   map[tree.Hash]int
	held      map[tree.Hash]chan struct{}
	broken    map[tree.Hash]error
	waiting   int
	changed   chan struct{} // closed and replaced at each change
	packs     []tree.PackID
	packError error
	delay     time.Duration
}

func newMemory() *memory {
	return &memory{
		blocks: map[tree.Hash][]byte{}, fetched: map[tree.Hash]int{}, changed: make(chan struct{}),
		held: map[tree.Hash]chan struct{}{}, broken: map[tree.Hash]error{},
	}
}

// add stores a block and returns how a tree names it. Its pack is one of 256.
func (m *memory) add(data []byte) tree.Blob {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := tree.Hash(blake3.Sum256(data))
	m.blocks[h] = data
	return tree.Blob{Hash: h, Pack: tree.PackID{h[0]}, Stored: uint32(len(data)), Raw: uint32(len(data))}
}

func (m *memory) touch() {
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *memory) Block(ctx context.Context, b tree.Blob, _ uint32) ([]byte, error) {
	m.mu.Lock()
	m.fetched[b.Hash]++
	held := m.held[b.Hash]
	if held != nil {
		m.waiting++
	}
	m.touch()
	delay := m.delay
	m.mu.Unlock()
	if delay > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
	if held != nil {
		defer func() {
			m.mu.Lock()
			m.waiting--
			m.touch()
			m.mu.Unlock()
		}()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-held:
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.broken[b.Hash]; err != nil {
		return nil, err
	}
	data, ok := m.blocks[b.Hash]
	if !ok {
		return nil, fmt.Errorf("no block %s", b.Hash)
	}
	return data, nil
}

func (m *memory) Prefetch(ctx context.Context, id tree.PackID, _ uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.packs = append(m.packs, id)
	if m.packError != nil {
		return m.packError
	}
	return ctx.Err()
}

// hold keeps a block back until the function it returns is called.
func (m *memory) hold(h tree.Hash) (release func()) {
	c := make(chan struct{})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held[h] = c
	return sync.OnceFunc(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.held, h)
		close(c)
	})
}

func (m *memory) fail(h tree.Hash, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken[h] = err
}

// until waits for a state of m.
func (m *memory) until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		m.mu.Lock()
		ok, changed := cond(), m.changed
		m.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("%s: it did not come to be", what)
		}
	}
}

func (m *memory) untilWaiting(t *testing.T, n int) {
	t.Helper()
	m.until(t, fmt.Sprintf("%d waiting readers", n), func() bool { return m.waiting == n })
}

// pattern is content that differs from block to block.
func pattern(seed uint64, size int) []byte {
	p := make([]byte, 0, size+8)
	for i := 0; len(p) < size; i += 8 {
		p = binary.LittleEndian.AppendUint64(p, (seed+1)*0x9e3779b97f4a7c15+uint64(i))
	}
	return p[:size:size]
}

// plan builds a tree whose content lies in a memory.
type plan struct {
	*tree.Builder
	content *memory
	ino     uint64
	seed    uint64
}

func newPlan() *plan {
	root := tree.Entry{Attr: tree.Attr{Mode: syscall.S_IFDIR | 0o755, UID: 1000, GID: 1000, Ino: 100, Size: 4096, Mtime: 1e18 + 1, Ctime: 1e18 + 2}}
	return &plan{Builder: tree.NewBuilder(tree.Whole, root), content: newMemory(), ino: 100}
}

// entry adds what mode says.
func (p *plan) entry(dir tree.Ref, name string, mode uint32, change func(*tree.Entry)) tree.Ref {
	p.ino++
	e := tree.Entry{Name: []byte(name), Attr: tree.Attr{
		Mode: mode, UID: 1000, GID: 1000, Ino: p.ino, Mtime: 1.5e18 + int64(p.ino), Ctime: 1.6e18 + int64(p.ino),
	}}
	if mode&syscall.S_IFMT == syscall.S_IFDIR {
		e.Size = 4096
	}
	if change != nil {
		change(&e)
	}
	return p.Add(dir, e)
}

func (p *plan) dir(in tree.Ref, name string) tree.Ref {
	return p.entry(in, name, syscall.S_IFDIR|0o755, nil)
}

// file adds a file of size bytes that are different from all others; it returns its blocks.
func (p *plan) file(in tree.Ref, name string, size int) []tree.Blob {
	var blobs []tree.Blob
	p.entry(in, name, syscall.S_IFREG|0o644, func(e *tree.Entry) {
		for at := 0; at < size; at += mib {
			p.extent(e, int64(at), min(mib, size-at))
			blobs = append(blobs, e.Extents[len(e.Extents)-1].Blob)
		}
		e.Size = int64(size)
	})
	return blobs
}

// extent adds data to a file.
func (p *plan) extent(e *tree.Entry, offset int64, size int) {
	p.seed++
	e.Extents = append(e.Extents, tree.Extent{Offset: offset, Blob: p.content.add(pattern(p.seed, size))})
	e.Size = max(e.Size, offset+int64(size))
}

func (p *plan) finish(t *testing.T) *tree.Tree {
	t.Helper()
	out, err := p.Finish(func(tree.PackID) uint32 { return 1 << 26 })
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// mountPlan mounts the tree of p, to be unmounted at the test's end.
func mountPlan(t *testing.T, p *plan, change func(*Config)) (dir string, tr *tree.Tree, s *Server) {
	t.Helper()
	tr = p.finish(t)
	dir = t.TempDir()
	cfg := Config{Tree: tr, Content: p.content, Generation: 7, Log: slog.New(slog.NewTextHandler(testLog{t}, nil))}
	if change != nil {
		change(&cfg)
	}
	s, err := Mount(cfg, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unmountServer(t, s) })
	return dir, tr, s
}

func unmountServer(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Unmount(); err != nil {
		t.Error(err, s.Detach())
	}
	waitServer(t, s)
}

func waitServer(t *testing.T, s *Server) {
	t.Helper()
	select {
	case <-s.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the connection did not end")
	}
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
}

// testLog writes a log to a test's.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// overlay mounts an overlayfs on lower and returns its directory and the upper one.
func overlay(t *testing.T, lower string) (merged, upper string) {
	t.Helper()
	merged, upper = t.TempDir(), t.TempDir()
	for _, d := range []string{"/up", "/work"} {
		if err := os.Mkdir(upper+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	upper, work := upper+"/up", upper+"/work"
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,redirect_dir=on,index=off,metacopy=on,xino=auto", lower, upper, work)
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		t.Fatalf("overlay: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(merged, 0); err != nil && err != unix.EINVAL { // EINVAL: the test has done it
			t.Error("unmount overlay:", err, unix.Unmount(merged, unix.MNT_DETACH))
		}
	})
	return merged, upper
}
