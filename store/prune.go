package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"valise/tree"
)

// Retention says which snapshots of the main line stay. The newest always does, and
// every one that another rule keeps; those beside the main line stay until they are
// named in Forget.
type Retention struct {
	Last, Daily, Weekly, Monthly int

	Forget []string // names of snapshots to drop

	// Grace is the time from an object's upload to its mark, and again from there to
	// its end, both at least. A save must not take as long, nor may it be less than ten
	// minutes, for which mounts believe that what they uploaded is there.
	Grace  time.Duration
	DryRun bool // say what would be done
	Force  bool // do not honour the pins of mounts that are thought dead
}

// PruneResult says what Prune did, or with DryRun would do.
type PruneResult struct {
	Forgotten []string `json:"forgotten"` // snapshots
	Marked    int      `json:"marked"`    // objects to be deleted once the grace is over
	Deleted   int      `json:"deleted"`   // objects
	Bytes     int64    `json:"bytes"`     // that the marked ones have
	Pinned    []string `json:"pinned"`    // hosts whose mounts keep objects
}

// mark is the object at marks/<id>: what a prune found unused. Its time is that of the
// object, by the store's clock.
type mark struct {
	Objects []Key `json:"objects"`

	key  Key
	time time.Time
}

// objectsPerMark keeps a mark smaller than MaxObject.
const objectsPerMark = 100_000

// Prune forgets snapshots and deletes what no snapshot and no pin needs, in two runs
// at least Grace apart: the first marks, the second deletes what is marked and still
// unused. It is safe beside live mounts and other prunes.
func (r *Repo) Prune(ctx context.Context, keep Retention) (PruneResult, error) {
	var res PruneResult
	if err := r.prune(ctx, keep, &res); err != nil {
		return res, fmt.Errorf("prune: %w", err)
	}
	return res, nil
}

func (r *Repo) prune(ctx context.Context, keep Retention, res *PruneResult) error {
	// Their age is judged before the snapshots are listed: a commit that did not see a
	// mark has ended by then.
	marks, now, err := r.marks(ctx)
	if err != nil {
		return err
	}
	all, err := r.Snapshots(ctx)
	if err != nil {
		return err
	}
	kept, dropped, err := keep.choose(all)
	if err != nil {
		return err
	}
	if err := r.drop(ctx, keep, kept, dropped, res); err != nil {
		return err
	}
	used, err := r.used(ctx, kept, keep.Force, res)
	if err != nil {
		return err
	}
	for _, m := range marks {
		if now.Sub(m.time) < keep.Grace {
			for _, key := range m.Objects {
				used[key] = true // not to be marked again
			}
			continue
		}
		if err := r.sweep(ctx, keep, m, used, res); err != nil {
			return err
		}
	}
	return r.mark(ctx, keep, now, used, res)
}

// drop deletes snapshots. Before, it moves those that came too late to their place
// beside the main line: what is dropped may be what proves that they are not of it.
func (r *Repo) drop(ctx context.Context, keep Retention, kept, dropped []Snapshot, res *PruneResult) error {
	for _, s := range dropped {
		res.Forgotten = append(res.Forgotten, s.Name())
	}
	if keep.DryRun {
		return nil
	}
	for _, s := range kept {
		if !s.stray {
			continue
		}
		lies := s.lies()
		s.stray = false
		if _, err := r.createBeside(ctx, s); err != nil {
			return err
		}
		if err := r.bucket.Delete(ctx, lies); err != nil {
			return err
		}
	}
	for _, s := range dropped {
		if err := r.bucket.Delete(ctx, s.lies()); err != nil {
			return err
		}
	}
	return nil
}

// choose splits the snapshots, newest first, into those that stay and the others.
func (keep Retention) choose(all []Snapshot) (kept []Snapshot, dropped []Snapshot, err error) {
	forget := map[string]bool{}
	for _, name := range keep.Forget {
		forget[name] = true
	}
	rules := keep.rules()
	for i, s := range all {
		name := s.Name()
		stays := s.Conflict || i == 0 || len(rules) == 0
		if !s.Conflict {
			for _, rule := range rules {
				stays = rule.keeps(s) || stays
			}
		}
		if forget[name] {
			if i == 0 && !s.Conflict {
				return nil, nil, fmt.Errorf("snapshot %s is the newest: it cannot be dropped", name)
			}
			delete(forget, name)
			stays = false
		}
		if stays {
			kept = append(kept, s)
		} else {
			dropped = append(dropped, s)
		}
	}
	for _, name := range keep.Forget {
		if forget[name] {
			return nil, nil, fmt.Errorf("snapshot %q: %w", name, ErrNoSnapshot)
		}
	}
	return kept, dropped, nil
}

// rule keeps the newest snapshot of each of the newest periods.
type rule struct {
	left   int
	period func(Snapshot) string
	seen   map[string]bool
}

