package extract

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
)

// tally counts what is done and collects the notes.
type tally struct {
	report func(Progress)
	log    *slog.Logger

	mu    sync.Mutex // guards the rest, and is held for report
	done  Progress
	dirs  int64
	notes map[noteKey]*note
}

// noteKey is what files have in common that share a note.
type noteKey struct{ action, reason string }

type note struct {
	path  string // of the first
	files int
}

func newTally(cfg *Config, p *plan) *tally {
	t := &tally{report: cfg.Progress, log: cfg.Log, notes: map[noteKey]*note{}}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.expect(p.files, p.bytes)
	return t
}

// expect adds to what there is to do.
func (t *tally) expect(files, bytes int64) {
	t.change(func() { t.done.OfFiles += files; t.done.OfBytes += bytes })
}

func (t *tally) file()         { t.change(func() { t.done.Files++ }) }
func (t *tally) bytes(n int64) { t.change(func() { t.done.Bytes += n }) }
func (t *tally) dir()          { t.change(func() { t.dirs++ }) }

func (t *tally) change(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
	if t.report != nil {
		t.report(t.done)
	}
}

// note records that action, such as "set the owner", did not succeed for path.
func (t *tally) note(action, path string, reason error) {
	t.log.Debug("not restored", "action", action, "path", path, "err", reason)
	t.mu.Lock()
	defer t.mu.Unlock()
	key := noteKey{action, reason.Error()}
	if n := t.notes[key]; n != nil {
		n.files++
		return
	}
	t.notes[key] = &note{path: path, files: 1}
}

func (t *tally) result() Result {
	t.mu.Lock()
	defer t.mu.Unlock()
	res := Result{Files: t.done.Files, Dirs: t.dirs, Bytes: t.done.Bytes}
	for key, n := range t.notes {
		files := fmt.Sprintf("%q", n.path)
		if n.files > 1 {
			files += fmt.Sprintf(" and %d more", n.files-1)
		}
		res.Notes = append(res.Notes, fmt.Sprintf("%s of %s: %s", key.action, files, key.reason))
	}
	slices.Sort(res.Notes)
	return res
}
