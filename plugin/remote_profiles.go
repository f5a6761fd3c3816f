package plugin

import (
	"context"
	"fmt"

	"valise/fleet"
	"valise/profile"
	"valise/volume"
)

// resetRemote makes a profile on S3 an empty home; its older snapshots stay.
func (d *Driver) resetRemote(ctx context.Context, p place) error {
	return d.unused(ctx, p, func() error {
		settings := *p.remote
		settings.Dir = d.mountpoint(p.backing())
		if err := d.cfg.Fleet.Reset(ctx, settings); err != nil {
			return inUse(p, err)
		}
		d.cfg.Log.Info("reset profile", "user", p.user, "workspace", p.workspace.Name, "path", p.path())
		return nil
	})
}

// purgeRemote deletes a profile on S3.
func (d *Driver) purgeRemote(ctx context.Context, p place) (found bool, err error) {
	err = d.unused(ctx, p, func() error {
		settings := *p.remote
		settings.Dir = d.mountpoint(p.backing())
		res, err := d.cfg.Fleet.Purge(ctx, settings, false)
		found = res.Objects > 0
		return inUse(p, err)
	})
	return found, err
}

// inUse marks an error that says that another host, or a process of this one, has the
// profile.
func inUse(p place, err error) error {
	if err == nil || !fleet.InUse(err) {
		return err
	}
	return fmt.Errorf("%s %w: %w", p, volume.ErrInUse, err)
}

// remoteExists reports whether there is a profile on S3 and how much it takes there.
func (d *Driver) remoteExists(ctx context.Context, p place) (bool, int64, error) {
	settings := *p.remote
	settings.Dir = d.mountpoint(p.backing())
	res, err := d.cfg.Fleet.Size(ctx, settings)
	return res.Objects > 0, res.Bytes, err
}

// remotePlaces are the profiles that a workspace has on S3.
func (d *Driver) remotePlaces(ctx context.Context, r *ruling, w *profile.Workspace) ([]place, error) {
	urls, err := r.Stored(ctx, w.Storage)
	if err != nil {
		return nil, fmt.Errorf("workspace %q: %w", w.Name, err)
	}
	var out []place
	for _, url := range urls {
		tokens, ok := w.Storage.Match(url)
		if !ok || tokens.ImageID != "" && tokens.ImageID != w.ImageID {
			continue
		}
		tokens.ImageID = w.ImageID
		settings, err := r.Remote(w, tokens)
		if err != nil {
			d.cfg.Log.Warn("a profile that no user can have", "path", url, "error", err)
			continue
		}
		out = append(out, place{remote: &settings, workspace: w, user: tokens.Username, userID: tokens.UserID, limit: settings.SizeLimit})
	}
	return out, nil
}
