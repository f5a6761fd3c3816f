package fusefs

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"valise/tree"
)

// directRead reads 4096 bytes past the page cache, in a thread of its own whose number
// it sends first. SIGUSR1 alone interrupts it: not SIGCHLD, nor the runtime's SIGURG.
func directRead(path string, thread chan<- int) error {
	runtime.LockOSThread() // for good: the thread ends with the goroutine
	var others unix.Sigset_t
	for i := range others.Val {
		others.Val[i] = ^uint64(0)
	}
	others.Val[0] &^= 1 << (unix.SIGUSR1 - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &others, nil); err != nil {
		return err
	}
	thread <- unix.Gettid()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := make([]byte, 8192)
	at := -uintptr(unsafe.Pointer(&buf[0])) & 4095
	_, err = unix.Pread(fd, buf[at:at+4096], 0)
	return err
}

// handled makes SIGUSR1 a signal that ends no process.
func handled(t *testing.T) {
	c := make(chan os.Signal, 100)
	signal.Notify(c, syscall.SIGUSR1)
	t.Cleanup(func() { signal.Stop(c) })
}

// interrupted signals thread until a read ends, which is to be at once.
func interrupted(t *testing.T, thread int, done <-chan error) {
	t.Helper()
	start := time.Now()
	if err := unix.Tgkill(os.Getpid(), thread, unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if !errors.Is(err, unix.EINTR) {
			t.Errorf("interrupted read: got %v, want EINTR", err)
		}
		t.Log("interrupted after", time.Since(start))
	case <-time.After(10 * time.Second):
		t.Fatal("the read was not interrupted")
	}
}

func TestAnInterruptedReadEndsAloneAndAtOnce(t *testing.T) {
	handled(t)
	p := newPlan()
	blob := p.file(0, "f", mib)[0]
	release := p.content.hold(blob.Hash)
	defer release()
	dir, _, s := mountPlan(t, p, nil)

	thread, done := make(chan int, 1), make(chan error, 1)
	go func() { done <- directRead(dir+"/f", thread) }()
	p.content.untilWaiting(t, 1)
	other := make(chan []byte, 1)
	go func() {
		data, err := os.ReadFile(dir + "/f")
		if err != nil {
			t.Error(err)
		}
		other <- data
	}()
	p.content.untilWaiting(t, 2)
	interrupted(t, <-thread, done)
	p.content.untilWaiting(t, 1)
	release()
	if data := <-other; !bytes.Equal(data, p.content.blocks[blob.Hash]) {
		t.Error("the other reader got something else")
	}
	if n := s.Requests()["READ"]; n < 2 {
		t.Errorf("%d reads, want 2", n)
	}
}

func TestAHungReaderCanBeKilled(t *testing.T) {
	p := newPlan()
	release := p.content.hold(p.file(0, "f", 100)[0].Hash)
	defer release()
	lower, _, _ := mountPlan(t, p, nil)
	merged, _ := overlay(t, lower)
	for _, path := range []string{lower + "/f", merged + "/f"} {
		reader := role(t, "read", path)
		if err := reader.Start(); err != nil {
			t.Fatal(err)
		}
		p.content.untilWaiting(t, 1) // the second waits for the same page
		start := time.Now()
		if err := reader.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := reader.Wait(); err == nil {
			t.Error("it read what is not there")
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("it died after %s", d)
		}
	}
}

func TestABrokenBlockIsAnErrorToldOnce(t *testing.T) {
	p := newPlan()
	blobs := p.file(0, "f", 3*mib)
	p.content.fail(blobs[1].Hash, errors.New("gone with the wind"))
	var log syncBuffer
	dir, _, _ := mountPlan(t, p, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	f, err := os.Open(dir + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 3*mib)
	for range 3 {
		if n, err := f.ReadAt(buf, mib/2); !errors.Is(err, unix.EIO) || n > mib/2 {
			t.Errorf("%d bytes, %v, want EIO", n, err)
		}
	}
	if n := strings.Count(log.String(), "gone with the wind"); n != 1 || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("the log has it %d times: %s", n, log.String())
	}
	p.content.fail(blobs[1].Hash, nil)
	if _, err := f.ReadAt(buf, 0); err != nil || !bytes.Equal(buf[mib:2*mib], p.content.blocks[blobs[1].Hash]) {
		t.Errorf("when it is back: %v", err)
	}
}

