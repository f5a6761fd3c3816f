package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// rounds is how often the objects may change meanwhile.
const rounds = 6

// fetch is the state of a Fetch.
type fetch struct {
	cfg   Config
	log   *slog.Logger
	side  *sidecar
	stage *stage
	tally *tally

	// Of a round:
	journal *journal
	mu      sync.Mutex // guards what follows
	skipped skips
	missing string // one that was listed and not found, or found another

	fetched, fetchedBytes atomic.Int64
}

// Fetch makes Dir hold the files that the objects are, and goes on with what an earlier
// one has left. After an error the next may go on.
func Fetch(ctx context.Context, cfg Config) (_ Result, err error) {
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return Result{}, err
	}
	if err := os.Mkdir(cfg.Dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return Result{}, err
	}
	root, err := os.OpenFile(cfg.Dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return Result{}, err
	}
	defer root.Close()
	side, err := openSidecar(cfg.Dir, root, cfg)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, side.close()) }()
	f := &fetch{
		cfg: cfg, log: cfg.Log, side: side, tally: &tally{report: cfg.Progress},
		stage: &stage{root: int(root.Fd()), uid: cfg.UID, gid: cfg.GID},
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	result, err := f.run(ctx)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = fmt.Errorf("no room left in %s: make some, and run it again: %w", cfg.Dir, err)
	}
	return result, err
}

func (f *fetch) run(ctx context.Context) (Result, error) {
	if err := retry(func() error { return unix.Fchmod(f.stage.root, 0o700) }); err != nil {
		return Result{}, fmt.Errorf("close %s to others: %w", f.cfg.Dir, err)
	}
	var last *plan
	for round := 1; ; round++ {
		p, err := f.list(ctx)
		if err != nil {
			return Result{}, err
		}
		if last != nil && p.digest == last.digest && f.missing == "" {
			return f.finish(last)
		}
		if round > rounds {
			if f.missing != "" {
				return Result{}, fmt.Errorf("%w (it is listed and cannot be read: %q)", ErrChanging, f.missing)
			}
			return Result{}, ErrChanging
		}
		f.log.Debug("listed", "round", round, "objects", p.objects, "bytes", p.bytes, "skipped", len(p.skipped.list))
		if err := f.round(ctx, p); err != nil {
			return Result{}, err
		}
		last = p
	}
}

// round makes the directory what the plan says, but for the attributes of directories.
func (f *fetch) round(ctx context.Context, p *plan) (err error) {
	f.skipped, f.missing = skips{slices.Clone(p.skipped.list), p.skipped.more}, ""
	f.tally.start(p)
	if err := f.resume(p); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.journal.close()) }()
	return f.get(ctx, p)
}

// resume marks as done what the journal and the directory agree on, and clears both of
// all else.
func (f *fetch) resume(p *plan) error {
	kept := map[id]bool{}
	journal, err := newJournal(f.side.journalPath(), f.stage.root, func(write func(record) error) error {
		return readJournal(f.side.journalPath(), func(r record) error {
			version := r.id()
			done, planned := p.done[version]
			at := pathID(r.Path)
			if done || !planned || r.Kind != directory && p.dirs[at] || !f.stage.holds(r) {
				return nil
			}
			p.done[version], kept[at] = true, true
			f.tally.bytes(r.Size)
			f.tally.object()
			return write(r)
		})
	})
	if err != nil {
		return err
	}
	if err := f.stage.sweep(kept); err != nil {
		return errors.Join(err, journal.close())
	}
	f.journal = journal
	return nil
}

// finish sets the attributes of directories, each of which changed with its entries.
func (f *fetch) finish(p *plan) (Result, error) {
	result := Result{
		Fetched: f.fetched.Load(), FetchedBytes: f.fetchedBytes.Load(), Filtered: p.filtered,
		Skipped: f.skipped.list, MoreSkipped: f.skipped.more,
	}
	slices.SortFunc(result.Skipped, func(a, b Skipped) int { return cmp.Compare(a.Key, b.Key) })
	notes := notes{}
	var top *attributes
	told := map[id]bool{}
	err := readJournal(f.side.journalPath(), func(r record) error {
		notes.add(cmp.Or(r.Path, "."), r.Notes)
		switch r.Kind {
		case regular:
			result.Files++
			result.Bytes += r.Size
		case symlink:
			result.Links++
		case fifo:
			result.Fifos++
		case directory:
			result.Dirs++
			told[pathID(r.Path)] = true
			if r.Path == "" {
				top = r.Attributes
				return nil
			}
			more, err := f.stage.setDir(r.Path, *r.Attributes)
			notes.add(cmp.Or(r.Path, "."), more)
			return err
		}
		return nil
	})
	if err != nil {
		return result, err
	}
	newest, err := f.stage.date(told)
	if err != nil {
		return result, err
	}
	if top == nil {
		top = &attributes{Mode: defaultDir, Mtime: cmp.Or(newest, time.Now().UnixNano())}
	}
	// The top last: it opens the directory to others.
	more, err := f.stage.set(f.stage.root, *top, false)
	notes.add(".", more)
	result.Notes = notes.sentences()
	if err != nil {
		return result, fmt.Errorf("%s: %w", f.cfg.Dir, err)
	}
	return result, retry(func() error { return unix.Syncfs(f.stage.root) })
}

func (f *fetch) skip(e entry, reason string) {
	f.log.Debug("skipped", "key", e.Key, "reason", reason)
	f.tally.bytes(e.Size)
	f.tally.object()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.skipped.add(e.Key, reason)
}

// lost says that the listing is not true any more.
func (f *fetch) lost(key string) {
	f.log.Debug("changed or gone", "key", key)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.missing = key
}
