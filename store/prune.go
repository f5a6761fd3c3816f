package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"valise/tree"
)

// Retention says which snapshots of the main line stay. The newest always does, and
// every one that another rule keeps; those beside the main line stay until they are
// named in Forget.
type Retention struct {
	Last, Daily, Weekly, Monthly int

	Forget []string      // names of snapshots to drop
	Grace  time.Duration // objects are deleted so long after they were marked
	DryRun bool          // say what would be done
	Force  bool          // do not honour the pins of mounts that are thought dead
}

// PruneResult says what Prune did, or with DryRun would do.
type PruneResult struct {
	Forgotten []string `json:"forgotten"` // snapshots
	Marked    int      `json:"marked"`    // objects to be deleted once the grace is over
	Deleted   int      `json:"deleted"`   // objects
	Bytes     int64    `json:"bytes"`     // that Deleted had
	Pinned    []string `json:"pinned"`    // hosts whose mounts keep objects
}

// mark is the object at marks/<id>: what a prune found unused.
type mark struct {
	Time    time.Time `json:"time"` // by the store's clock
	Objects []Key     `json:"objects"`
}

// ErrMarked says that a snapshot would use objects which are about to be deleted:
// they must be stored anew.
var ErrMarked = errors.New("a prune has marked objects that the snapshot uses")

// Prune forgets snapshots and deletes what no snapshot and no pin needs, in two runs
// at least Grace apart: the first marks, the second deletes what is marked and still
// unused. It is safe beside live mounts.
func (r *Repo) Prune(ctx context.Context, keep Retention) (PruneResult, error) {
	var res PruneResult
	all, err := r.Snapshots(ctx)
	if err != nil {
		return res, fmt.Errorf("prune: %w", err)
	}
	kept, dropped, err := keep.choose(all)
	if err != nil {
		return res, fmt.Errorf("prune: %w", err)
	}
	for _, s := range dropped {
		res.Forgotten = append(res.Forgotten, s.Name())
	}
	if !keep.DryRun {
		for _, s := range dropped {
			if err := r.bucket.Delete(ctx, s.lies()); err != nil {
				return res, fmt.Errorf("prune: %w", err)
			}
		}
	}
	used, err := r.used(ctx, kept, keep.Force, &res)
	if err != nil {
		return res, fmt.Errorf("prune: %w", err)
	}
	if err := r.sweep(ctx, keep, used, &res); err != nil {
		return res, fmt.Errorf("prune: %w", err)
	}
	if err := r.mark(ctx, keep, used, &res); err != nil {
		return res, fmt.Errorf("prune: %w", err)
	}
	return res, nil
}

