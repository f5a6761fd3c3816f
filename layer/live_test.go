package layer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"valise/tree"
)

// leaseOn asks for a lease on a file of upper.
func (s *stack) leaseOn(name string) bool {
	s.t.Helper()
	f, err := os.Open(s.upper(name))
	must(s.t, err)
	defer f.Close()
	l, err := takeLease(int(f.Fd()))
	must(s.t, err)
	defer l.release()
	return l.held()
}

// What the reading of files relies on: who writes by way of the overlay is a writer of
// the file in upper, for as long as the descriptor or the mapping lives.
func TestWritersOfTheOverlayRefuseLeases(t *testing.T) {
	s := newStack(t, func(lower string) { write(t, lower+"/f", strings.Repeat("x", 10000)) })
	f, err := os.OpenFile(s.path("f"), os.O_RDWR, 0)
	must(t, err)
	if s.leaseOn("f") {
		t.Error("open for writing: the lease was granted")
	}
	shared, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, errors.Join(err, f.Close()))
	if s.leaseOn("f") {
		t.Error("mapped for writing: the lease was granted")
	}
	must(t, unix.Mprotect(shared, unix.PROT_READ))
	if s.leaseOn("f") {
		t.Error("mapped, could be made writable: the lease was granted")
	}
	must(t, unix.Munmap(shared))
	if !s.leaseOn("f") {
		t.Error("no writer: the lease was refused")
	}
	r, err := os.Open(s.path("f"))
	must(t, err)
	defer r.Close()
	if !s.leaseOn("f") {
		t.Error("only a reader: the lease was refused")
	}
}

// The second store through a mapping changes no times, so the file must be read again
// as long as the mapping lives, and once after.
func TestMappedStoresAreNotMissed(t *testing.T) {
	s := newStack(t, nil)
	write(t, s.path("f"), strings.Repeat("x", 4096))
	f, err := os.OpenFile(s.path("f"), os.O_RDWR, 0)
	must(t, err)
	m, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, errors.Join(err, f.Close()))
	for i := range 5 {
		m[i] = 'a'
		s.settle("f")
		scan := s.same()
		if scan.Hot != 1 {
			t.Errorf("got %d hot files", scan.Hot)
		}
		s.scan.Committed(scan)
	}
	m[9] = 'b'
	must(t, unix.Munmap(m))
	s.scan.Committed(s.same())
	s.settle("f")
	s.scan.Committed(s.same())
	if scan := s.same(); scan.Files != 0 || scan.Changed || scan.Hot != 0 {
		t.Errorf("without a writer: got %+v", scan)
	}
}

// A write within one tick of the file system's clock leaves the same change time.
func TestWritesWithinATickAreNotMissed(t *testing.T) {
	s := newStack(t, nil)
	for i := range 200 {
		f, err := os.OpenFile(s.path("f"), os.O_WRONLY|os.O_CREATE, 0o600)
		must(t, err)
		_, err = f.WriteAt([]byte(fmt.Sprintf("%08d", i)), 0)
		must(t, errors.Join(err, f.Close()))
		scan, whole := s.take(Regular)
		n, _ := whole.LookupPath([]byte("f"))
		if got := string(content(t, s.sink, whole, n)); got != fmt.Sprintf("%08d", i) {
			t.Fatalf("write %d: the scan has %s", i, got)
		}
		s.scan.Committed(scan)
	}
}

// A process that opens a file which is being read does not wait for the sink.
func TestOpenersDoNotWaitForTheSink(t *testing.T) {
	s := newStack(t, nil)
	must(t, os.WriteFile(s.path("f"), make([]byte, 32<<20), 0o600))
	s.settle("f")
	reading, goOn := make(chan bool), make(chan bool)
	var once sync.Once
	s.sink.before = func(context.Context, []byte) error {
		once.Do(func() { close(reading) })
		<-goOn // the network is slow
		return nil
	}
	done := make(chan *Scan)
	go func() {
		scan, err := s.scan.Scan(context.WithoutCancel(t.Context()), Regular)
		if err != nil {
			t.Error(err)
		}
		done <- scan
	}()
	<-reading
	start := time.Now()
	f, err := os.OpenFile(s.path("f"), os.O_WRONLY, 0)
	must(t, err)
	waited := time.Since(start)
	_, err = f.WriteAt([]byte("x"), 31<<20)
	must(t, err)
	close(goOn)
	if scan := <-done; scan.Hot != 1 {
		t.Errorf("the file has a writer: got %+v", scan)
	}
	must(t, f.Close())
	if waited > time.Second {
		t.Errorf("the writer waited %s", waited)
	}
	s.sink.before = nil
	s.same()
}

// A file that changes all the time keeps the content of the last committed scan, with
// its size and times, else it has what was read.
func TestFilesThatChangeWhileTheyAreRead(t *testing.T) {
	s := newStack(t, nil)
	const size = 2 * buffers << 20 // so that the sink has blocks while others are read
	write(t, s.path("old"), "committed")
	write(t, s.path("deleted"), "another file's")
	s.scan.Committed(s.same())
	must(t, os.Remove(s.path("deleted"))) // so that new has its inode, as a rule
	var files []*os.File
	for _, name := range []string{"new", "old"} {
		f, err := os.OpenFile(s.path(name), os.O_WRONLY|os.O_CREATE, 0o644)
		must(t, err)
		defer f.Close()
		must(t, f.Truncate(size))
		for at := int64(0); at < size; at += 1 << 20 {
			_, err := f.WriteAt([]byte(name+" has data"), at)
			must(t, err)
		}
		files = append(files, f)
	}
	must(t, os.Chmod(s.path("old"), 0o600))
	s.sink.before = func(context.Context, []byte) error {
		for _, f := range files {
			if _, err := f.WriteAt([]byte("x"), size); err != nil {
				return err
			}
		}
		return nil
	}
	for range 3 {
		scan, whole := s.take(Regular)
		if scan.Quiescent {
			t.Fatal("the scan is quiescent")
		}
		old, _ := whole.LookupPath([]byte("old"))
		if got := string(content(t, s.sink, whole, old)); got != "committed" || whole.Attr(old).Mode != unix.S_IFREG|0o600 {
			t.Errorf("old has %d bytes %.20q, mode %o", len(got), got, whole.Attr(old).Mode)
		}
		fresh, ok := whole.LookupPath([]byte("new"))
		if got := string(content(t, s.sink, whole, fresh)); !ok || !strings.HasPrefix(got, "new has data") {
			t.Errorf("new: found %v, %d bytes", ok, len(got))
		}
	}
	s.sink.before = nil
	scan := s.same()
	if scan.Hot != 2 {
		t.Errorf("both still have writers: got %d hot", scan.Hot)
	}
}

