package plugin

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"valise/beneath"
)

// Restore takes up what an earlier driver left: records, mounts, unfinished
// deletions. Calls wait until it is done. Then it starts the background work.
func (d *Driver) Restore() error {
	if err := d.makeDirs(); err != nil {
		return err
	}
	records, faults := d.records.load()
	for _, err := range faults {
		d.cfg.Log.Error("restore", "error", err)
	}
	d.mu.Lock()
	for _, r := range records {
		d.volumes[r.Name] = r
		before := len(r.Mounts)
		r.Mounts = slices.DeleteFunc(r.Mounts, func(ref reference) bool { return ref.Boot != d.boot })
		if len(r.Mounts) != before {
			if err := d.records.save(r); err != nil {
				d.mu.Unlock()
				return err
			}
		}
	}
	d.mu.Unlock()
	if err := d.dropStrayMounts(d.ctx); err != nil {
		return err
	}
	d.cfg.Log.Info("restored", "volumes", len(records))
	close(d.ready)
	d.later(0, d.finishTrash)
	d.every(trashInterval, d.finishTrash)
	d.every(upkeepTick, d.keepUp)
	d.later(0, d.forgetTrees)
	d.every(24*time.Hour, d.forgetTrees)
	for _, f := range []func(){d.reviveRemotes, d.finishRemotes} {
		d.later(0, f)
		d.every(remoteInterval, f)
	}
	d.later(0, d.measureMounted)
	d.every(d.cfg.UsageInterval, d.measureMounted)
	d.every(time.Minute, func() {
		if err := d.reconcile(func(backing) bool { return true }); err != nil {
			d.cfg.Log.Warn("reconcile references", "error", err)
		}
		d.expireControls()
	})
	return nil
}

// dropStrayMounts unmounts what no reference leads to, such as a mount made just
// before a crash.
func (d *Driver) dropStrayMounts(ctx context.Context) error {
	wanted := map[string]bool{}
	for _, ref := range d.referencesTo(func(backing) bool { return true }) {
		wanted[d.mountpoint(ref.Backing)] = true
	}
	entries, err := os.ReadDir(d.cfg.MountDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(d.cfg.MountDir, e.Name())
		if wanted[path] {
			continue
		}
		if err := d.endRemote(ctx, path); err != nil {
			d.cfg.Log.Error("unmount what nobody uses", "path", path, "error", err)
			continue
		}
		if err := beneath.Unbind(path); err != nil {
			return err
		}
		if err := os.Remove(path); err != nil {
			d.cfg.Log.Warn("remove an unused mount point", "path", path, "error", err)
		}
	}
	return nil
}

// trashInterval is how long after a deletion that failed it is tried again.
const trashInterval = 10 * time.Minute

// every runs f again and again until the driver is closed.
func (d *Driver) every(interval time.Duration, f func()) {
	d.running.Go(func() {
		t := time.NewTicker(interval)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				f()
			case <-d.ctx.Done():
				return
			}
		}
	})
}

// startGrace is how long a reference is believed without a container that holds the
// mount: Docker asks for the mount some time before the container runs.
const startGrace = 2 * time.Minute

// reconcile drops references that no container holds any more: an exited or removed
// container never sends Unmount to a driver that was away.
func (d *Driver) reconcile(want func(backing) bool) error {
	old := func(ref reference) bool {
		return want(ref.Backing) && d.cfg.Now().Sub(ref.MountedAt) > startGrace
	}
	if !slices.ContainsFunc(d.referencesTo(want), old) {
		return nil
	}
	holds, err := held(d.cfg.MountDir, d.cfg.HostProcess)
	if err != nil {
		return err
	}
	d.mu.Lock()
	var dropped []backing
	for _, r := range d.volumes {
		before := r.Mounts
		r.Mounts = slices.DeleteFunc(slices.Clone(before), func(ref reference) bool {
			gone := old(ref) && !holds[ref.Source]
			if gone {
				dropped = append(dropped, ref.Backing)
				d.cfg.Log.Info("dropped a reference that no container holds", "volume", r.Name, "id", ref.ID, "path", ref.Backing.Path)
			}
			return gone
		})
		if len(r.Mounts) != len(before) {
			if err := d.records.save(r); err != nil {
				r.Mounts = before
				d.mu.Unlock()
				return err
			}
		}
	}
	d.mu.Unlock()
	for _, b := range dropped {
		if err := d.detachLocked(d.ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// controlLife is how long a control volume is remembered that Docker did not remove.
const controlLife = 10 * time.Minute

func (d *Driver) expireControls() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, at := range d.control {
		if d.cfg.Now().Sub(at) > controlLife {
			delete(d.control, name)
		}
	}
}
