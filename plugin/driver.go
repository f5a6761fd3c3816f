package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"valise/beneath"
	"valise/fleet"
	"valise/identity"
	"valise/mapping"
	"valise/profile"
	"valise/volume"
)

// Rules are what the configuration says of the driver's work.
type Rules struct {
	Policy *mapping.Policy
	Roots  []beneath.Root

	// Remote are the settings of a user's profile on S3.
	Remote func(*profile.Workspace, identity.Tokens) (fleet.Settings, error)
	// Stored lists the URLs of the profiles that a storage has.
	Stored func(context.Context, *profile.Storage) ([]string, error)
	Upkeep Upkeep
}

// Config are the driver's fixed settings.
type Config struct {
	StateDir string // records; survives the driver, the host's reboot, and the plugin's removal
	MountDir string // what Docker is handed lies here

	HostProcess int // one in the host's namespaces; 0 = this process's parent

	Fleet *fleet.Fleet // serves the profiles on S3

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

	draining atomic.Bool // no profile on S3 is mounted any more

	looked time.Time // when keepUp last looked which profiles there are

	ready   chan struct{} // closed when restored
	ctx     context.Context
	stop    context.CancelFunc
	calls   sync.WaitGroup // of Docker, under way
	running sync.WaitGroup // background work

	mu      sync.Mutex // guards what follows
	closing bool
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
	if cfg.HostProcess == 0 {
		cfg.HostProcess = os.Getppid()
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

// closeTime is how long calls under way may take when the driver is closed; dockerd kills
// a plugin after 10 s.
const closeTime = 5 * time.Second

// dropTime is how long the unmounting at the end may take.
const dropTime = 3 * time.Second

// Close takes no more calls, ends the background work and unmounts what nobody uses.
// What containers have mounted stays for the next driver to take up.
func (d *Driver) Close() {
	d.mu.Lock()
	d.closing = true
	d.mu.Unlock()
	cut := time.AfterFunc(closeTime, d.stop)
	d.calls.Wait()
	cut.Stop()
	d.stop()
	d.running.Wait()
	select {
	case <-d.ready:
	default:
		return // the references are not known
	}
	ctx, cancel := context.WithTimeout(context.Background(), dropTime)
	defer cancel()
	if err := d.dropStrayMounts(ctx); err != nil {
		d.cfg.Log.Error("unmount what is unused", "error", err)
	}
}

// begin waits until the driver is restored and bounds the call; the caller calls end.
func (d *Driver) begin() (ctx context.Context, end func(), err error) {
	d.mu.Lock()
	if d.closing {
		d.mu.Unlock()
		return nil, nil, errors.New("valise is stopping")
	}
	d.calls.Add(1)
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(d.ctx, deadline)
	end = func() {
		cancel()
		d.calls.Done()
	}
	select {
	case <-d.ready:
		return ctx, end, nil
	case <-ctx.Done():
		end()
		return nil, nil, errors.New("valise is still starting")
	}
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
