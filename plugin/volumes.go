package plugin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"valise/volume"

	proto "github.com/docker/go-plugins-helpers/volume"
)

// Create records a volume after its options and its place were checked. A control
// volume does its work at once and is kept in memory until Docker removes it.
func (d *Driver) Create(req *proto.CreateRequest) error {
	ctx, end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	err = d.create(ctx, req)
	if err != nil {
		d.cfg.Log.Warn("create volume", "volume", req.Name, "error", err)
		d.metrics.failures.WithLabelValues("create").Inc()
	}
	return err
}

func (d *Driver) create(ctx context.Context, req *proto.CreateRequest) error {
	name, err := volume.ParseName(req.Name)
	if err != nil {
		return err
	}
	spec, err := volume.Parse(req.Options)
	if err != nil {
		return fmt.Errorf("volume %q: %w", name, err)
	}
	d.mu.Lock()
	old := d.volumes[name]
	d.mu.Unlock()
	if old != nil {
		return old.sameOptions(req.Options)
	}
	p, err := d.resolve(spec)
	if err != nil {
		return err
	}
	if spec.Control == volume.Reset {
		err = d.reset(ctx, p)
	} else {
		err = d.check(ctx, p)
	}
	if err != nil {
		return err
	}
	if spec.Control == volume.Check && p.remote != nil {
		d.later(0, func() { d.anticipate(p) })
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if spec.Control != "" {
		d.control[name] = d.cfg.Now()
		return nil
	}
	if old := d.volumes[name]; old != nil {
		return old.sameOptions(req.Options)
	}
	r := &record{Version: recordVersion, Name: name, Options: req.Options, CreatedAt: d.cfg.Now().UTC()}
	if err := d.records.save(r); err != nil {
		return err
	}
	d.volumes[name] = r
	return nil
}

// errNoVolume is what Docker takes for "it is gone".
var errNoVolume = errors.New("no such volume")

// Remove forgets a volume. Its data stays.
func (d *Driver) Remove(req *proto.RemoveRequest) error {
	_, end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	d.mu.Lock()
	defer d.mu.Unlock()
	name := volume.Name(req.Name)
	if _, ok := d.control[name]; ok {
		delete(d.control, name)
		return nil
	}
	r := d.volumes[name]
	if r == nil {
		return fmt.Errorf("%w %q", errNoVolume, name)
	}
	if len(r.Mounts) > 0 {
		return fmt.Errorf("volume %q is mounted %d times", name, len(r.Mounts))
	}
	if err := d.records.remove(name); err != nil {
		return err
	}
	delete(d.volumes, name)
	delete(d.errs, name)
	return nil
}

// Get describes one volume, without touching any file system of a profile's.
func (d *Driver) Get(req *proto.GetRequest) (*proto.GetResponse, error) {
	_, end, err := d.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	name := volume.Name(req.Name)
	remotes := d.lookAt(func(n volume.Name) bool { return n == name })
	d.mu.Lock()
	defer d.mu.Unlock()
	if at, ok := d.control[name]; ok {
		return &proto.GetResponse{Volume: &proto.Volume{Name: req.Name, CreatedAt: at.UTC().Format(time.RFC3339)}}, nil
	}
	r := d.volumes[name]
	if r == nil {
		return nil, fmt.Errorf("%w %q", errNoVolume, name)
	}
	return &proto.GetResponse{Volume: d.describe(r, remotes)}, nil
}

// List describes every volume.
func (d *Driver) List() (*proto.ListResponse, error) {
	_, end, err := d.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	remotes := d.lookAt(func(volume.Name) bool { return true })
	d.mu.Lock()
	defer d.mu.Unlock()
	res := &proto.ListResponse{Volumes: []*proto.Volume{}}
	for _, r := range d.volumes {
		res.Volumes = append(res.Volumes, d.describe(r, remotes))
	}
	slices.SortFunc(res.Volumes, func(a, b *proto.Volume) int { return strings.Compare(a.Name, b.Name) })
	return res, nil
}

// Path returns where a volume is mounted, "" where it is not.
func (d *Driver) Path(req *proto.PathRequest) (*proto.PathResponse, error) {
	res, err := d.Get(&proto.GetRequest{Name: req.Name})
	if err != nil {
		return nil, err
	}
	return &proto.PathResponse{Mountpoint: res.Volume.Mountpoint}, nil
}

// Capabilities says that volumes are this host's: every host keeps its own records.
func (d *Driver) Capabilities() *proto.CapabilitiesResponse {
	return &proto.CapabilitiesResponse{Capabilities: proto.Capability{Scope: "local"}}
}
