package migrate

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
)

// tally counts what is done.
type tally struct {
	report func(Progress)

	mu  sync.Mutex // guards now, and is held for report
	now Progress
}

func (t *tally) change(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
	if t.report != nil {
		t.report(t.now)
	}
}

// start begins a round.
func (t *tally) start(p *plan) {
	t.change(func() { t.now = Progress{Listed: t.now.Listed, OfObjects: p.objects, OfBytes: p.bytes} })
}

func (t *tally) object()       { t.change(func() { t.now.Objects++ }) }
func (t *tally) bytes(n int64) { t.change(func() { t.now.Bytes += n }) }

// notes are what files have in common that share one: the first path, and how many.
type notes map[string]*note

type note struct {
	path  string
	files int
}

func (n notes) add(path string, sentences []string) {
	for _, s := range sentences {
		if had := n[s]; had != nil {
			had.files++
		} else {
			n[s] = &note{path, 1}
		}
	}
}

func (n notes) sentences() (out []string) {
	for s, of := range n {
		files := fmt.Sprintf("%q", of.path)
		if of.files > 1 {
			files += fmt.Sprintf(" and %d more", of.files-1)
		}
		out = append(out, s+" of "+files)
	}
	slices.SortFunc(out, cmp.Compare[string])
	return out
}
