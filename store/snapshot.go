package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Snapshot is a saved state of the home.
type Snapshot struct {
	Epoch  uint64    `json:"epoch"`
	Seq    uint64    `json:"seq"`
	Parent Key       `json:"parent,omitempty"` // the snapshot it continues
	Time   time.Time `json:"time"`
	Host   string    `json:"host"`
	Mount  string    `json:"mount"`
	Nonce  string    `json:"nonce"`
	Index  []Index   `json:"index"` // a whole tree and the patches on it
	Files  int64     `json:"files"`
	Size   int64     `json:"size"` // bytes of all files' content

	// Conflict says that it was made by a mount that had lost its lease.
	Conflict bool `json:"conflict,omitempty"`

	stray bool // Conflict was found out: it lies among those of the main line
}

// Index names an object group below index/: a tree, compressed and cut into parts.
type Index struct {
	ID    string `json:"id"`
	Size  int64  `json:"size"` // bytes of the tree
	Parts []Part `json:"parts"`
}

// Part is one object of an Index.
type Part struct {
	Size int64  `json:"size"`
	Sum  string `json:"blake3"`
}

func (x Index) key(part int) Key { return Key(fmt.Sprintf("%s%s-%d", prefixIndex, x.ID, part)) }

func (x Index) stored() (n int64) {
	for _, p := range x.Parts {
		n += p.Size
	}
	return n
}

// The prefixes of keys; see docs/format.md.
const (
	keyProfile      Key = "valise.json"
	prefixPacks     Key = "packs/"
	prefixIndex     Key = "index/"
	prefixSnapshots Key = "snapshots/"
	prefixConflicts Key = "conflicts/"
	prefixLease     Key = "lease/"
	prefixPins      Key = "pins/"
	prefixMarks     Key = "marks/"
)

// Key is where the snapshot lies. The newest sorts first.
func (s Snapshot) Key() Key {
	if s.Conflict {
		return prefixConflicts + Key(fmt.Sprintf("%016x-%016x-%s", math.MaxUint64-s.Epoch, math.MaxUint64-s.Seq, s.Mount))
	}
	return prefixSnapshots + Key(fmt.Sprintf("%016x-%016x", math.MaxUint64-s.Epoch, math.MaxUint64-s.Seq))
}

// lies is the key under which it was found.
func (s Snapshot) lies() Key {
	s.Conflict = s.Conflict && !s.stray
	return s.Key()
}

// Name is what people call it by: the number, and for one that is not on the main
// line the first digits of the mount that made it.
func (s Snapshot) Name() string {
	if s.Conflict {
		return fmt.Sprintf("%d-%.8s", s.Seq, s.Mount)
	}
	return strconv.FormatUint(s.Seq, 10)
}

// parseSnapshotKey returns the epoch and number in a key.
func parseSnapshotKey(key Key) (epoch, seq uint64, err error) {
	name := strings.TrimPrefix(strings.TrimPrefix(string(key), string(prefixSnapshots)), string(prefixConflicts))
	parts := strings.Split(name, "-")
	if len(parts) < 2 || len(parts[0]) != 16 || len(parts[1]) != 16 {
		return 0, 0, fmt.Errorf("%s: not the name of a snapshot", key)
	}
	for i, to := range []*uint64{&epoch, &seq} {
		n, err := strconv.ParseUint(parts[i], 16, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("%s: not the name of a snapshot", key)
		}
		*to = math.MaxUint64 - n
	}
	return epoch, seq, nil
}

// ErrNoSnapshot is the answer where a profile has none, or none of that name.
var ErrNoSnapshot = errors.New("no such snapshot")

// Head returns the newest snapshot, or ErrNoSnapshot for an empty profile.
func (r *Repo) Head(ctx context.Context) (Snapshot, error) {
	page, err := r.bucket.List(ctx, prefixSnapshots, "", 1)
	if err != nil {
		return Snapshot{}, fmt.Errorf("find the newest snapshot: %w", err)
	}
	if len(page.Objects) == 0 {
		return Snapshot{}, ErrNoSnapshot
	}
	return r.snapshot(ctx, page.Objects[0].Key)
}

// snapshot reads the one at key, which a listing has shown.
func (r *Repo) snapshot(ctx context.Context, key Key) (Snapshot, error) {
	data, err := r.bucket.Get(ctx, key)
	if err != nil {
		return Snapshot{}, fmt.Errorf("read snapshot: %w", err)
	}
	var s Snapshot
	if err := unseal(key, formatSnapshot, data, &s); err != nil {
		return Snapshot{}, err
	}
	if s.Key() != key {
		return Snapshot{}, fmt.Errorf("%s: %w: it says that it is %s", key, ErrCorrupt, s.Key())
	}
	if len(s.Index) == 0 {
		return Snapshot{}, fmt.Errorf("%s: %w: it names no index", key, ErrCorrupt)
	}
	return s, nil
}

// Snapshots returns all, newest first: those of the main line, then those that lost.
func (r *Repo) Snapshots(ctx context.Context) ([]Snapshot, error) {
	var out []Snapshot
	for _, prefix := range []Key{prefixSnapshots, prefixConflicts} {
		objects, err := r.list(ctx, prefix)
		if err != nil {
			return nil, err
		}
		for _, o := range objects {
			s, err := r.snapshot(ctx, o.Key)
			if err != nil {
				return nil, err
			}
			out = append(out, s)
		}
	}
	return markStrays(out), nil
}

// markStrays tells apart what was committed under a lease that had been lost unseen:
// it is no ancestor of the head.
func markStrays(all []Snapshot) []Snapshot {
	if len(all) == 0 || all[0].Conflict {
		return all
	}
	parent := map[Key]Key{}
	for _, s := range all {
		parent[s.Key()] = s.Parent
	}
	line := map[Key]bool{}
	oldest := all[0].Key() // of the line that is still there
	for key := all[0].Key(); key != "" && !line[key]; key = parent[key] {
		line[key] = true
		if _, there := parent[key]; there {
			oldest = key
		}
	}
	for i := range all {
		key := all[i].Key()
		// What is older than the line's rest may be of it: pruning took what led there.
		if !all[i].Conflict && !line[key] && key < oldest {
			all[i].Conflict, all[i].stray = true, true
		}
	}
	return all
}

// Find returns the snapshot of a name that Snapshots shows, the head for "".
func (r *Repo) Find(ctx context.Context, name string) (Snapshot, error) {
	if name == "" {
		return r.Head(ctx)
	}
	all, err := r.Snapshots(ctx)
	if err != nil {
		return Snapshot{}, err
	}
	for _, s := range all {
		if s.Name() == name {
			return s, nil
		}
	}
	return Snapshot{}, fmt.Errorf("snapshot %q: %w", name, ErrNoSnapshot)
}
