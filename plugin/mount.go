package plugin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"valise/beneath"
	"valise/volume"

	proto "github.com/docker/go-plugins-helpers/volume"
)

// Mount makes a volume's directory available and notes that id has it. The same id
// again is no second reference: Docker repeats itself after a restart.
func (d *Driver) Mount(req *proto.MountRequest) (*proto.MountResponse, error) {
	ctx, end, err := d.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	started := d.cfg.Now()
	name := volume.Name(req.Name)
	at, err := d.mount(ctx, name, req.ID)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.errs[name] = err.Error()
		d.metrics.failures.WithLabelValues("mount").Inc()
		d.cfg.Log.Error("mount volume", "volume", name, "id", req.ID, "error", err)
		return nil, err
	}
	delete(d.errs, name)
	d.metrics.mountSeconds.Observe(d.cfg.Now().Sub(started).Seconds())
	return &proto.MountResponse{Mountpoint: at}, nil
}

func (d *Driver) mount(ctx context.Context, name volume.Name, id string) (string, error) {
	p, err := d.placeOf(name)
	if err != nil {
		return "", err
	}
	p.points = d.lookAtPoints(ctx, p)
	unlock, err := d.locks.lock(ctx, p.path())
	if err != nil {
		return "", err
	}
	defer unlock()
	at := d.mountpoint(p.backing())
	if err := d.attach(ctx, p, at); err != nil {
		return "", err
	}
	src, err := sourceOf(at)
	if err == nil {
		err = d.refer(name, reference{ID: id, Boot: d.boot, MountedAt: d.cfg.Now().UTC(), Backing: p.backing(), Source: src})
	}
	if err != nil {
		return "", errors.Join(err, d.detachUnused(d.ctx, p.backing()))
	}
	d.cfg.Log.Info("mounted", "volume", name, "id", id, "path", p.path(), "user", p.user)
	d.measureSoon(p)
	return at, nil
}

// placeOf resolves a recorded volume by the rules of now.
func (d *Driver) placeOf(name volume.Name) (place, error) {
	d.mu.Lock()
	r := d.volumes[name]
	_, control := d.control[name]
	d.mu.Unlock()
	switch {
	case control:
		return place{}, fmt.Errorf("volume %q is a control volume and can't be mounted", name)
	case r == nil:
		return place{}, fmt.Errorf("%w %q", errNoVolume, name)
	}
	spec, err := volume.Parse(r.Options)
	if err != nil {
		return place{}, fmt.Errorf("volume %q: %w", name, err)
	}
	return d.resolve(spec)
}

// mountpoint is where a backing is mounted for Docker.
func (d *Driver) mountpoint(b backing) string {
	h := sha256.Sum256(fmt.Appendf(nil, "%q %t", b.Path, b.ReadOnly))
	return filepath.Join(d.cfg.MountDir, hex.EncodeToString(h[:12]))
}

// attach makes the place and mounts it at at, unless just that is mounted there.
func (d *Driver) attach(ctx context.Context, p place, at string) error {
	if p.remote != nil {
		return d.attachRemote(ctx, p, at)
	}
	return d.guarded(ctx, p, func(ctx context.Context, root *beneath.Node) error {
		n, err := d.open(root, p)
		if err != nil {
			return err
		}
		defer n.Close()
		want, err := n.Stat()
		if err != nil {
			return err
		}
		mounted, err := isMountpoint(at)
		if err != nil {
			return err
		}
		if mounted && sameFile(at, want) {
			return nil
		}
		// What was mounted before a reset, or before the root itself was mounted anew.
		if err := beneath.Unbind(at); err != nil {
			return err
		}
		if err := makeTarget(at, want.IsDir()); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err // nobody waits any more
		}
		if err := n.Bind(at, p.readOnly); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return errors.Join(err, beneath.Unbind(at))
		}
		return nil
	})
}

func sameFile(at string, want beneath.Info) bool {
	fi, err := os.Stat(at)
	return err == nil && want.Is(fi)
}

