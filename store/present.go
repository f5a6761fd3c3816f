package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"valise/tree"
)

// believed is how long after its upload an object is taken to be there without asking:
// what no snapshot names is pruned after some time. See Retention.Grace.
const believed = 10 * time.Minute

// ErrMarked says that a snapshot would use objects which a prune is about to delete or
// has deleted: they must be stored anew.
var ErrMarked = errors.New("a prune takes objects that the snapshot uses")

// present is what a Repo knows of the objects that its next snapshot may name.
type present struct {
	mu    sync.Mutex            // mu guards the rest
	fresh map[Key]time.Duration // uploaded since the last commit, when
	head  map[Key]bool          // named by the snapshot that was committed last

	index string // the newest part of the last saved index, and what it names
	names map[Key]bool
}

// names returns the keys of all objects that a snapshot of the index needs.
func names(index []Index, whole *tree.Tree) map[Key]bool {
	out := make(map[Key]bool, whole.Packs()+len(index))
	addNames(out, index, whole)
	return out
}

func addNames(to map[Key]bool, index []Index, t *tree.Tree) {
	for _, x := range index {
		for i := range x.Parts {
			to[x.key(i)] = true
		}
	}
	for i := range t.Packs() {
		id, _ := t.Pack(i)
		to[PackKey(id)] = true
	}
}

// put uploads an object of a snapshot to come.
func (r *Repo) put(ctx context.Context, key Key, body []byte) error {
	started := r.now()
	if err := r.bucket.Put(ctx, key, body); err != nil {
		return err
	}
	p := &r.present
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fresh == nil {
		p.fresh = map[Key]time.Duration{}
	}
	p.fresh[key] = started
	return nil
}

// saved notes what an index that was saved just now names.
func (r *Repo) saved(index []Index, whole *tree.Tree) {
	p := &r.present
	p.mu.Lock()
	defer p.mu.Unlock()
	p.index, p.names = index[len(index)-1].ID, names(index, whole)
}

// namesOf returns what a snapshot of the index needs; it reads the index if it is not
// the one that was saved last.
func (r *Repo) namesOf(ctx context.Context, s Snapshot) (map[Key]bool, error) {
	p := &r.present
	p.mu.Lock()
	index, known := p.index, p.names
	p.mu.Unlock()
	if n := len(s.Index); n > 0 && s.Index[n-1].ID == index {
		return known, nil
	}
	whole, err := r.Tree(ctx, s)
	if err != nil {
		return nil, err
	}
	return names(s.Index, whole), nil
}

// committed notes that a snapshot with the names is the head: what it needs stays.
func (r *Repo) committed(names map[Key]bool) {
	p := &r.present
	p.mu.Lock()
	defer p.mu.Unlock()
	p.head = names
	for key := range p.fresh {
		if names[key] || r.now()-p.fresh[key] >= believed {
			delete(p.fresh, key)
		}
	}
}

// sure reports whether all of the names are there without a doubt.
func (r *Repo) sure(names map[Key]bool) bool {
	p := &r.present
	p.mu.Lock()
	defer p.mu.Unlock()
	for key := range names {
		at, fresh := p.fresh[key]
		if !p.head[key] && !(fresh && r.now()-at < believed) {
			return false
		}
	}
	return true
}

// unmarked refuses names of which a prune has marked one, with ErrMarked. It comes
// before a look whether they are there: a prune takes a mark away only when the objects
// are gone.
func (r *Repo) unmarked(ctx context.Context, names map[Key]bool) error {
	marks, _, err := r.marks(ctx)
	if err != nil {
		return err
	}
	for _, m := range marks {
		for _, key := range m.Objects {
			if names[key] {
				return fmt.Errorf("%w: %s", ErrMarked, key)
			}
		}
	}
	return nil
}

// there looks for each of the names; if one is missing, it is ErrMarked.
func (r *Repo) there(ctx context.Context, names map[Key]bool) error {
	found := make(map[Key]bool, len(names))
	for _, prefix := range []Key{prefixPacks, prefixIndex} {
		objects, err := r.list(ctx, prefix)
		if err != nil {
			return err
		}
		for _, o := range objects {
			found[o.Key] = true
		}
	}
	for key := range names {
		if !found[key] {
			return fmt.Errorf("%w: %s is not there", ErrMarked, key)
		}
	}
	return nil
}
