package session

import (
	"time"

	"valise/cache"
	"valise/layer"
	"valise/store"
)

// Status is what people and programs are told of a session.
type Status struct {
	URL      string `json:"url"`
	Dir      string `json:"dir"`
	Host     string `json:"host"`
	Mount    string `json:"mount"`
	State    string `json:"state"`
	ReadOnly bool   `json:"read_only"`

	Base     string    `json:"base"`     // the snapshot that was mounted
	Snapshot string    `json:"snapshot"` // the newest that this mount saved, or the base
	SavedAt  time.Time `json:"saved_at,omitzero"`
	LastSave time.Time `json:"last_save,omitzero"` // everything written before it is saved
	LastTry  time.Time `json:"last_try,omitzero"`
	Error    string    `json:"error,omitempty"` // of the last try

	Size      int64 `json:"size"`            // bytes, when last saved or measured
	Limit     int64 `json:"limit,omitempty"` // bytes
	OverLimit bool  `json:"over_limit"`
	Conflict  bool  `json:"conflict"` // another host took over: saves go beside the main line

	Skipped []layer.Skipped `json:"skipped,omitempty"` // what cannot be saved
	LeaseS  float64         `json:"lease_seconds"`     // until others could take over

	Progress Progress `json:"progress,omitzero"` // of a migration

	Traffic store.Traffic `json:"traffic"`
	Cache   cache.Stats   `json:"cache"`
}

// The values of Status.State.
const (
	StateMounted = "mounted"
	StateEnding  = "ending"  // unmounted, saving what is left
	StatePending = "pending" // not mounted, with changes that are not saved

	StateMigrating = "migrating" // not mounted yet
)

func (st *Status) saved(s store.Snapshot) {
	if s.Epoch != 0 {
		st.Snapshot, st.SavedAt, st.Size = s.Name(), s.Time, s.Size
	}
}

func (s *Session) setStatus(change func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.status)
}

// note keeps what a scan could not save.
func (s *Session) note(scan *layer.Scan) {
	s.setStatus(func(st *Status) { st.Skipped = scan.Skipped })
}

// Status returns the state of the moment.
func (s *Session) Status() Status {
	s.mu.Lock()
	st := s.status
	s.mu.Unlock()
	if !s.opened.Load() {
		return st
	}
	st.Traffic = s.meter.Traffic()
	st.Cache = s.packs.Stats()
	if s.lease != nil {
		st.LeaseS = s.lease.Left().Seconds()
	}
	return st
}

// Requests returns how many FUSE requests of each kind this process served.
func (s *Session) Requests() map[string]uint64 { return s.server.Requests() }