// syncBuffer is a buffer that goroutines share.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestPatienceEnds(t *testing.T) {
	p := newPlan()
	release := p.content.hold(p.file(0, "f", 100)[0].Hash)
	defer release()
	var log syncBuffer
	dir, _, _ := mountPlan(t, p, func(c *Config) {
		c.Patience = 50 * time.Millisecond
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	if _, err := os.ReadFile(dir + "/f"); !errors.Is(err, unix.EIO) {
		t.Errorf("got %v, want EIO", err)
	}
	if !strings.Contains(log.String(), "not there after 50ms") {
		t.Error(log.String())
	}
}

func TestPatienceIsShorterThanTheKernels(t *testing.T) {
	const s = time.Second
	for _, c := range []struct{ byDefault, most, patience, want time.Duration }{
		{0, 0, 0, 0}, {0, 0, 70 * s, 70 * s}, {0, 60 * s, 0, 45 * s}, {0, 60 * s, 50 * s, 45 * s},
		{0, 60 * s, 10 * s, 10 * s}, {40 * s, 60 * s, 0, 30 * s}, {80 * s, 40 * s, 0, 30 * s}, {1 * s, 0, 0, 15 * s * 3 / 4},
	} {
		if got := bound(c.patience, limitOf(c.byDefault, c.most)); got != c.want {
			t.Errorf("%+v: got %s", c, got)
		}
	}
}

func TestHungReadsStopNothingElse(t *testing.T) {
	const hung = 500
	p := newPlan()
	var releases []func()
	for i := range hung {
		b := p.file(0, fmt.Sprint("hung", i), 100)
		releases = append(releases, p.content.hold(b[0].Hash))
	}
	d := p.dir(0, "d")
	for i := range 100 {
		p.file(d, fmt.Sprint("f", i), 5000)
	}
	lower, _, _ := mountPlan(t, p, nil)
	merged, _ := overlay(t, lower)
	for _, r := range releases {
		defer r()
	}
	var group sync.WaitGroup
	for i := range hung {
		group.Go(func() {
			if data, err := os.ReadFile(fmt.Sprint(merged, "/hung", i)); err != nil || len(data) != 100 {
				t.Errorf("hung file: %d bytes, %v", len(data), err)
			}
		})
	}
	p.content.untilWaiting(t, hung)
	start := time.Now()
	if out, _ := run(t, "sh", "-c", `find "$1" -ls | wc -l && cat "$1"/d/* | wc -c`, "sh", merged); string(out) != "602\n500000\n" {
		t.Errorf("got %q", out)
	}
	t.Logf("%d hung reads; names and reads of others took %s", hung, time.Since(start))
	for _, r := range releases {
		r()
	}
	group.Wait()
}

func TestABlocksNeighboursAreFetchedAtOnce(t *testing.T) {
	p := newPlan()
	blobs := p.file(0, "f", 2*mib)
	var releases []func()
	for _, b := range blobs {
		release := p.content.hold(b.Hash)
		defer release()
		releases = append(releases, release)
	}
	dir, tr, _ := mountPlan(t, p, nil)
	var got []byte
	var group sync.WaitGroup
	group.Go(func() {
		fd, err := unix.Open(dir+"/f", unix.O_RDONLY|unix.O_DIRECT, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(fd)
		buf := make([]byte, mib+4096)
		at := -uintptr(unsafe.Pointer(&buf[0])) & 4095
		n, err := unix.Pread(fd, buf[at:at+mib], mib/2)
		if err != nil {
			t.Error(err)
		}
		got = buf[at : int(at)+n]
	})
	p.content.untilWaiting(t, 2)
	for _, r := range releases {
		r()
	}
	group.Wait()
	n, _ := tr.LookupPath([]byte("f"))
	if !bytes.Equal(got, p.at(tr, n, mib/2, mib)) {
		t.Errorf("%d other bytes", len(got))
	}
}

func TestSeekFindsDataAndHoles(t *testing.T) {
	p := newPlan()
	p.entry(0, "f", syscall.S_IFREG|0o644, func(e *tree.Entry) {
		p.extent(e, 4096, 4096)
		p.extent(e, 8192, 100)
		p.extent(e, 10<<30, mib)
		e.Size = 20 << 30
	})
	lower, _, _ := mountPlan(t, p, nil)
	merged, upper := overlay(t, lower)
	f, err := os.Open(lower + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	type answer struct {
		At  int64
		Err error
	}
	for _, c := range []struct {
		whence int
		from   int64
		want   answer
	}{
		{unix.SEEK_DATA, 0, answer{At: 4096}}, {unix.SEEK_DATA, 5000, answer{At: 5000}},
		{unix.SEEK_DATA, 8292, answer{At: 10 << 30}}, {unix.SEEK_DATA, 10<<30 + mib, answer{-1, unix.ENXIO}},
		{unix.SEEK_HOLE, 0, answer{At: 0}}, {unix.SEEK_HOLE, 4096, answer{At: 8292}},
		{unix.SEEK_HOLE, 10 << 30, answer{At: 10<<30 + mib}}, {unix.SEEK_HOLE, 20<<30 - 1, answer{At: 20<<30 - 1}},
		{unix.SEEK_HOLE, 20 << 30, answer{-1, unix.ENXIO}}, {unix.SEEK_DATA, 21 << 30, answer{-1, unix.ENXIO}},
	} {
		at, err := unix.Seek(int(f.Fd()), c.from, c.whence)
		if diff := cmp.Diff(c.want, answer{at, err}, cmp.Comparer(func(a, b error) bool { return a == b })); diff != "" {
			t.Errorf("whence %d from %d: %s", c.whence, c.from, diff)
		}
	}
	start := time.Now()
	w, err := os.OpenFile(merged+"/f", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(upper+"/f", &st); err != nil || st.Size != 20<<30 || st.Blocks > 4096 {
		t.Errorf("copied up: size %d, %d sectors, %v", st.Size, st.Blocks, err)
	}
	t.Log("a sparse file of 20 GiB was copied up in", time.Since(start))
}

func TestTheFilesReadAreToldInOrder(t *testing.T) {
	p := newPlan()
	for _, name := range []string{"a", "b", "c"} {
		p.file(0, name, 2*mib)
	}
	dir, _, s := mountPlan(t, p, nil)
	for _, name := range []string{"c", "a", "c"} {
		if _, err := os.ReadFile(dir + "/" + name); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]uint64{103, 101}, s.Touched()); diff != "" {
		t.Error(diff)
	}
}
