package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"valise/fleet"
	"valise/layer"
	"valise/session"
	"valise/store/s3"
	"valise/supervise"
)

// mountFlags are those of mount and of what finishes a mount's work.
type mountFlags struct {
	bucketFlags
	stateDir, filter, sizeLimit, cacheSize, snapshot, onHeld, host, prefetch, encryption string

	interval, patience, lease time.Duration
	readOnly, singleHost      bool
	enforceLimit              bool
	uid, gid                  uint32

	settingsFile string // the driver's, in place of all arguments
}

func (f *mountFlags) add(cmd *cobra.Command) *cobra.Command {
	f.bucketFlags.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.stateDir, "state-dir", "", "`DIR` for unsaved changes and the cache, on a local file system (default: state_dir of the configuration, /var/lib/valise)")
	flags.StringVar(&f.filter, "filter", layer.DefaultFilter, "comma-separated `LIST` of files and directories that are not saved")
	flags.StringVar(&f.sizeLimit, "size-limit", "0", "`SIZE` of the home, such as 20g, above which nothing is saved; 0 is none")
	flags.BoolVar(&f.enforceLimit, "enforce-limit", false, "let writes above --size-limit fail; --state-dir must lie on a file system with project quotas")
	flags.StringVar(&f.cacheSize, "cache-size", "10g", "`SIZE` that cached content may take on the disk; 0 is no limit")
	flags.StringVar(&f.prefetch, "prefetch", "0", "background download: at most this `SIZE` a second, 0 for no bound, off for none")
	flags.StringVar(&f.onHeld, "on-second-host", "fail", "what to do while another host has the profile: fail, wait or readonly")
	flags.StringVar(&f.host, "host", "", "this host's `NAME` in messages to others (default: the hostname)")
	flags.StringVar(&f.encryption, "encryption", "", "of a profile that is new: none, client or sse-c (default: that of the storage provider in --config, or none)")
	flags.DurationVar(&f.interval, "sync-interval", time.Minute, "time between saves")
	flags.DurationVar(&f.patience, "patience", time.Minute, "how long reads, and the last save, wait for a store that is away")
	flags.DurationVar(&f.lease, "lease", time.Minute, "how long others wait for a host that is silent")
	flags.BoolVar(&f.singleHost, "single-host", false, "make the profile on a store without conditional writes too: one host alone will ever write")
	flags.Uint32Var(&f.uid, "uid", 1000, "owner of a home that is new")
	flags.Uint32Var(&f.gid, "gid", 1000, "group of a home that is new")
	flags.StringVar(&f.settingsFile, "settings", "", "`FILE` that the driver has written, in place of all arguments")
	if err := flags.MarkHidden("settings"); err != nil {
		panic(err) // it was just defined
	}
	return cmd
}

func mountCommand() *cobra.Command {
	f := &mountFlags{}
	cmd := f.add(&cobra.Command{
		Use:   "mount [flags] URL DIR",
		Short: "Mount a profile on S3 at a directory",
		Long: "Mount a profile on S3 at a directory, and make the profile if there is none. It runs in the\n" +
			"foreground; DIR can be used as soon as it is a mount point. What is written there is on the\n" +
			"local disk at once and saved to S3 every --sync-interval, by valise sync, and at the end.\n\n" +
			"SIGTERM, SIGINT or valise unmount: unmount, save, exit 0. Exit code 3: unsaved changes remain\n" +
			"in the state directory; the next mount on this host takes them up, and valise sync saves them.\n" +
			"Exit code 4: another host has the profile." + urlHelp,
		Args: func(cmd *cobra.Command, args []string) error { return f.wantArgs(cmd, args, 2) },
		RunE: func(cmd *cobra.Command, args []string) error {
			signal.Ignore(syscall.SIGPIPE) // a log that nobody reads is no reason to end a mount
			run := f.supervise
			if os.Getenv(workerEnv) != "" {
				run = f.work
			}
			return f.notified(run(cmd.Context(), args))
		},
	})
	cmd.Flags().BoolVar(&f.readOnly, "read-only", false, "show the newest snapshot; nothing is saved, other hosts are not kept out")
	cmd.Flags().StringVar(&f.snapshot, "snapshot", "", "with --read-only: show this `SNAPSHOT`, as valise snapshots names it")
	return cmd
}

