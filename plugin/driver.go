package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"valise/beneath"
	"valise/mapping"
	"valise/volume"

	proto "github.com/docker/go-plugins-helpers/volume"
)

// Rules are what the configuration says of the driver's work.
type Rules struct {
	Policy *mapping.Policy
	Roots  []beneath.Root
}

// Config are the driver's fixed settings.
type Config struct {
	StateDir string // records; survives the driver, the host's reboot, and the plugin's removal
	MountDir string // what Docker is handed lies here

	Linger        time.Duration // how long an unused mount stays; 0 = DefaultLinger
	UsageInterval time.Duration // between two measurements of a mounted profile; 0 = 5 minutes

	Log *slog.Logger
	Now func() time.Time // nil = time.Now
}

// DefaultLinger covers Docker's Mount, Unmount, Mount when a container is created
// and started.
const DefaultLinger = 10 * time.Second

// deadline ends every call well before dockerd gives up on it (120 s).
const deadline = 100 * time.Second

// Driver implements Docker's volume protocol.
type Driver struct {
	cfg     Config
	boot    string
	rules   atomic.Pointer[ruling]
	records recordStore
	trash   trashStore
	guard   *guard
	locks   keyLocks
	metrics *metrics

	ready   chan struct{} // closed when restored
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup // background work

	mu      sync.Mutex // guards what follows
	volumes map[volume.Name]*record
	control map[volume.Name]time.Time // control volumes and when they came
	usage   map[string]measurement    // by backing path
	errs    map[volume.Name]string    // last error
}

// ruling are the rules in force, or why there are none.
type ruling struct {
	Rules
	err error
}

// New prepares a driver; Restore takes up what an earlier one left.
func New(cfg Config) (*Driver, error) {
	if cfg.Linger == 0 {
		cfg.Linger = DefaultLinger
	}
	if cfg.UsageInterval == 0 {
		cfg.UsageInterval = 5 * time.Minute
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read the boot id: %w", err)
	}
	d := &Driver{
		cfg: cfg, boot: string(boot[:len(boot)-1]),
		records: recordStore{dir: filepath.Join(cfg.StateDir, "volumes")},
		trash:   trashStore{dir: filepath.Join(cfg.StateDir, "trash")},
		guard:   newGuard(cfg.Now), ready: make(chan struct{}),
		volumes: map[volume.Name]*record{}, control: map[volume.Name]time.Time{},
		usage: map[string]measurement{}, errs: map[volume.Name]string{},
	}
	d.metrics = newMetrics(d)
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.SetFault(errors.New("no configuration was read yet"))
	return d, nil
}

// SetRules puts new rules in force; mounts that stand stay as they are.
func (d *Driver) SetRules(r Rules) { d.rules.Store(&ruling{Rules: r}) }

// SetFault makes every call that needs rules fail with err until SetRules is called.
func (d *Driver) SetFault(err error) { d.rules.Store(&ruling{err: err}) }

// Close ends the background work and unmounts what nobody uses. What containers have
// mounted stays for the next driver to take up.
func (d *Driver) Close() {
	d.stop()
	d.running.Wait()
	select {
	case <-d.ready:
	default:
		return // the references are not known
	}
	if err := d.dropStrayMounts(); err != nil {
		d.cfg.Log.Error("unmount what is unused", "error", err)
	}
}

// begin waits until the driver is restored and bounds the call.
func (d *Driver) begin() (context.Context, context.CancelFunc, error) {
	ctx, cancel := context.WithTimeout(d.ctx, deadline)
	select {
	case <-d.ready:
		return ctx, cancel, nil
	case <-ctx.Done():
		cancel()
		return nil, nil, errors.New("valise is still starting")
	}
}

// Create records a volume after its options and its place were checked. A control
// volume does its work at once and is kept in memory until Docker removes it.
func (d *Driver) Create(req *proto.CreateRequest) error {
	ctx, cancel, err := d.begin()
	if err != nil {
		return err
	}
	defer cancel()
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
	_, cancel, err := d.begin()
	if err != nil {
		return err
	}
	defer cancel()
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

// Get describes one volume, without touching any file system.
func (d *Driver) Get(req *proto.GetRequest) (*proto.GetResponse, error) {
	_, cancel, err := d.begin()
	if err != nil {
		return nil, err
	}
	defer cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	name := volume.Name(req.Name)
	if at, ok := d.control[name]; ok {
		return &proto.GetResponse{Volume: &proto.Volume{Name: req.Name, CreatedAt: at.UTC().Format(time.RFC3339)}}, nil
	}
	r := d.volumes[name]
	if r == nil {
		return nil, fmt.Errorf("%w %q", errNoVolume, name)
	}
	return &proto.GetResponse{Volume: d.describe(r)}, nil
}

// List describes every volume.
func (d *Driver) List() (*proto.ListResponse, error) {
	_, cancel, err := d.begin()
	if err != nil {
		return nil, err
	}
	defer cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	res := &proto.ListResponse{Volumes: []*proto.Volume{}}
	for _, r := range d.volumes {
		res.Volumes = append(res.Volumes, d.describe(r))
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

// makeDirs makes the driver's own directories.
func (d *Driver) makeDirs() error {
	for dir, perm := range map[string]fs.FileMode{d.records.dir: 0o700, d.trash.dir: 0o700, d.cfg.MountDir: 0o755} {
		if err := os.MkdirAll(dir, perm); err != nil {
			return err
		}
	}
	return nil
}
