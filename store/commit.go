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
// empty profile). When it returns nil the snapshot is durable, and whoever takes over
// goes on from it. ErrLeaseLost says that somebody else did; then s is best kept by
// CommitConflict. After any other error s may be the head or not: it is no harm to
// try again.
//
// Of s it uses Index, Files, Size and Time; the rest it fills in. whole is the tree of
// the index. ErrMarked says that blocks must be stored anew first.
func (r *Repo) Commit(ctx context.Context, l *Lease, parent, s Snapshot, whole *tree.Tree) (Snapshot, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, err := r.commit(ctx, l, parent, s, names(s.Index, whole))
	if err != nil {
		return Snapshot{}, fmt.Errorf("commit: %w", err)
	}
	return s, nil
}

func (r *Repo) commit(ctx context.Context, l *Lease, parent, s Snapshot, names map[Key]bool) (Snapshot, error) {
	if l.Left() == 0 {
		if err := l.again(ctx); err != nil {
			return s, err
		}
	}
	checked := r.now()
	if err := r.unmarked(ctx, names); err != nil {
		return s, err
	}
	if !r.sure(names) {
		if err := r.there(ctx, names); err != nil {
			return s, err
		}
	}
	s.Host, s.Mount, s.Conflict, s.Nonce = l.body.Host, l.body.Mount, false, NewID()
	for slow := (retry{}); ; {
		err := r.createHead(ctx, l, parent, &s)
		if err == nil {
			break
		}
		if !errors.Is(err, errBehind) {
			return s, err
		}
		if err := slow.wait(ctx, err.Error()); err != nil {
			return s, err
		}
	}
	if err := l.fence(ctx); err != nil {
		return s, err
	}
	key := s.Key()
	l.body.Head, l.line = key, &key
	if r.now()-checked >= believed {
		// It took so long, in suspend perhaps, that a prune may not have known of it.
		if err := r.there(ctx, names); err != nil {
			return s, err
		}
	}
	r.committed(names)
	return s, nil
}

// errBehind says that the store does not show yet what is known to be there.
var errBehind = errors.New("the store does not show the newest snapshot")

// createHead writes s as the successor of the head.
func (r *Repo) createHead(ctx context.Context, l *Lease, parent Snapshot, s *Snapshot) error {
	head, err := r.headFor(ctx, l, parent)
	if err != nil {
		return err
	}
	s.Epoch, s.Seq, s.Parent = l.body.Epoch, head.Seq+1, head.key()
	data, err := r.sealSnapshot(*s)
	if err != nil {
		return err
	}
	err = r.createOnce(ctx, s.Key(), data)
	if errors.Is(err, ErrExist) {
		return errBehind // an own try, believed lost, arrived late: headFor goes on from it
	}
	return err
}

func (s Snapshot) key() Key {
	if s.Epoch == 0 {
		return ""
	}
	return s.Key()
}

// headFor returns the snapshot that the holder's next one continues: its parent or an
// own later one whose answer was lost. Any other head is ErrLeaseLost, unless it is
// known to have come too late.
func (r *Repo) headFor(ctx context.Context, l *Lease, parent Snapshot) (Snapshot, error) {
	head, at, err := r.head(ctx)
	if err != nil && !errors.Is(err, ErrNoSnapshot) {
		return Snapshot{}, err
	}
	switch {
	case head.key() == parent.key():
		return head, nil
	case older(head.key(), parent.key()):
		return Snapshot{}, fmt.Errorf("%w, which is %s: it shows %q", errBehind, parent.Key(), head.key())
	case head.Mount == l.body.Mount && head.Epoch <= l.body.Epoch && head.Seq > parent.Seq:
		return head, nil
	case head.Epoch < l.body.Epoch && l.line != nil && *l.line == parent.key() && at.modified.After(l.seen):
		// It was not there yet when the lease had been taken: whoever wrote it came too
		// late, and fence has told them, or will.
		return parent, nil
	}
	return Snapshot{}, fmt.Errorf("%w: host %q saved snapshot %s", ErrLeaseLost, head.Host, head.Name())
}

// CommitConflict keeps s beside the main line, as the work of a mount that lost its
// lease. ErrMarked says that blocks must be stored anew first.
func (r *Repo) CommitConflict(ctx context.Context, c Claim, parent, s Snapshot) (Snapshot, error) {
	s.Host, s.Mount, s.Conflict, s.Nonce = c.Host, c.Mount, true, NewID()
	s.Epoch, s.Seq, s.Parent = max(parent.Epoch, 1), parent.Seq+1, parent.key()
	s, err := r.commitConflict(ctx, s)
	if err != nil {
		return Snapshot{}, fmt.Errorf("commit beside the main line: %w", err)
	}
	return s, nil
}

func (r *Repo) commitConflict(ctx context.Context, s Snapshot) (Snapshot, error) {
	// The mount may have slept for long, and what it saved may have been pruned.
	names, err := r.namesOf(ctx, s)
	if err != nil {
		return s, err
	}
	checked := r.now()
	if err := r.unmarked(ctx, names); err != nil {
		return s, err
	}
	if err := r.there(ctx, names); err != nil {
		return s, err
	}
	if s, err = r.createBeside(ctx, s); err != nil {
		return s, err
	}
	if r.now()-checked >= believed {
		return s, r.there(ctx, names)
	}
	return s, nil
}

// createBeside writes s below conflicts/, with the first number that is free.
func (r *Repo) createBeside(ctx context.Context, s Snapshot) (Snapshot, error) {
	for ; s.Seq < math.MaxUint64; s.Seq++ {
		data, err := r.sealSnapshot(s)
		if err != nil {
			return s, err
		}
		if err := r.createOnce(ctx, s.Key(), data); !errors.Is(err, ErrExist) {
			return s, err
		}
	}
	return s, errors.New("no number is left")
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
	if err := r.bucket.Put(ctx, prefixPins+Key(c.Mount), data); err != nil {
		return fmt.Errorf("pin: %w", err)
	}
	return nil
}

// Unpin ends what Pin began.
func (r *Repo) Unpin(ctx context.Context, mount string) error {
	return r.bucket.Delete(ctx, prefixPins+Key(mount))
}
