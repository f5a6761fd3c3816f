package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"valise/layer"
	"valise/session"
	"valise/supervise"
)

// mountFlags are those of mount and of what finishes a mount's work.
type mountFlags struct {
	bucketFlags
	stateDir, filter, sizeLimit, cacheSize, snapshot, onHeld, host, prefetch string

	interval, patience, lease time.Duration
	readOnly, singleHost      bool
	uid, gid                  uint32
}

func (f *mountFlags) add(cmd *cobra.Command) *cobra.Command {
	f.bucketFlags.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.stateDir, "state-dir", "", "`DIR` for unsaved changes and the cache, on a local file system (default: state_dir of the configuration, /var/lib/valise)")
	flags.StringVar(&f.filter, "filter", layer.DefaultFilter, "comma-separated `LIST` of files and directories that are not saved")
	flags.StringVar(&f.sizeLimit, "size-limit", "0", "`SIZE` of the home, such as 20g, above which nothing is saved; 0 is none")
	flags.StringVar(&f.cacheSize, "cache-size", "10g", "`SIZE` that cached content may take on the disk; 0 is no limit")
	flags.StringVar(&f.prefetch, "prefetch", "0", "background download: at most this `SIZE` a second, 0 for no bound, off for none")
	flags.StringVar(&f.onHeld, "on-second-host", "fail", "what to do while another host has the profile: fail, wait or readonly")
	flags.StringVar(&f.host, "host", "", "this host's `NAME` in messages to others (default: the hostname)")
	flags.DurationVar(&f.interval, "sync-interval", time.Minute, "time between saves")
	flags.DurationVar(&f.patience, "patience", time.Minute, "how long reads, and the last save, wait for a store that is away")
	flags.DurationVar(&f.lease, "lease", time.Minute, "how long others wait for a host that is silent")
	flags.BoolVar(&f.singleHost, "single-host", false, "make the profile on a store without conditional writes too: one host alone will ever write")
	flags.Uint32Var(&f.uid, "uid", 1000, "owner of a home that is new")
	flags.Uint32Var(&f.gid, "gid", 1000, "group of a home that is new")
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
		Args: func(cmd *cobra.Command, args []string) error { return wantArgs(cmd, args, 2) },
		RunE: func(cmd *cobra.Command, args []string) error {
			signal.Ignore(syscall.SIGPIPE) // a log that nobody reads is no reason to end a mount
			if os.Getenv(workerEnv) != "" {
				return f.work(cmd.Context(), args[0], args[1])
			}
			return f.supervise(cmd.Context(), args[0], args[1])
		},
	})
	cmd.Flags().BoolVar(&f.readOnly, "read-only", false, "show the newest snapshot; nothing is saved, other hosts are not kept out")
	cmd.Flags().StringVar(&f.snapshot, "snapshot", "", "with --read-only: show this `SNAPSHOT`, as valise snapshots names it")
	return cmd
}

// workerEnv tells the process that serves the mount from the one that watches over it.
const workerEnv = "VALISE_MOUNT_WORKER"

// supervise runs the process that serves the mount, and another one if it dies.
func (f *mountFlags) supervise(ctx context.Context, url, dir string) error {
	if _, _, err := f.session(ctx, url, dir); err != nil {
		return err // said once, before anything is started
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	code, err := supervise.Run(ctx, supervise.Config{
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
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

// work serves the mount.
func (f *mountFlags) work(ctx context.Context, url, dir string) error {
	// The tree is mapped and content passes through: what is left is short-lived.
	debug.SetGCPercent(50)
	cfg, log, err := f.session(ctx, url, dir)
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
	log.Info("mounted", "url", cfg.URL, "dir", cfg.Dir)
	debug.FreeOSMemory()
	s.Run(ctx)
	err = s.Close(context.WithoutCancel(ctx))
	stop()
	return errors.Join(err, <-served, s.Clean())
}

// finishGone saves what is left of a mount that has ended, as the process did that has
// died before it could say so.
func (f *mountFlags) finishGone(ctx context.Context, cfg session.Config) error {
	if f.readOnly {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.Patience)
	defer cancel()
	_, err := session.Finish(ctx, cfg)
	return err
}

// session turns the flags into a session's settings.
func (f *mountFlags) session(ctx context.Context, url, dir string) (session.Config, *slog.Logger, error) {
	settings, err := f.settings()
	if err != nil {
		return session.Config{}, nil, err
	}
	log := f.logger(settings)
	cfg := session.Config{
		StateDir: settings.StateDir, RunDir: session.DefaultRunDir, Host: f.host, OnHeld: session.OnHeld(f.onHeld), ReadOnly: f.readOnly, Snapshot: f.snapshot,
		SingleHost: f.singleHost, Interval: f.interval, Patience: f.patience, Lease: f.lease, UID: f.uid, GID: f.gid, Log: log,
	}
	if f.stateDir != "" {
		cfg.StateDir = f.stateDir
	}
	if cfg.Host == "" {
		if cfg.Host, err = os.Hostname(); err != nil {
			return cfg, nil, err
		}
	}
	for _, p := range []*string{&cfg.StateDir, &dir} {
		if *p, err = filepath.Abs(*p); err != nil {
			return cfg, nil, err
		}
	}
	cfg.Dir = dir
	if err := f.check(&cfg); err != nil {
		return cfg, nil, fmt.Errorf("%w (%w)", err, errUsage)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		if os.Getenv(workerEnv) == "" { // the worker may take over a mount whose server is dead
			return cfg, nil, fmt.Errorf("mount point %s: want an existing directory", dir)
		}
	}
	bucket, name, err := f.bucket(ctx, settings, url)
	cfg.Bucket, cfg.URL = bucket, name
	return cfg, log, err
}

// check reads the flags that are more than words.
func (f *mountFlags) check(cfg *session.Config) (err error) {
	switch {
	case f.snapshot != "" && !f.readOnly:
		return errors.New("--snapshot goes with --read-only; valise restore brings files of a snapshot back")
	case cfg.OnHeld != session.Fail && cfg.OnHeld != session.Wait && cfg.OnHeld != session.ReadOnly:
		return fmt.Errorf("--on-second-host %q is none of fail, wait, readonly", f.onHeld)
	case f.interval < time.Second || f.patience < time.Second || f.lease < 5*time.Second:
		return errors.New("--sync-interval and --patience take at least 1s, --lease at least 5s")
	}
	if cfg.Filter, err = layer.ParseFilter(f.filter); err != nil {
		return fmt.Errorf("--filter: %w", err)
	}
	if cfg.SizeLimit, err = units.RAMInBytes(f.sizeLimit); err != nil {
		return fmt.Errorf("--size-limit: %w", err)
	}
	if cfg.CacheSize, err = units.RAMInBytes(f.cacheSize); err != nil {
		return fmt.Errorf("--cache-size: %w", err)
	}
	if f.prefetch == "off" {
		cfg.Prefetch = -1
		return nil
	}
	if cfg.Prefetch, err = units.RAMInBytes(f.prefetch); err != nil {
		return fmt.Errorf("--prefetch: %w", err)
	}
	return nil
}