// workerEnv tells the process that serves the mount from the one that watches over it.
const workerEnv = "VALISE_MOUNT_WORKER"

// wantArgs counts the arguments, which go without a file of settings only.
func (f *mountFlags) wantArgs(cmd *cobra.Command, args []string, n int) error {
	if f.settingsFile != "" {
		n = 0
	}
	return wantArgs(cmd, args, n)
}

// notified tells the service manager, which may be the driver, why the mount failed; see
// sd_notify(3).
func (f *mountFlags) notified(err error) error {
	var code exitCode
	if err != nil && !errors.As(err, &code) { // another process has told of a code
		notify("STATUS=" + strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return err
}

func notify(state string) { _, _ = daemon.SdNotify(false, state) } // nobody may be listening

// supervise runs the process that serves the mount, and another one if it dies.
func (f *mountFlags) supervise(ctx context.Context, args []string) error {
	log, err := f.ready(ctx, args)
	if err != nil {
		return err // said once, before anything is started
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	code, err := supervise.Run(ctx, supervise.Config{
		Log: log,
		Command: func() *exec.Cmd {
			cmd := exec.Command(self, os.Args[1:]...)
			cmd.Env = append(os.Environ(), workerEnv+"=1")
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
			return cmd
		},
	})
	if err == nil && code != 0 {
		return exitCode(code)
	}
	return err
}

// ready checks what was said by hand; the driver has checked its settings.
func (f *mountFlags) ready(ctx context.Context, args []string) (*slog.Logger, error) {
	if f.settingsFile == "" {
		cfg, err := f.session(ctx, args)
		return cfg.Log, err
	}
	s, err := fleet.ReadSettings(f.settingsFile)
	if err == nil {
		err = enterCgroups(s.Cgroups)
	}
	return loggerTo(s.LogWriter(), s.LogLevel, s.LogFormat), err
}

// work serves the mount.
func (f *mountFlags) work(ctx context.Context, args []string) error {
	cfg, err := f.session(ctx, args)
	if err != nil {
		return err
	}
	worker, err := supervise.Inherited()
	if err != nil {
		return err
	}
	ctx = worker.Context(ctx)
	cfg.Keep = worker.Keep
	cfg.Init, cfg.Files = worker.Kept()
	s, err := session.Open(ctx, cfg)
	if errors.Is(err, session.ErrGone) {
		return f.finishGone(ctx, cfg)
	}
	if err != nil {
		return err
	}
	control, stop := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- s.Control(control) }()
	cfg.Log.Info("mounted", "url", cfg.URL, "dir", cfg.Dir)
	notify(daemon.SdNotifyReady)
	time.AfterFunc(freeAfter, func() {
		// The tree is mapped and content passes through: what is left is short-lived.
		debug.SetGCPercent(50)
		debug.FreeOSMemory()
	})
	s.Run(ctx)
	// Who sends a signal wants the process to end.
	defer context.AfterFunc(ctx, func() { time.AfterFunc(cfg.Patience, s.Yield) })()
	err = s.Close(context.WithoutCancel(ctx))
	stop()
	return errors.Join(err, <-served, s.Clean())
}

// freeAfter is how long after a login the memory that the mount took is given back.
const freeAfter = 2 * time.Second

// finishGone saves what is left of a mount that has ended, as the process did that has
// died before it could say so.
func (f *mountFlags) finishGone(ctx context.Context, cfg session.Config) error {
	if cfg.ReadOnly {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cmp.Or(cfg.LastSave, cfg.Patience))
	defer cancel()
	_, err := session.Finish(ctx, cfg)
	return err
}

// session is what arguments and flags, or the file of settings, say.
func (f *mountFlags) session(ctx context.Context, args []string) (session.Config, error) {
	if f.settingsFile != "" {
		s, err := fleet.ReadSettings(f.settingsFile)
		if err != nil {
			return session.Config{}, err
		}
		if os.Getenv(workerEnv) == "" { // which has them from its parent
			if err := enterCgroups(s.Cgroups); err != nil {
				return session.Config{}, err
			}
		}
		return openSession(ctx, s)
	}
	s, err := f.read(args[0], args[1])
	if err != nil {
		return session.Config{}, err
	}
	cfg, err := openSession(ctx, s)
	cfg.ReadOnly, cfg.Snapshot = f.readOnly, f.snapshot
	return cfg, err
}

// read turns the flags into settings.
func (f *mountFlags) read(url, dir string) (s fleet.Settings, err error) {
	cfg, err := f.settings()
	if err != nil {
		return s, err
	}
	at, err := s3.ParseURL(url)
	if err != nil {
		return s, fmt.Errorf("%w (%w)", err, errUsage)
	}
	storage := storageOf(cfg, at.String())
	s = fleet.Settings{
		URL: at.String(), Dir: dir, StateDir: cfg.StateDir, RunDir: session.DefaultRunDir, Host: f.host,
		Access:       accessTo(cfg, storage),
		Encryption:   fleet.Encryption{Mode: cmp.Or(f.encryption, storage.Encryption), MasterKeyFile: cmp.Or(f.masterKey, storage.MasterKeyFile)},
		OnSecondHost: f.onHeld, SingleHost: f.singleHost, Interval: f.interval, Patience: f.patience, Lease: f.lease,
		Filter: f.filter, UID: f.uid, GID: f.gid, LogLevel: f.level(cfg), LogFormat: cfg.LogFormat,
	}
	if f.stateDir != "" {
		s.StateDir = f.stateDir
	}
	if s.Host == "" {
		if s.Host, err = hostname(cfg); err != nil {
			return s, err
		}
	}
	for _, p := range []*string{&s.StateDir, &s.Dir} {
		if *p, err = filepath.Abs(*p); err != nil {
			return s, err
		}
	}
	if err := f.check(&s); err != nil {
		return s, fmt.Errorf("%w (%w)", err, errUsage)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		if os.Getenv(workerEnv) == "" { // the worker may take over a mount whose server is dead
			return s, fmt.Errorf("mount point %s: want an existing directory", dir)
		}
	}
	return s, nil
}

// check reads the flags that are more than words.
func (f *mountFlags) check(s *fleet.Settings) (err error) {
	switch onHeld := session.OnHeld(f.onHeld); {
	case f.snapshot != "" && !f.readOnly:
		return errors.New("--snapshot goes with --read-only; valise restore brings files of a snapshot back")
	case onHeld != session.Fail && onHeld != session.Wait && onHeld != session.ReadOnly:
		return fmt.Errorf("--on-second-host %q is none of fail, wait, readonly", f.onHeld)
	case !slices.Contains([]string{"", "none", "client", "sse-c"}, f.encryption):
		return fmt.Errorf("--encryption %q is none of none, client, sse-c", f.encryption)
	case f.interval < time.Second || f.patience < time.Second || f.lease < 5*time.Second:
		return errors.New("--sync-interval and --patience take at least 1s, --lease at least 5s")
	}
	if _, err := layer.ParseFilter(f.filter); err != nil {
		return fmt.Errorf("--filter: %w", err)
	}
	if s.SizeLimit, err = units.RAMInBytes(f.sizeLimit); err != nil {
		return fmt.Errorf("--size-limit: %w", err)
	}
	if s.EnforceLimit = f.enforceLimit; f.enforceLimit && s.SizeLimit == 0 {
		return errors.New("--enforce-limit goes with --size-limit")
	}
	if s.CacheSize, err = units.RAMInBytes(f.cacheSize); err != nil {
		return fmt.Errorf("--cache-size: %w", err)
	}
	if f.prefetch == "off" {
		s.Prefetch = -1
		return nil
	}
	if s.Prefetch, err = units.RAMInBytes(f.prefetch); err != nil {
		return fmt.Errorf("--prefetch: %w", err)
	}
	return nil
}
