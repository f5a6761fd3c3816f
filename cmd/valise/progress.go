package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/docker/go-units"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far long work is: a bar on a terminal, else a line now and then,
// and with quiet nothing.
type progress struct {
	unit string

	mu   sync.Mutex // mu guards the rest
	out  io.Writer  // nil: quiet
	bar  *progressbar.ProgressBar
	last time.Time
}

// lineInterval is the time between plain lines.
const lineInterval = 5 * time.Second

func newProgress(out io.Writer, unit string, quiet bool) *progress {
	p := &progress{unit: unit, last: time.Now()}
	if quiet {
		return p
	}
	p.out = out
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		options := []progressbar.Option{progressbar.OptionSetWriter(out), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100 * time.Millisecond)}
		if unit == "bytes" {
			options = append(options, progressbar.OptionShowBytes(true))
		}
		p.bar = progressbar.NewOptions64(-1, options...)
	}
	return p
}

// set tells how much is done; of is -1 where the whole is not known.
func (p *progress) set(done, of int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.out == nil:
	case p.bar != nil:
		p.bar.ChangeMax64(of)
		_ = p.bar.Set64(done)
	case time.Since(p.last) >= lineInterval:
		p.last = time.Now()
		if of < 0 {
			fmt.Fprintf(p.out, "%s\n", p.amount(done))
		} else {
			fmt.Fprintf(p.out, "%s of %s\n", p.amount(done), p.amount(of))
		}
	}
}

func (p *progress) amount(n int64) string {
	if p.unit == "bytes" {
		return units.BytesSize(float64(n))
	}
	return fmt.Sprintf("%d %s", n, p.unit)
}

func (p *progress) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
