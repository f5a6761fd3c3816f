package fleet

import (
	"context"
	"errors"
	"time"

	"valise/session"
)

// Drained is what became of a profile when its host was drained.
type Drained struct {
	URL   string `json:"url"`
	State string `json:"state"` // as session.Status.State; "" = all is saved and given back
	Saved bool   `json:"saved"` // everything written before is on S3
	Error string `json:"error,omitempty"`
}

// Drain saves all profiles that this host serves or has unsaved changes of, and tells of
// each as soon as that is done or has failed. Those that are mounted stay so.
func (f *Fleet) Drain(ctx context.Context, wanted func(session.Status) bool, told func(Drained)) error {
	all, err := f.Statuses(ctx)
	if err != nil {
		return err
	}
	for _, st := range all {
		if !wanted(st) {
			continue
		}
		d := Drained{URL: st.URL}
		if err := f.drain(ctx, st); err != nil {
			d.Error = err.Error()
		}
		after, there := f.Look(ctx, st.URL, st.Dir)
		if there {
			d.State = after.State
			if d.Error == "" && after.State != session.StateMounted {
				d.Error = "it is not saved yet"
			}
		}
		d.Saved = d.Error == ""
		told(d)
	}
	return nil
}

// drain saves one profile.
func (f *Fleet) drain(ctx context.Context, st session.Status) error {
	switch {
	case st.State == session.StateMounted && st.ReadOnly:
		return nil
	case st.State == session.StateMounted && st.Conflict:
		return errors.New("another host has taken it over; what was written here is in a snapshot of its own")
	case st.State == session.StateMounted:
		c, err := session.Dial(f.cfg.RunDir, st.Dir)
		if err != nil {
			return err
		}
		return c.Sync(ctx)
	case st.State == session.StatePending && st.URL == "":
		return errors.New(st.Error)
	case st.State == session.StatePending:
		return f.finish(ctx, st.URL)
	}
	// It is being saved already.
	for {
		locked, err := session.Locked(f.cfg.StateDir, st.URL)
		if err != nil || !locked {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