func TestLargeBusyFilesAreReadLessOften(t *testing.T) {
	s := newStack(t, nil)
	f, err := os.Create(s.path("disk"))
	must(t, err)
	must(t, f.Truncate(large+1)) // a hole costs the test nothing
	var read []int
	for i := range 40 {
		_, err := f.WriteAt([]byte{byte(i)}, 0)
		must(t, err)
		scan, whole := s.take(Regular)
		if scan.Files > 0 {
			read = append(read, i)
		} else if scan.Quiescent {
			t.Errorf("scan %d: the file has an earlier content, but the scan is quiescent", i)
		}
		n, _ := whole.LookupPath([]byte("disk"))
		if got := content(t, s.sink, whole, n)[0]; int(got) != read[len(read)-1] {
			t.Errorf("scan %d: got the content of %d, want %v", i, got, read)
		}
		s.scan.Committed(scan)
	}
	if want := "[0 2 6 14 30]"; fmt.Sprint(read) != want {
		t.Errorf("read by the scans %v, want %s", read, want)
	}
	if scan, _ := s.take(Final); scan.Files != 1 {
		t.Error("the final scan did not read it")
	}
	must(t, f.Close())
	if scan, _ := s.take(Regular); scan.Files != 1 || !scan.Quiescent {
		t.Errorf("without a writer: got %+v", scan)
	}
}

// While directories move, a quiescent scan has all of them, none has one twice, and the
// first scan after has all.
func TestDirectoriesThatMove(t *testing.T) {
	s := newStack(t, nil)
	const places, movers = 30, 20
	for i := range places {
		must(t, os.Mkdir(s.path(fmt.Sprint("p", i)), 0o755))
		for j := range 20 {
			write(t, s.path(fmt.Sprintf("p%d/f%d", i, j)), "x")
		}
	}
	for i := range movers {
		must(t, os.MkdirAll(s.path(fmt.Sprintf("p0/m%d/sub", i)), 0o755))
		write(t, s.path(fmt.Sprintf("p0/m%d/sub/f", i)), fmt.Sprint(i))
	}
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan error)
	var rest atomic.Bool
	go func() { stopped <- s.moveAround(ctx, places, movers, &rest) }()
	quiet, lost := 0, 0
	for i := range 30 {
		rest.Store(i%2 == 0)           // now and then; else never
		scan, whole := s.take(Regular) // which fails on a directory that is there twice
		found := countMovers(whole)
		if scan.Quiescent {
			quiet++
			if found != movers {
				t.Errorf("a quiescent scan has %d of %d", found, movers)
			}
		} else if found != movers {
			lost++
		}
	}
	stop()
	must(t, <-stopped)
	s.same()
	if found := countMovers(mustApply(s)); found != movers {
		t.Errorf("at rest: %d of %d", found, movers)
	}
	t.Logf("%d of 30 scans were quiescent, %d lacked a directory", quiet, lost)
}

func mustApply(s *stack) *tree.Tree { _, whole := s.take(Regular); return whole }

func (s *stack) moveAround(ctx context.Context, places, movers int, rest *atomic.Bool) error {
	at := make([]int, movers)
	rnd := rand.New(rand.NewPCG(1, 2))
	for ctx.Err() == nil {
		i := rnd.IntN(movers)
		to := rnd.IntN(places)
		name := func(p int) string { return s.path(fmt.Sprintf("p%d/m%d", p, i)) }
		if to == at[i] {
			continue
		}
		if err := os.Rename(name(at[i]), name(to)); err != nil {
			return err
		}
		at[i] = to
		if rest.Load() && rnd.IntN(4) == 0 {
			_ = pause(ctx, time.Duration(rnd.IntN(60))*time.Millisecond)
		}
	}
	return nil
}

func countMovers(whole *tree.Tree) (found int) {
	for i := range whole.Len() {
		if strings.HasSuffix(string(whole.Path(tree.Node(i))), "/sub/f") {
			found++
		}
	}
	return found
}

// Files and directories come and go; no scan fails.
func TestChurn(t *testing.T) {
	s := newStack(t, func(lower string) {
		for i := range 5 {
			must(t, os.MkdirAll(fmt.Sprintf("%s/%d/low", lower, i), 0o755))
			write(t, fmt.Sprintf("%s/%d/f", lower, i), "x")
		}
	})
	m := &model{stack: s, rnd: rand.New(rand.NewPCG(3, 4)), root: s.Target}
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan bool)
	go func() {
		for ctx.Err() == nil {
			m.step()
		}
		close(stopped)
	}()
	for range 10 {
		scan, _ := s.take(Regular)
		s.scan.Committed(scan)
	}
	stop()
	<-stopped
	s.same()
}
