package plugin

import (
	"context"
	"errors"
	"path/filepath"

	"valise/fleet"
	"valise/session"
)

// errDraining is what Docker is told of a profile on S3 that it wants mounted.
var errDraining = errors.New("this host is being drained, so that it can be taken away (valise drain --undo takes that back)")

// Drain saves every profile on S3 that this host has changes of, tells of each, and has new
// mounts of such refused from now on. What containers have mounted stays; who stops them
// and drains again has everything saved.
func (d *Driver) Drain(ctx context.Context, told func(fleet.Drained)) error {
	if _, err := d.restored(ctx); err != nil {
		return err
	}
	d.draining.Store(true)
	// What lingers for a next session has none.
	if err := d.dropStrayMounts(ctx); err != nil {
		return err
	}
	ours := func(st session.Status) bool { return st.Dir == "" || filepath.Dir(st.Dir) == d.cfg.MountDir }
	return d.cfg.Fleet.Drain(ctx, ours, told)
}

// Undrain has mounts accepted again.
func (d *Driver) Undrain() { d.draining.Store(false) }
