package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"valise/beneath"
	"valise/identity"
	"valise/volume"
)

// Profile is what the operator's commands show of one user's profile in a workspace.
type Profile struct {
	Workspace  string `json:"workspace"`
	User       string `json:"user"`              // "" where the path names the user by id only
	UserID     string `json:"user_id,omitempty"` // "" where the path does not hold it
	Path       string `json:"path"`
	Mounts     int    `json:"mounts"`
	UsageBytes *int64 `json:"usage_bytes,omitempty"` // nil = not measured yet
	LimitBytes int64  `json:"limit_bytes,omitempty"` // 0 = none

	// Of a profile on S3.
	StoredBytes *int64 `json:"stored_bytes,omitempty"` // all its objects, nil = not asked
	State       string `json:"state,omitempty"`        // session.Status.State, "" = not on this host
	Error       string `json:"error,omitempty"`        // why it is not saved
}

// Selection picks profiles: one user's, in one workspace or ("") in all.
type Selection struct {
	User      string `json:"user"`
	UserID    string `json:"user_id,omitempty"`
	Workspace string `json:"workspace,omitempty"`
	DryRun    bool   `json:"dry_run,omitempty"`
}

// Profiles lists every profile that lies on disk, by workspace and path.
func (d *Driver) Profiles(ctx context.Context) ([]Profile, error) {
	r, err := d.restored(ctx)
	if err != nil {
		return nil, err
	}
	out := []Profile{}
	for _, name := range slices.Sorted(maps.Keys(r.Policy.Workspaces)) {
		w := r.Policy.Workspaces[name]
		if w.Storage != nil {
			places, err := d.remotePlaces(ctx, r, w)
			if err != nil {
				return nil, err
			}
			for _, p := range places {
				out = append(out, d.summary(p, p.userID, p.path()))
			}
			continue
		}
		if w.Path.IsZero() {
			continue
		}
		top, err := r.locate(w.Path.Fixed())
		if err != nil {
			return nil, err
		}
		var paths []string
		top.timeout = profileTimeout
		err = d.guarded(ctx, top, func(_ context.Context, root *beneath.Node) (err error) {
			paths, err = filepath.Glob(w.Path.Glob())
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			t, ok := w.Path.Match(path)
			if !ok || (t.ImageID != "" && t.ImageID != w.ImageID) {
				continue
			}
			out = append(out, d.summary(place{workspace: w, user: t.Username, limit: w.SizeLimit}, t.UserID, path))
		}
	}
	return out, nil
}

// restored waits for Restore, without which nobody knows what is in use, and returns
// the rules in force.
func (d *Driver) restored(ctx context.Context) (*ruling, error) {
	select {
	case <-d.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	r := d.rules.Load()
	return r, r.err
}

func (d *Driver) summary(p place, userID, path string) Profile {
	s := Profile{
		Workspace: p.workspace.Name, User: string(p.user), UserID: userID, Path: path, LimitBytes: p.limit,
		Mounts: len(d.referencesTo(func(b backing) bool { return b.Path == path })),
	}
	if p.remote != nil {
		if st, ok := d.look([]backing{p.backing()})[path]; ok {
			s.State, s.Error, s.UsageBytes = st.State, st.Error, &st.Size
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if m, ok := d.usage[path]; ok {
		s.UsageBytes = &m.Bytes
	}
	return s
}

// selected resolves the profiles of a selection that could exist.
func (d *Driver) selected(ctx context.Context, s Selection) ([]place, error) {
	if _, err := identity.ParseUsername(s.User); err != nil {
		return nil, err
	}
	r, err := d.restored(ctx)
	if err != nil {
		return nil, err
	}
	names := slices.Sorted(maps.Keys(r.Policy.Workspaces))
	if s.Workspace != "" {
		names = []string{s.Workspace}
	}
	var places []place
	for _, name := range names {
		if w := r.Policy.Workspaces[name]; s.Workspace == "" && !w.HasProfile() {
			continue
		}
		p, err := r.profile(volume.Spec{Workspace: name, Username: s.User, UserID: s.UserID})
		if err != nil {
			return nil, err
		}
		places = append(places, p)
	}
	return places, nil
}

// Show describes the profiles of a selection that exist.
func (d *Driver) Show(ctx context.Context, s Selection) ([]Profile, error) {
	places, err := d.selected(ctx, s)
	if err != nil {
		return nil, err
	}
	out := []Profile{}
	for _, p := range places {
		if p.remote != nil {
			found, size, err := d.remoteExists(ctx, p)
			if err != nil {
				return nil, err
			}
			if found {
				one := d.summary(p, s.UserID, p.path())
				one.StoredBytes = &size
				out = append(out, one)
			}
			continue
		}
		err := d.guarded(ctx, p, func(_ context.Context, root *beneath.Node) error {
			n, err := root.Open(p.rel)
			if err == nil {
				n.Close()
			}
			return err
		})
		if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, beneath.ErrRootMissing) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, d.summary(p, s.UserID, p.path()))
	}
	return out, nil
}

// Reset empties the profile of a selection, which must name a workspace.
func (d *Driver) Reset(ctx context.Context, s Selection) ([]Profile, error) {
	if s.Workspace == "" {
		return nil, errors.New("say which workspace's profile is to be reset")
	}
	return d.each(ctx, s, func(p place) error { return d.reset(ctx, p) })
}

// Purge deletes every profile of a selection, all or, where one is in use, none.
func (d *Driver) Purge(ctx context.Context, s Selection) ([]Profile, error) {
	found, err := d.Show(ctx, s)
	if err != nil || s.DryRun {
		return found, err
	}
	for _, p := range found {
		if p.Mounts > 0 {
			return nil, fmt.Errorf("profile %q %w by %d container(s): stop them first", p.Path, volume.ErrInUse, p.Mounts)
		}
	}
	return d.each(ctx, s, func(p place) error {
		_, err := d.purge(ctx, p)
		return err
	})
}

// each acts on the profiles of a selection that exist and returns them as they were.
func (d *Driver) each(ctx context.Context, s Selection, act func(place) error) ([]Profile, error) {
	places, err := d.selected(ctx, s)
	if err != nil {
		return nil, err
	}
	done := []Profile{}
	for _, p := range places {
		before, err := d.Show(ctx, Selection{User: s.User, UserID: s.UserID, Workspace: p.workspace.Name})
		if err != nil {
			return done, err
		}
		if len(before) == 0 {
			continue
		}
		if err := act(p); err != nil {
			return done, err
		}
		done = append(done, before...)
	}
	return done, nil
}