// choose splits the snapshots, newest first, into those that stay and the others.
func (keep Retention) choose(all []Snapshot) (kept []Snapshot, dropped []Snapshot, err error) {
	forget := slices.Clone(keep.Forget)
	limits := []int{keep.Last, keep.Daily, keep.Weekly, keep.Monthly}
	any := slices.Max(limits) > 0
	periods := []func(time.Time) string{
		func(t time.Time) string { return t.Format(time.RFC3339Nano) },
		func(t time.Time) string { return t.Format(time.DateOnly) },
		func(t time.Time) string { y, w := t.ISOWeek(); return fmt.Sprint(y, "-", w) },
		func(t time.Time) string { return t.Format("2006-01") },
	}
	last := make([]string, len(limits))
	head := true
	for _, s := range all {
		if s.Conflict {
			if i := slices.Index(forget, s.Name()); i >= 0 {
				forget = slices.Delete(forget, i, i+1)
				dropped = append(dropped, s)
			} else {
				kept = append(kept, s)
			}
			continue
		}
		stays := head || !any
		head = false
		for i, period := range periods {
			if name := period(s.Time.UTC()); limits[i] > 0 && name != last[i] {
				last[i] = name
				limits[i]--
				stays = true
			}
		}
		if i := slices.Index(forget, s.Name()); i >= 0 {
			if len(kept) == 0 {
				return nil, nil, fmt.Errorf("snapshot %s is the newest: it cannot be dropped", s.Name())
			}
			forget = slices.Delete(forget, i, i+1)
			stays = false
		}
		if stays {
			kept = append(kept, s)
		} else {
			dropped = append(dropped, s)
		}
	}
	if len(forget) > 0 {
		return nil, nil, fmt.Errorf("snapshot %q: %w", forget[0], ErrNoSnapshot)
	}
	return kept, dropped, nil
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
		data, err := r.bucket.Get(ctx, o.Key)
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
		for i := range x.Parts {
			used[x.key(i)] = true
		}
		for i := range t.Packs() {
			id, _ := t.Pack(i)
			used[PackKey(id)] = true
		}
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

// sweep deletes what was marked long enough ago and is still unused.
func (r *Repo) sweep(ctx context.Context, keep Retention, used map[Key]bool, res *PruneResult) error {
	marks, now, err := r.marks(ctx)
	if err != nil {
		return err
	}
	for key, m := range marks {
		if now.Sub(m.Time) < keep.Grace {
			continue
		}
		var gone []Key
		for _, o := range m.Objects {
			if !used[o] {
				gone = append(gone, o)
			}
		}
		res.Deleted += len(gone)
		if keep.DryRun {
			continue
		}
		if len(gone) > 0 {
			if err := r.bucket.Delete(ctx, gone...); err != nil {
				return err
			}
		}
		if err := r.bucket.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// mark notes what is unused and older than the grace: what is younger may belong to a
// snapshot that is being made.
func (r *Repo) mark(ctx context.Context, keep Retention, used map[Key]bool, res *PruneResult) error {
	marks, now, err := r.marks(ctx)
	if err != nil {
		return err
	}
	known := map[Key]bool{}
	for _, m := range marks {
		for _, o := range m.Objects {
			known[o] = true
		}
	}
	m := mark{Time: now}
	for _, prefix := range []Key{prefixPacks, prefixIndex} {
		objects, err := r.list(ctx, prefix)
		if err != nil {
			return err
		}
		for _, o := range objects {
			if !used[o.Key] && !known[o.Key] && now.Sub(o.Modified) >= keep.Grace {
				m.Objects = append(m.Objects, o.Key)
				res.Bytes += o.Size
			}
		}
	}
	res.Marked = len(m.Objects)
	if keep.DryRun || len(m.Objects) == 0 {
		return nil
	}
	data, err := seal(formatMark, m)
	if err != nil {
		return err
	}
	return r.bucket.Put(ctx, prefixMarks+Key(NewID()), data)
}

// marks returns the marks and the store's time.
func (r *Repo) marks(ctx context.Context) (map[Key]mark, time.Time, error) {
	page, err := r.bucket.List(ctx, prefixMarks, "", 1000)
	if err != nil {
		return nil, time.Time{}, err
	}
	out := map[Key]mark{}
	for _, o := range page.Objects {
		data, err := r.bucket.Get(ctx, o.Key)
		if errors.Is(err, ErrNotExist) {
			continue // another prune has just dealt with it
		}
		if err != nil {
			return nil, time.Time{}, err
		}
		var m mark
		if err := unseal(o.Key, formatMark, data, &m); err != nil {
			return nil, time.Time{}, err
		}
		out[o.Key] = m
	}
	return out, page.Now, nil
}

// unmarked refuses a snapshot that uses marked objects.
func (r *Repo) unmarked(ctx context.Context, index []Index, whole *tree.Tree) error {
	marks, _, err := r.marks(ctx)
	if err != nil {
		return err
	}
	for _, m := range marks {
		for _, key := range m.Objects {
			id, isPack := strings.CutPrefix(string(key), string(prefixPacks))
			if isPack {
				if pack, err := tree.ParsePackID(id); err == nil && whole.PackSize(pack) != 0 {
					return fmt.Errorf("%w: %s", ErrMarked, key)
				}
			}
			for _, x := range index {
				if strings.HasPrefix(string(key), string(x.key(0)[:len(prefixIndex)])+x.ID+"-") {
					return fmt.Errorf("%w: %s", ErrMarked, key)
				}
			}
		}
	}
	return nil
}