func (keep Retention) rules() (out []*rule) {
	for _, r := range []rule{
		{left: keep.Last, period: func(s Snapshot) string { return string(s.Key()) }},
		{left: keep.Daily, period: func(s Snapshot) string { return s.Time.UTC().Format(time.DateOnly) }},
		{left: keep.Weekly, period: func(s Snapshot) string {
			year, week := s.Time.UTC().ISOWeek()
			return fmt.Sprint(year, " ", week)
		}},
		{left: keep.Monthly, period: func(s Snapshot) string { return s.Time.UTC().Format("2006-01") }},
	} {
		if r.left > 0 {
			r.seen = map[string]bool{}
			out = append(out, &r)
		}
	}
	return out
}

func (r *rule) keeps(s Snapshot) bool {
	period := r.period(s)
	if r.left == 0 || r.seen[period] {
		return false
	}
	r.seen[period] = true
	r.left--
	return true
}

// used returns the objects that the snapshots and the pins need.
func (r *Repo) used(ctx context.Context, kept []Snapshot, force bool, res *PruneResult) (map[Key]bool, error) {
	indexes := map[string]Index{}
	for _, s := range kept {
		for _, x := range s.Index {
			indexes[x.ID] = x
		}
	}
	pins, err := r.list(ctx, prefixPins)
	if err != nil {
		return nil, err
	}
	for _, o := range pins {
		if force {
			break
		}
		data, err := r.get(ctx, o.Key)
		if errors.Is(err, ErrNotExist) {
			continue // its mount has just ended
		}
		if err != nil {
			return nil, err
		}
		var p pin
		if err := unseal(o.Key, formatPin, data, &p); err != nil {
			return nil, err
		}
		res.Pinned = append(res.Pinned, p.Host)
		for _, x := range p.Index {
			indexes[x.ID] = x
		}
	}
	used := map[Key]bool{}
	for _, x := range indexes {
		t, err := r.indexTree(ctx, x)
		if err != nil {
			return nil, err
		}
		addNames(used, []Index{x}, t)
	}
	return used, nil
}

// indexTree reads one index by itself.
func (r *Repo) indexTree(ctx context.Context, x Index) (*tree.Tree, error) {
	parts := make([][]byte, len(x.Parts))
	for i := range x.Parts {
		var err error
		if parts[i], err = r.indexPart(ctx, x, i); err != nil {
			return nil, err
		}
	}
	return decompress(x, parts)
}

// sweep deletes what was marked and is still unused, and then the mark.
func (r *Repo) sweep(ctx context.Context, keep Retention, m mark, used map[Key]bool, res *PruneResult) error {
	gone := slices.DeleteFunc(m.Objects, func(key Key) bool { return used[key] })
	res.Deleted += len(gone)
	if keep.DryRun {
		for _, key := range gone {
			used[key] = true // not to be marked again
		}
		return nil
	}
	if err := r.bucket.Delete(ctx, gone...); err != nil {
		return err
	}
	return r.bucket.Delete(ctx, m.key)
}

// mark notes what is unused and older than the grace: what is younger may belong to a
// snapshot that is being made.
func (r *Repo) mark(ctx context.Context, keep Retention, now time.Time, used map[Key]bool, res *PruneResult) error {
	var unused []Key
	for _, prefix := range []Key{prefixPacks, prefixIndex} {
		objects, err := r.list(ctx, prefix)
		if err != nil {
			return err
		}
		for _, o := range objects {
			if !used[o.Key] && now.Sub(o.Modified) >= keep.Grace {
				unused = append(unused, o.Key)
				res.Bytes += o.Size
			}
		}
	}
	res.Marked = len(unused)
	if keep.DryRun {
		return nil
	}
	for some := range slices.Chunk(unused, objectsPerMark) {
		data, err := seal(formatMark, mark{Objects: some})
		if err != nil {
			return err
		}
		if err := r.bucket.Put(ctx, prefixMarks+Key(NewID()), data); err != nil {
			return err
		}
	}
	return nil
}

// marks returns the marks and the store's time before they were read.
func (r *Repo) marks(ctx context.Context) ([]mark, time.Time, error) {
	objects, now, err := r.listAt(ctx, prefixMarks)
	if err != nil {
		return nil, now, err
	}
	var out []mark
	for _, o := range objects {
		data, err := r.get(ctx, o.Key)
		if errors.Is(err, ErrNotExist) {
			continue // another prune has just dealt with it: what it named is gone
		}
		if err != nil {
			return nil, now, err
		}
		m := mark{key: o.Key, time: o.Modified}
		if err := unseal(o.Key, formatMark, data, &m); err != nil {
			return nil, now, err
		}
		out = append(out, m)
	}
	return out, now, nil
}
