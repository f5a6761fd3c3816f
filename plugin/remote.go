package plugin

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"valise/beneath"
	"valise/fleet"
	"valise/identity"
	"valise/layer"
	"valise/profile"
	"valise/session"
	"valise/volume"
)

const (
	// remoteLinger is Linger for profiles on S3: other hosts wait for its end.
	remoteLinger = 2 * time.Second
	// idleTime is how long an Unmount waits for the local disk; dockerd gives it 60 s.
	idleTime = 45 * time.Second
	// endTime is how long the end of a mount may take. What is to be saved is saved after it.
	endTime = 30 * time.Second
	// remoteInterval is how often mounts whose process has died, and what such left
	// unsaved, are looked for.
	remoteInterval = 10 * time.Second
	// anticipateTime is how long the mounting ahead of a container may take.
	anticipateTime = 10 * time.Second
	// treesKept is how long the tree of a profile is kept that nobody mounts.
	treesKept = 30 * 24 * time.Hour
	// statusTime is how long a process may take to say how it is.
	statusTime = time.Second
)

// onS3 is the place of a profile on S3, with the launch's overrides.
func (r *ruling) onS3(w *profile.Workspace, tokens identity.Tokens, s volume.Spec) (place, error) {
	settings, err := r.Remote(w, tokens)
	if err != nil {
		return place{}, err
	}
	if s.Filter != "" {
		if _, err := layer.ParseFilter(s.Filter); err != nil {
			return place{}, err
		}
		settings.Filter = s.Filter
	}
	if s.SizeLimit > 0 {
		settings.SizeLimit = s.SizeLimit
	}
	if !w.Path.IsZero() {
		from, err := r.inDirectory(w, tokens)
		if err != nil {
			return place{}, err
		}
		settings.Source = &fleet.Source{Directory: &fleet.Directory{
			Root: from.root.Path, RequireMount: from.root.RequireMount, Marker: from.root.Marker, Rel: from.rel,
		}}
	}
	return place{remote: &settings, limit: settings.SizeLimit}, nil
}

// attachRemote has a profile on S3 mounted at at, by a process of its own.
func (d *Driver) attachRemote(ctx context.Context, p place, at string) error {
	if d.draining.Load() {
		return fmt.Errorf("%s: %w", p, errDraining)
	}
	if err := makeTarget(at, true); err != nil {
		return err
	}
	settings := *p.remote
	settings.Dir = at
	if err := d.sourceUnused(settings); err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	inUse := len(d.referencesTo(func(b backing) bool { return b == p.backing() })) > 0
	if err := d.cfg.Fleet.Mount(ctx, settings, inUse); err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	st, err := d.cfg.Fleet.Status(ctx, at)
	if err != nil {
		return err
	}
	mounted, err := isMountpoint(at)
	switch {
	case err != nil:
		return err
	case !mounted:
		return fmt.Errorf("%s is in use by a container from before the driver was disabled, which can't be shared any more: stop that container first", p)
	case st.ReadOnly:
		return nil
	}
	return d.arrange(ctx, p, at)
}

// anticipate mounts a profile for which the proxy has just asked whether that is possible:
// while Docker makes the container, S3 is asked what there is to know. If the container
// does not come, the mount goes again.
func (d *Driver) anticipate(p place) {
	ctx, cancel := context.WithTimeout(d.ctx, anticipateTime)
	defer cancel()
	b := p.backing()
	unlock, err := d.locks.lock(ctx, b.Path)
	if err != nil {
		return
	}
	if len(d.referencesTo(func(o backing) bool { return o == b })) == 0 {
		err = d.attachRemote(ctx, p, d.mountpoint(b))
	}
	unlock()
	if err != nil {
		d.cfg.Log.Debug("mount ahead of a container", "path", b.Path, "error", err) // its own mount will tell
	}
	d.later(d.cfg.Linger, func() {
		if err := d.detachLocked(d.ctx, b); err != nil {
			d.cfg.Log.Error("unmount", "path", b.Path, "error", err)
		}
	})
}

// sourceUnused refuses to make a profile from a directory that containers write to.
func (d *Driver) sourceUnused(s fleet.Settings) error {
	if s.Source == nil || s.Source.Directory == nil || d.cfg.Fleet.Migrated(s.URL) {
		return nil
	}
	from := filepath.Join(s.Source.Directory.Root, s.Source.Directory.Rel)
	if n := len(d.referencesTo(func(b backing) bool { return b.Path == from })); n > 0 {
		return fmt.Errorf("it is to be made from %q, which %d container(s) still use: stop them first", from, n)
	}
	return nil
}

// arrange gives a mounted home its owner, its mode and the mount points that mappings need.
func (d *Driver) arrange(ctx context.Context, p place, at string) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	return d.guard.do(ctx, p.lane(), p.path(), func(context.Context) error {
		home, err := beneath.Root{Path: at}.Open()
		if err != nil {
			return err
		}
		defer home.Close()
		w := p.workspace
		if err = home.Own(w.UID, w.GID); err == nil {
			err = home.Chmod(w.Mode)
		}
		for i := 0; err == nil && i < len(p.points); i++ {
			err = makePoint(home, p, p.points[i])
		}
		return err
	})
}

// idle makes what the last session wrote durable on this host, and tells other hosts that
// it is over.
func (d *Driver) idle(ctx context.Context, b backing) {
	ctx, cancel := context.WithTimeout(ctx, idleTime)
	defer cancel()
	unlock, err := d.locks.lock(ctx, b.Path)
	if err == nil {
		defer unlock()
		if len(d.referencesTo(func(o backing) bool { return o == b })) > 0 {
			return
		}
		err = d.cfg.Fleet.Idle(ctx, d.mountpoint(b))
	}
	if err != nil {
		d.cfg.Log.Warn("end of a session", "path", b.Path, "error", err)
	}
}

