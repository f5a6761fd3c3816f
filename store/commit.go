package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"valise/tree"
)

// Commit makes s the head: it continues the snapshot parent (the zero Snapshot for an
// empty profile). When it returns nil the snapshot is durable and nobody can have
// taken over before. ErrLeaseLost says that somebody did; then s is best kept by
// CommitConflict.
//
// Of s it uses Index, Files, Size and Time; the rest it fills in. whole is the tree of
// the index. ErrMarked says that blocks must be stored anew first.
func (r *Repo) Commit(ctx context.Context, l *Lease, parent, s Snapshot, whole *tree.Tree) (Snapshot, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left() == 0 {
		if err := l.again(ctx); err != nil {
			return Snapshot{}, fmt.Errorf("commit: %w", err)
		}
	}
	if err := r.unmarked(ctx, s.Index, whole); err != nil {
		return Snapshot{}, fmt.Errorf("commit: %w", err)
	}
	s.Host, s.Mount, s.Conflict = l.body.Host, l.body.Mount, false
	for {
		head, err := r.headFor(ctx, l, parent)
		if err != nil {
			return Snapshot{}, fmt.Errorf("commit: %w", err)
		}
		s.Epoch, s.Seq, s.Parent, s.Nonce = l.body.Epoch, head.Seq+1, head.key(), NewID()
		data, err := seal(formatSnapshot, s)
		if err != nil {
			return Snapshot{}, err
		}
		err = r.createOnce(ctx, s.Key(), data)
		if errors.Is(err, ErrExist) {
			continue // an own try, believed lost, arrived late: headFor goes on from it
		}
		if err != nil {
			return Snapshot{}, fmt.Errorf("commit: %w", err)
		}
		break
	}
	l.body.Head = s.Key()
	if l.left() == 0 {
		// It took so long that another mount may have begun without it.
		if err := l.again(ctx); err != nil {
			return Snapshot{}, fmt.Errorf("commit: %w", err)
		}
	}
	return s, nil
}

func (s Snapshot) key() Key {
	if s.Epoch == 0 {
		return ""
	}
	return s.Key()
}

// headFor returns the snapshot that the holder's next one continues: its parent or an
// own later one whose answer was lost. Any other head is ErrLeaseLost.
func (r *Repo) headFor(ctx context.Context, l *Lease, parent Snapshot) (Snapshot, error) {
	head, err := r.Head(ctx)
	switch {
	case errors.Is(err, ErrNoSnapshot) && parent.Epoch == 0:
		return Snapshot{}, nil
	case errors.Is(err, ErrNoSnapshot):
		return Snapshot{}, fmt.Errorf("%w: the snapshot %s that this one continues is gone", ErrCorrupt, parent.Key())
	case err != nil:
		return Snapshot{}, err
	case head.key() == parent.key(), head.Mount == l.body.Mount && head.Seq > parent.Seq:
		return head, nil
	case head.Epoch < parent.Epoch, head.Epoch == parent.Epoch && head.Seq < parent.Seq:
		return Snapshot{}, fmt.Errorf("the store shows %s as the newest snapshot, and %s is known: %w", head.Key(), parent.Key(), ErrUnavailable)
	}
	return Snapshot{}, fmt.Errorf("%w: host %q saved snapshot %s", ErrLeaseLost, head.Host, head.Name())
}

// CommitConflict keeps s beside the main line, as the work of a mount that lost its
// lease.
func (r *Repo) CommitConflict(ctx context.Context, c Claim, parent, s Snapshot) (Snapshot, error) {
	s.Host, s.Mount, s.Conflict = c.Host, c.Mount, true
	s.Epoch, s.Parent = max(parent.Epoch, 1), parent.key()
	for s.Seq = parent.Seq + 1; s.Seq < math.MaxUint64; s.Seq++ {
		s.Nonce = NewID()
		data, err := seal(formatSnapshot, s)
		if err != nil {
			return Snapshot{}, err
		}
		err = r.createOnce(ctx, s.Key(), data)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, ErrExist) {
			return Snapshot{}, fmt.Errorf("commit beside the main line: %w", err)
		}
	}
	return Snapshot{}, errors.New("commit beside the main line: no number is left")
}

// pin is the object at pins/<mount>: what a live mount or a pending upper reads from.
type pin struct {
	Host     string    `json:"host"`
	Snapshot Key       `json:"snapshot"`
	Index    []Index   `json:"index"`
	Time     time.Time `json:"time"`
}

// Pin keeps what base needs from being pruned while the mount lives.
func (r *Repo) Pin(ctx context.Context, c Claim, base Snapshot) error {
	data, err := seal(formatPin, pin{Host: c.Host, Snapshot: base.key(), Index: base.Index, Time: time.Now().UTC()})
	if err != nil {
		return err
	}
	return r.bucket.Put(ctx, prefixPins+Key(c.Mount), data)
}

// Unpin ends what Pin began.
func (r *Repo) Unpin(ctx context.Context, mount string) error {
	return r.bucket.Delete(ctx, prefixPins+Key(mount))
}
