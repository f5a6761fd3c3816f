package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
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
// line the first digits of its nonce.
func (s Snapshot) Name() string {
	if s.Conflict {
		return fmt.Sprintf("%d-%.8s", s.Seq, s.Nonce)
	}
	return strconv.FormatUint(s.Seq, 10)
}

// ErrNoSnapshot is the answer where a profile has none, or none of that name.
var ErrNoSnapshot = errors.New("no such snapshot")

// Head returns the newest snapshot, or ErrNoSnapshot for an empty profile.
func (r *Repo) Head(ctx context.Context) (Snapshot, error) {
	if s, ok := r.headAhead(ctx); ok {
		return s, nil
	}
	s, _, err := r.head(ctx)
	return s, err
}

// sight is when something was seen, by the store's clock.
type sight struct{ modified, now time.Time }

// newest is the snapshot that head has read last. What lies under a key never changes.
type newest struct {
	mu       sync.Mutex // guards the rest
	key      Key
	snapshot Snapshot
}

func (n *newest) of(key Key) (Snapshot, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.snapshot, n.key == key
}

func (n *newest) set(key Key, s Snapshot) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.key, n.snapshot = key, s
}

func (r *Repo) head(ctx context.Context) (Snapshot, sight, error) {
	for slow := (retry{}); ; {
		page, err := r.bucket.List(ctx, prefixSnapshots, "", 1)
		if err != nil {
			return Snapshot{}, sight{}, fmt.Errorf("find the newest snapshot: %w", err)
		}
		at := sight{now: page.Now}
		if len(page.Objects) == 0 {
			return Snapshot{}, at, ErrNoSnapshot
		}
		at.modified = page.Objects[0].Modified
		if s, ok := r.newest.of(page.Objects[0].Key); ok {
			return s, at, nil
		}
		s, err := r.snapshot(ctx, page.Objects[0].Key)
		if err == nil {
			r.newest.set(page.Objects[0].Key, s)
		}
		if !errors.Is(err, ErrNotExist) {
			return s, at, err
		}
		// There is a newer one, or a prune would not have dropped it.
		if err := slow.wait(ctx, err.Error()); err != nil {
			return Snapshot{}, sight{}, err
		}
	}
}

// snapshot reads the one at key, which a listing has shown.
func (r *Repo) snapshot(ctx context.Context, key Key) (Snapshot, error) {
	data, err := r.get(ctx, key)
	if err != nil {
		return Snapshot{}, fmt.Errorf("read snapshot: %w", err)
	}
	var s Snapshot
	if err := r.unsealSnapshot(key, data, &s); err != nil {
		return Snapshot{}, fmt.Errorf("read snapshot: %w", err)
	}
	if s.Key() != key {
		return Snapshot{}, fmt.Errorf("read snapshot: %s: %w: it says that it is %s", key, ErrCorrupt, s.Key())
	}
	if s.Epoch == 0 || len(s.Index) == 0 {
		return Snapshot{}, fmt.Errorf("read snapshot: %s: %w: it has no epoch or no index", key, ErrCorrupt)
	}
	return s, nil
}

// sealed is the body of a snapshot's object in an encrypted profile.
type sealed struct {
	Snapshot []byte `json:"snapshot"`
}

func snapshotPlace(key Key) string { return "snapshot\n" + string(key) }

// sealSnapshot is the object of a snapshot.
func (r *Repo) sealSnapshot(s Snapshot) ([]byte, error) {
	data, err := seal(formatSnapshot, s)
	if err != nil || r.sealer == nil {
		return data, err
	}
	return seal(formatSealed, sealed{r.sealer.seal(snapshotPlace(s.Key()), data)})
}

func (r *Repo) unsealSnapshot(key Key, data []byte, s *Snapshot) error {
	if r.sealer == nil {
		return unseal(key, formatSnapshot, data, s)
	}
	var outer sealed
	if err := unseal(key, formatSealed, data, &outer); err != nil {
		return err
	}
	data, err := r.sealer.open(snapshotPlace(key), outer.Snapshot)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return unseal(key, formatSnapshot, data, s)
}

// Snapshots returns all, newest first: those of the main line, then those that lost.
func (r *Repo) Snapshots(ctx context.Context) ([]Snapshot, error) {
	return r.snapshots(ctx, func(_ Key, err error) error { return err })
}

// snapshotsAtOnce is how many snapshots are read at once.
const snapshotsAtOnce = 16

// snapshots returns all. bad, which is called by one goroutine at a time, decides
// about one that cannot be read: nil leaves it out.
func (r *Repo) snapshots(ctx context.Context, bad func(Key, error) error) ([]Snapshot, error) {
	// In this order one that setAside moves meanwhile is seen twice rather than not.
	var objects []Object
	for _, prefix := range []Key{prefixSnapshots, prefixConflicts} {
		more, err := r.list(ctx, prefix)
		if err != nil {
			return nil, err
		}
		objects = append(objects, more...)
	}
	found := make([]Snapshot, len(objects))
	var mu sync.Mutex // held by bad
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(snapshotsAtOnce)
	for i, o := range objects {
		group.Go(func() (err error) {
			found[i], err = r.snapshot(ctx, o.Key)
			if err == nil || errors.Is(err, ErrNotExist) {
				return nil // it is there, or a prune has just dropped it
			}
			mu.Lock()
			defer mu.Unlock()
			return bad(o.Key, err)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return markStrays(slices.DeleteFunc(found, func(s Snapshot) bool { return s.Epoch == 0 })), nil
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
	end := Key("") // the oldest that is known to be of the line, whether it is still there
	for key := all[0].Key(); key != "" && !line[key]; key = parent[key] {
		line[key] = true
		end = key
	}
	_, there := parent[end]
	for i := range all {
		key := all[i].Key()
		// Beyond an end that is not there any more, what is older may be of the line.
		if !all[i].Conflict && !line[key] && (there || key < end) {
			all[i].Conflict, all[i].stray = true, true
		}
	}
	return all
}

// Find returns the snapshot of a name that Snapshots shows, the head for "". Others
// that cannot be read do not matter.
func (r *Repo) Find(ctx context.Context, name string) (Snapshot, error) {
	if name == "" {
		return r.Head(ctx)
	}
	var unread error
	all, err := r.snapshots(ctx, func(_ Key, err error) error {
		if !about(err) {
			return err
		}
		unread = errors.Join(unread, err)
		return nil
	})
	if err != nil {
		return Snapshot{}, fmt.Errorf("snapshot %q: %w", name, err)
	}
	for _, s := range all {
		if s.Name() == name {
			return s, nil
		}
	}
	if unread != nil {
		return Snapshot{}, fmt.Errorf("snapshot %q is none of those that can be read: %w", name, unread)
	}
	return Snapshot{}, fmt.Errorf("snapshot %q: %w", name, ErrNoSnapshot)
}
