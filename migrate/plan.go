package migrate

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// entry is an object and where it belongs.
type entry struct {
	Key      string `json:"k"`
	ETag     string `json:"e,omitempty"`
	Size     int64  `json:"s"`
	Modified int64  `json:"m"` // Unix time in ns
	Path     string `json:"p"` // "" is the top
	Dir      bool   `json:"d,omitempty"`
	Link     bool   `json:"l,omitempty"`
}

// id stands for a path or for a version of an object: maps of half a million of them
// are small.
type id [16]byte

func sum(s string) (out id) {
	h := sha256.Sum256([]byte(s))
	copy(out[:], h[:])
	return out
}

func pathID(path string) id { return sum("path\x00" + path) }

// id tells the version of the object too. Its ETag is not enough: other metadata with
// the same content has the same.
func (e *entry) id() id {
	return sum(fmt.Sprintf("object\x00%s\x00%s\x00%d\x00%d\x00%s", e.Key, e.ETag, e.Size, e.Modified, e.Path))
}

// plan is one listing of the source. The entries are in a file.
type plan struct {
	path     string
	objects  int64
	bytes    int64
	filtered int64
	skipped  skips
	digest   [sha256.Size]byte // of all that was listed
	done     map[id]bool       // by version; false: to be fetched
	dirs     map[id]bool       // paths that must be directories
}

// list makes the plan.
func (f *fetch) list(ctx context.Context) (_ *plan, err error) {
	p := &plan{path: f.side.planPath(), done: map[id]bool{}, dirs: map[id]bool{}}
	file, err := os.OpenFile(p.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	out := bufio.NewWriterSize(file, 1<<16)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	digest := sha256.New()
	met, ours := collisions{dirs: p.dirs}, profiles{}
	after, first := "", true
	f.tally.change(func() { f.tally.now.Listed = 0 })
	for {
		page, more, err := f.cfg.Source.List(ctx, after)
		if err != nil {
			return nil, fmt.Errorf("list the objects: %w", err)
		}
		for _, o := range page {
			if !first && o.Key <= after {
				return nil, fmt.Errorf("list the objects: the store lists %q after %q, which is not in order", o.Key, after)
			}
			after, first = o.Key, false
			if ours.see(o.Key) {
				return nil, fmt.Errorf("%w (there is %s)", ErrProfile, o.Key)
			}
			fmt.Fprintf(digest, "%q %q %d %d\n", o.Key, o.ETag, o.Size, o.Modified.UnixNano())
			if e, ok := p.add(o, &met, f.cfg.Filter); ok {
				if err := encoder.Encode(e); err != nil {
					return nil, err
				}
			}
		}
		f.tally.change(func() { f.tally.now.Listed += int64(len(page)) })
		if !more {
			break
		}
		if len(page) == 0 {
			return nil, errors.New("list the objects: the store says that there are more, but lists none")
		}
	}
	digest.Sum(p.digest[:0])
	return p, out.Flush()
}

// add finds the object's place and reports whether it has one.
func (p *plan) add(o Object, met *collisions, filter func(string, bool) bool) (entry, bool) {
	e := entry{Key: o.Key, ETag: o.ETag, Size: o.Size, Modified: o.Modified.UnixNano()}
	var reason string
	e.Path, e.Dir, e.Link, reason = place(o.Key)
	if reason != "" {
		p.skipped.add(o.Key, reason)
		return e, false
	}
	if filter != nil && e.Path != "" && filter(e.Path, e.Dir) {
		p.filtered++
		return e, false
	}
	file := e.Path
	if e.Dir {
		file = ""
	}
	if met.see(o.Key, file) {
		p.skipped.add(o.Key, "another object is the file of that name")
		return e, false
	}
	p.done[e.id()] = false
	p.objects++
	p.bytes += o.Size
	return e, true
}

// entries calls each for those that are not done, in the order of keys, until it
// returns an error.
func (p *plan) entries(each func(entry) error) error {
	file, err := os.Open(p.path)
	if err != nil {
		return err
	}
	defer file.Close()
	decoder := json.NewDecoder(bufio.NewReaderSize(file, 1<<16))
	for {
		var e entry
		if err := decoder.Decode(&e); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("read %s: %w", p.path, err)
		}
		if p.done[e.id()] {
			continue
		}
		if err := each(e); err != nil {
			return err
		}
	}
}
