package layer

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// manyFiles makes a home with files of size bytes, 100 to a directory, in upper.
func manyFiles(b *testing.B, files, size int) *stack {
	b.Helper()
	s := newStack(b, nil)
	rnd := rand.NewChaCha8([32]byte{1})
	data := make([]byte, size)
	for i := range files {
		dir := s.path(fmt.Sprint("d", i/100))
		if i%100 == 0 {
			must(b, os.Mkdir(dir, 0o755))
		}
		_, _ = rnd.Read(data)
		must(b, os.WriteFile(fmt.Sprintf("%s/file%d", dir, i), data, 0o644))
	}
	unix.Sync()
	must(b, pause(b.Context(), 2*granularity))
	return s
}

// A scan of 20,000 files of which none changed.
func BenchmarkUnchanged(b *testing.B) {
	s := manyFiles(b, 20000, 10)
	scan, err := s.scan.Scan(b.Context(), Regular)
	must(b, err)
	s.scan.Committed(scan)
	for b.Loop() {
		scan, err := s.scan.Scan(b.Context(), Regular)
		must(b, err)
		if scan.Changed || scan.Files > 0 {
			b.Fatalf("got %+v", scan)
		}
	}
}

// The first scan of 20,000 files, 66 MB, by a sink that only hashes and keeps.
func BenchmarkFirst(b *testing.B) {
	s := manyFiles(b, 20000, 3300)
	b.SetBytes(20000 * 3300)
	for b.Loop() {
		s.rescan(nil)
		_, err := s.scan.Scan(b.Context(), Regular)
		must(b, err)
	}
}

// The first scan of one file of 256 MB.
func BenchmarkLarge(b *testing.B) {
	s := manyFiles(b, 1, 256<<20)
	b.SetBytes(256 << 20)
	for b.Loop() {
		s.rescan(nil)
		_, err := s.scan.Scan(b.Context(), Regular)
		must(b, err)
	}
}
