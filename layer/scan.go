package layer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"valise/tree"
)

// Sink stores the content that a scan reads.
type Sink interface {
	// Block stores one block of up to store.BlockSize bytes, or finds it stored, and
	// returns where it lies. It must not keep raw. It is called from several goroutines.
	Block(ctx context.Context, raw []byte) (tree.Blob, error)
}

// ScannerConfig is what a Scanner works on.
type ScannerConfig struct {
	Upper  string           // the overlay's upper directory
	Merged string           // where the overlay is mounted, for the locks of SQLite; "": nowhere
	Base   *tree.Tree       // what the overlay's lower directory shows; it stays open
	Filter *Filter          // what is not saved
	Sink   Sink             // nil: no content is read, and the patch has the sizes of files alone
	Log    *slog.Logger     // nil: silent
	Now    func() time.Time // the clock of upper's file system; nil: time.Now
}

// Scanner makes patches of an upper directory. It has one owner.
type Scanner struct {
	ScannerConfig
	upper     *os.File
	seq       uint64 // number of the scan
	known     map[uint64]*record
	inodes    *inodes
	committed fingerprint
	buffers   chan []byte
	warned    sync.Once
}

// Skipped is a file that a scan could not save.
type Skipped struct{ Path, Reason string }

// Scan is the outcome of one scan.
type Scan struct {
	Builder *tree.Builder // a patch of the base, to be finished

	// Changed: the patch differs from the last one that was Committed or, before any
	// was, changes the base at all.
	Changed bool

	// Quiescent: the names are those of one moment, and every file's content was read
	// without a sign of a change. Otherwise another scan should follow soon.
	Quiescent bool

	Files, Bytes int64 // content that was read for this scan
	Hot          int   // files that the next scan reads again whatever their times say
	Skipped      []Skipped
	Stale        []string // files that have the content of an earlier patch

	// Moving: in every walk some directory was changed meanwhile, so that what was moved
	// in just that time may be missing.
	Moving bool

	seq  uint64
	mark fingerprint
}

// tries is how often a scan walks upper for an undisturbed walk.
const tries = 5

// granularity is more than the step in which file systems advance change times: the
// kernel's tick, 10 ms at most. A file may change within it and keep its times.
const granularity = 20 * time.Millisecond

// NewScanner opens upper.
func NewScanner(c ScannerConfig) (*Scanner, error) {
	if c.Base == nil || c.Base.Kind() != tree.Whole {
		return nil, errors.New("scan: the base is no whole tree")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	upper, err := os.Open(c.Upper)
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	s := &Scanner{ScannerConfig: c, upper: upper, known: map[uint64]*record{}, inodes: newInodes(c.Base)}
	s.buffers = make(chan []byte, buffers)
	for range buffers {
		s.buffers <- nil
	}
	return s, nil
}

// Close frees what the Scanner holds.
func (s *Scanner) Close() error { return s.upper.Close() }

// Mode says how much a scan does for content that is being written.
type Mode int

// The modes of Scan.
const (
	// Regular: of a file that changes while it is read, the patch has the content that
	// the last committed one has; large ones that always change are read less often.
	Regular Mode = iota
	// Thorough: the patch has all that was written before the scan; a file that changes
	// while it is read may have some later writes, and not others before them. Only a
	// database that stays locked has its earlier content: see Scan.Stale.
	Thorough
	// Final: the overlay is unmounted, so that nobody writes.
	Final
)

// Scan makes a patch of what stands in upper.
func (s *Scanner) Scan(ctx context.Context, mode Mode) (*Scan, error) {
	s.seq++
	out := &Scan{seq: s.seq}
	for try := 1; ; try++ {
		out.Stale = nil
		w := newWalk(s, mode, out)
		err := w.run(ctx, try == tries)
		w.close()
		if err != nil {
			return nil, fmt.Errorf("scan %s: %w", s.Upper, err)
		}
		if w.disturbed == "" || try == tries {
			out.Moving = w.disturbed != ""
			s.assemble(w)
			break
		}
		s.Log.Debug("walk upper again", "why", w.disturbed, "try", try)
		if err := pause(ctx, granularity); err != nil {
			return nil, err
		}
	}
	s.forget()
	return out, nil
}

// warnOnce logs what goes wrong in the same way for each file.
func (s *Scanner) warnOnce(what string, err error) {
	s.warned.Do(func() { s.Log.Warn(what, "err", err) })
}

// Committed says that the patch of scan is part of a snapshot now, so that later scans
// need not read again what scan read. scan must be the last one.
func (s *Scanner) Committed(scan *Scan) {
	if scan.seq != s.seq {
		return
	}
	s.committed = scan.mark
	s.keep()
}

// keep makes the content of this scan that which later scans may rely on.
func (s *Scanner) keep() {
	for _, r := range s.known {
		r.saved = nil
		if r.row == s.seq {
			r.saved = r.now
		}
	}
}

// forget drops what was not there any more.
func (s *Scanner) forget() {
	for ino, r := range s.known {
		if r.seen != s.seq {
			delete(s.known, ino)
		}
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