// endRemote ends the process that serves what is mounted at at, if one does.
func (d *Driver) endRemote(ctx context.Context, at string) error {
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	return d.cfg.Fleet.End(ctx, at)
}

// forgetTrees deletes what makes the next mount of a profile quick where there was none for
// a month: it takes some 100 bytes for each file of the home.
func (d *Driver) forgetTrees() {
	if err := d.cfg.Fleet.ForgetTrees(d.cfg.Now().Add(-treesKept)); err != nil {
		d.cfg.Log.Warn("delete the trees of profiles that are not used", "error", err)
	}
}

// remotesInUse are the profiles on S3 that containers have, by URL.
func (d *Driver) remotesInUse() map[string]backing {
	used := map[string]backing{}
	for _, ref := range d.referencesTo(func(b backing) bool { return b.Remote }) {
		used[ref.Backing.Path] = ref.Backing
	}
	return used
}

// finishRemotes saves what processes have left that are gone.
func (d *Driver) finishRemotes() {
	d.cfg.Fleet.FinishPending(d.ctx, func(url string) bool { _, ok := d.remotesInUse()[url]; return ok })
}

// reviveRemotes starts processes for mounts whose process has died under its containers.
func (d *Driver) reviveRemotes() {
	used := d.remotesInUse()
	for _, url := range slices.Sorted(maps.Keys(used)) {
		if err := d.revive(used[url]); err != nil {
			d.cfg.Log.Error("bring a mount back whose process has died", "path", url, "error", err)
		}
	}
}

// revive mounts a profile again whose processes are all dead while containers have it.
// They see the files that were not in use again after they are restarted; what they go on
// writing is saved.
func (d *Driver) revive(b backing) error {
	at := d.mountpoint(b)
	if dead, err := d.cfg.Fleet.Abandoned(at); err != nil || !dead {
		return err
	}
	ctx, cancel := context.WithTimeout(d.ctx, deadline)
	defer cancel()
	unlock, err := d.locks.lock(ctx, b.Path)
	if err != nil {
		return err
	}
	defer unlock()
	if len(d.referencesTo(func(o backing) bool { return o == b })) == 0 {
		return nil
	}
	settings, err := d.cfg.Fleet.Last(b.Path)
	if err != nil {
		return err
	}
	settings.Dir = at
	return d.cfg.Fleet.Mount(ctx, settings, true)
}

// look asks how the profiles on S3 among the backings are, all at once.
func (d *Driver) look(backings []backing) map[string]session.Status {
	found := map[string]session.Status{}
	var mu sync.Mutex // guards found
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(d.ctx, statusTime)
	defer cancel()
	for _, b := range backings {
		wg.Go(func() {
			if st, ok := d.cfg.Fleet.Look(ctx, b.Path, d.mountpoint(b)); ok {
				mu.Lock()
				defer mu.Unlock()
				found[b.Path] = st
			}
		})
	}
	wg.Wait()
	return found
}

// lookAt is look for the volumes that are wanted.
func (d *Driver) lookAt(want func(volume.Name) bool) map[string]session.Status {
	var backings []backing
	d.mu.Lock()
	for name, r := range d.volumes {
		if !want(name) {
			continue
		}
		if _, p, err := d.recall(r); err == nil && p.remote != nil {
			backings = append(backings, p.backing())
		}
	}
	d.mu.Unlock()
	if len(backings) == 0 {
		return nil
	}
	return d.look(backings)
}

// remoteStatuses are those of all profiles on S3 that this driver serves or has unsaved
// changes of.
func (d *Driver) remoteStatuses() []session.Status {
	ctx, cancel := context.WithTimeout(d.ctx, statusTime)
	defer cancel()
	all, err := d.cfg.Fleet.Statuses(ctx)
	if err != nil {
		d.cfg.Log.Warn("look at the profiles on S3", "error", err)
	}
	return slices.DeleteFunc(all, func(st session.Status) bool { // of mounts by hand
		return st.Dir != "" && filepath.Dir(st.Dir) != d.cfg.MountDir
	})
}

// unsavedBecause says why a profile's changes can't be saved, "" if they can.
func unsavedBecause(st session.Status) string {
	switch {
	case st.OverLimit:
		return "over the limit"
	case st.Conflict:
		return "conflict"
	case st.State == session.StatePending:
		return "pending"
	case st.Error != "":
		return "error"
	}
	return ""
}

// describeRemote adds what `docker volume inspect` shows of a profile on S3.
func describeRemote(status map[string]any, p place, st session.Status) {
	status["state"], status["saved"] = st.State, st.Error == "" && !st.OverLimit && st.State != session.StatePending
	status["over_limit"], status["conflict"], status["read_only"] = st.OverLimit, st.Conflict, st.ReadOnly
	if st.Error != "" {
		status["last_error"] = st.Error
	}
	if st.State == session.StateMigrating {
		status["progress"] = st.Progress.String()
	}
	if st.Snapshot != "" {
		status["snapshot"] = st.Snapshot
	}
	if at := cmp.Or(st.LastSave, st.SavedAt); !at.IsZero() {
		status["saved_at"] = at.UTC().Format(time.RFC3339)
	}
	if st.Size > 0 || !st.SavedAt.IsZero() {
		status["usage_bytes"] = st.Size
		status["fill"] = string(profile.Judge(st.Size, p.limit))
	}
}
