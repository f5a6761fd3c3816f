package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"valise/durable"
	"valise/fleet"
	"valise/store"
)

// Upkeep says when profiles on S3 are pruned and checked.
type Upkeep struct {
	Off                     bool
	Interval, CheckInterval time.Duration
	CheckData               bool
	Keep                    store.Retention
}

// tended is when a profile was last pruned and checked by this host.
type tended struct {
	Pruned  time.Time `json:"pruned,omitzero"`
	Checked time.Time `json:"checked,omitzero"`
}

const (
	// upkeepTick is how often it is looked whether it is time for upkeep.
	upkeepTick = 5 * time.Second
	// upkeepLook is the longest time between two looks which profiles there are.
	upkeepLook = time.Hour
)

// keepUp prunes and checks the profiles on S3, one after the other, whose time has come.
// One goroutine calls it.
func (d *Driver) keepUp() {
	r := d.rules.Load()
	if r.err != nil || r.Upkeep.Off || d.cfg.Now().Sub(d.looked) < min(r.Upkeep.Interval, r.Upkeep.CheckInterval, upkeepLook) {
		return
	}
	d.looked = d.cfg.Now()
	before, err := d.readUpkeep()
	if err != nil {
		d.cfg.Log.Warn("upkeep: every profile's time has come", "error", err)
	}
	now := map[string]tended{}
	for _, settings := range d.allRemotes(r) {
		if d.ctx.Err() != nil {
			return
		}
		now[settings.URL] = d.tend(settings, r.Upkeep, before[settings.URL])
	}
	if maps.Equal(now, before) {
		return
	}
	if err := durable.WriteJSON(d.upkeepFile(), now); err != nil {
		d.cfg.Log.Warn("upkeep", "error", err)
	}
}

// tend does what is due for one profile. What fails is tried again when it is next due.
func (d *Driver) tend(s fleet.Settings, u Upkeep, last tended) tended {
	before := last
	if t := d.cfg.Now(); t.Sub(last.Pruned) >= u.Interval {
		last.Pruned = t.UTC()
		res, err := d.cfg.Fleet.Prune(d.ctx, s, u.Keep)
		if d.ctx.Err() != nil {
			return before
		}
		d.metrics.upkeep.WithLabelValues("prune", outcome(err)).Inc()
		d.metrics.forgotten.Add(float64(len(res.Forgotten)))
		d.metrics.deleted.Add(float64(res.Deleted))
	}
	if t := d.cfg.Now(); t.Sub(last.Checked) >= u.CheckInterval {
		last.Checked = t.UTC()
		res, err := d.cfg.Fleet.Check(d.ctx, s, u.CheckData)
		if d.ctx.Err() != nil {
			return before
		}
		d.metrics.upkeep.WithLabelValues("check", outcome(err)).Inc()
		d.metrics.faults.WithLabelValues(s.URL).Set(float64(len(res.Faults)))
	}
	return last
}

func outcome(err error) string {
	if err != nil {
		return "failed"
	}
	return "ok"
}

// allRemotes are the settings of every profile that lies on S3.
func (d *Driver) allRemotes(r *ruling) []fleet.Settings {
	var all []fleet.Settings
	for _, name := range slices.Sorted(maps.Keys(r.Policy.Workspaces)) {
		w := r.Policy.Workspaces[name]
		if w.Storage == nil {
			continue
		}
		places, err := d.remotePlaces(d.ctx, r, w)
		if err != nil {
			d.cfg.Log.Warn("upkeep", "error", err)
		}
		for _, p := range places {
			all = append(all, *p.remote)
		}
	}
	return all
}

func (d *Driver) upkeepFile() string { return filepath.Join(d.cfg.StateDir, "upkeep.json") }

func (d *Driver) readUpkeep() (map[string]tended, error) {
	data, err := os.ReadFile(d.upkeepFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out map[string]tended
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.upkeepFile(), err)
	}
	return out, nil
}