// makeTarget makes the directory or file that a mount covers.
func makeTarget(at string, dir bool) error {
	fi, err := os.Lstat(at)
	switch {
	case err == nil && fi.IsDir() == dir:
		return nil
	case err == nil:
		if err := os.Remove(at); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if dir {
		return os.Mkdir(at, 0o700)
	}
	f, err := os.OpenFile(at, os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// refer adds a reference to a volume's record, in place of an older one of its id.
func (d *Driver) refer(name volume.Name, ref reference) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.volumes[name]
	if r == nil {
		return fmt.Errorf("%w %q", errNoVolume, name)
	}
	before := r.Mounts
	r.Mounts = append(slices.DeleteFunc(slices.Clone(before), func(o reference) bool { return o.ID == ref.ID }), ref)
	if err := d.records.save(r); err != nil {
		r.Mounts = before
		return err
	}
	return nil
}

// Unmount takes id's reference back. A reference that is not known is no error: the
// end that Docker wants is reached.
func (d *Driver) Unmount(req *proto.UnmountRequest) error {
	ctx, end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	b, found, err := d.unrefer(volume.Name(req.Name), req.ID)
	if err != nil || !found {
		return err
	}
	linger := d.cfg.Linger
	if b.Remote {
		d.idle(ctx, b)
		linger = min(linger, remoteLinger)
	}
	d.later(linger, func() {
		if err := d.detachLocked(d.ctx, b); err != nil {
			d.cfg.Log.Error("unmount", "path", b.Path, "error", err)
		}
	})
	return nil
}

// unrefer drops a reference, if it is known, and returns what it led to.
func (d *Driver) unrefer(name volume.Name, id string) (b backing, found bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.volumes[name]
	if r == nil {
		d.cfg.Log.Warn("unmount of a volume that is not known", "volume", name, "id", id)
		return b, false, nil
	}
	before := r.Mounts
	i := slices.IndexFunc(before, func(ref reference) bool { return ref.ID == id })
	if i < 0 {
		d.cfg.Log.Warn("unmount of an id that has no mount", "volume", name, "id", id)
		return b, false, nil
	}
	b = before[i].Backing
	r.Mounts = slices.Delete(slices.Clone(before), i, i+1)
	if err := d.records.save(r); err != nil {
		r.Mounts = before
		return b, false, err
	}
	d.cfg.Log.Info("unmounted", "volume", name, "id", id, "path", b.Path)
	if _, p, err := d.recall(r); err == nil && p.measured() {
		d.later(0, func() { d.measure(b.Path, p.limit) }) // what the session left
	}
	return b, true, nil
}

// later runs f after a while, unless the driver is closed before.
func (d *Driver) later(after time.Duration, f func()) {
	d.running.Go(func() {
		t := time.NewTimer(after)
		defer t.Stop()
		select {
		case <-t.C:
			f()
		case <-d.ctx.Done():
		}
	})
}

// detachLocked takes the backing's lock, then does detachUnused.
func (d *Driver) detachLocked(ctx context.Context, b backing) error {
	unlock, err := d.locks.lock(ctx, b.Path)
	if err != nil {
		return err
	}
	defer unlock()
	return d.detachUnused(ctx, b)
}

// detachUnused unmounts a backing that nobody refers to. The caller holds its lock.
func (d *Driver) detachUnused(ctx context.Context, b backing) error {
	if len(d.referencesTo(func(o backing) bool { return o == b })) > 0 {
		return nil
	}
	at := d.mountpoint(b)
	if b.Remote {
		if err := d.endRemote(ctx, at); err != nil {
			return err
		}
	}
	if err := beneath.Unbind(at); err != nil {
		return err
	}
	if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// referencesTo returns the references whose backing is wanted.
func (d *Driver) referencesTo(want func(backing) bool) []reference {
	d.mu.Lock()
	defer d.mu.Unlock()
	var refs []reference
	for _, r := range d.volumes {
		for _, ref := range r.Mounts {
			if want(ref.Backing) {
				refs = append(refs, ref)
			}
		}
	}
	return refs
}
