package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"valise/config"
	"valise/endpoint"
	"valise/fleet"
	"valise/plugin"
	"valise/quota"
	"valise/session"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/docker/go-plugins-helpers/volume"
	"github.com/spf13/cobra"
)

func pluginCommand() *cobra.Command {
	var path string
	var managed bool
	cmd := &cobra.Command{
		Use:   "plugin",
		Short: "Serve the Docker volume driver",
		Long: "Serve the Docker volume driver on the configured socket, or on the one that systemd\n" +
			"hands over. SIGHUP reads the configuration again.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if managed && os.Getenv(keptEnv) == "" {
				return keep(cmd.Context())
			}
			return runPlugin(cmd.Context(), path, managed)
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().BoolVar(&managed, "managed", false, "run inside a managed Docker plugin (set by its config.json)")
	return cmd
}

// stopTime is how long an operator's command under way may take at the end.
const stopTime = 2 * time.Second

func runPlugin(ctx context.Context, path string, managed bool) error {
	cfg, faults := loadForPlugin(path, managed)
	if faults != nil && !managed {
		return faults
	}
	log := logger(cfg.LogLevel, cfg.LogFormat)
	logWarnings(log, cfg)
	find := plainPlaces
	if managed {
		find = managedPlaces
	}
	places, err := find(cfg, log)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	mounts := fleet.New(fleet.Config{
		StateDir: places.stateDir, RunDir: places.runDir, Program: program, Cgroups: places.cgroups, Log: log, Session: openSession,
	})
	if err := mounts.Relay(); err != nil {
		return err
	}
	driver, err := plugin.New(plugin.Config{
		StateDir: filepath.Join(places.stateDir, "plugin"), MountDir: places.mountDir,
		UsageInterval: cfg.Plugin.UsageInterval, HostProcess: hostProcess(), Log: log,
		Fleet: mounts,
	})
	if err != nil {
		return err
	}
	defer driver.Close()
	running := *cfg
	apply := func(cfg *config.Config) {
		host := places.host
		if cfg.Host != "" {
			host = cfg.Host
		}
		if err := checkLimits(cfg, places.stateDir); err != nil {
			log.Error("profiles of a storage provider with limit_action = \"enforce\" are refused", "error", err)
		}
		driver.SetRules(plugin.Rules{Policy: cfg.Policy, Roots: cfg.Roots, Remote: driverSettings(cfg, host), Stored: storedProfiles(cfg), Upkeep: upkeepOf(cfg)})
		if cfg.Plugin != running.Plugin || cfg.StateDir != running.StateDir || cfg.LogLevel != running.LogLevel || cfg.LogFormat != running.LogFormat {
			log.Warn("changes of state_dir, of the log settings and below [plugin] take effect when the driver is restarted")
		}
	}
	if faults != nil {
		log.Error("every call is refused until the configuration is mended", "error", faults)
		driver.SetFault(faults)
	} else {
		apply(cfg)
	}
	r := &reloader{path: path, log: log, apply: apply}
	defer r.onHangup()()
	return servePlugin(ctx, driver, r, places, log)
}

// checkLimits reports why limits that are to be enforced can't be.
func checkLimits(cfg *config.Config, stateDir string) error {
	for _, w := range cfg.Policy.Workspaces {
		if w.Storage != nil && w.Storage.EnforceLimit {
			return quota.Check(stateDir)
		}
	}
	return nil
}

// loadForPlugin reads the configuration. A managed plugin starts without a good one
// too, and tells its callers what is wrong: of one that does not start, Docker says no
// more than that its socket is missing.
func loadForPlugin(path string, managed bool) (*config.Config, error) {
	cfg, err := config.Load(path)
	if err == nil || !managed {
		return cfg, err
	}
	empty, emptyErr := config.Parse(path, nil)
	return empty, errors.Join(err, emptyErr)
}

// servePlugin listens first and restores then, because dockerd waits only some seconds
// for a plugin's socket.
func servePlugin(ctx context.Context, driver *plugin.Driver, r *reloader, at places, log *slog.Logger) error {
	listener, err := pluginListener(at.socket)
	if err != nil {
		return err
	}
	admin, err := endpoint.Endpoint{Address: at.admin, Mode: 0o600}.Listen()
	if err != nil {
		listener.Close()
		return err
	}
	adminServer := &http.Server{Handler: driver.AdminHandler(r.reload), ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 3)
	go func() { ended <- volume.NewHandler(driver).Serve(listener) }()
	go func() { ended <- adminServer.Serve(admin) }()
	go func() {
		if err := driver.Restore(); err != nil {
			ended <- fmt.Errorf("restore: %w", err)
		}
	}()
	log.Info("serving", "socket", listener.Addr(), "admin", admin.Addr(), "version", buildVersion())
	select {
	case err = <-ended:
	case <-ctx.Done():
		log.Info("stopping")
	}
	listener.Close()
	bounded, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	return errors.Join(err, adminServer.Shutdown(bounded))
}

// pluginListener takes systemd's socket where there is one.
func pluginListener(path string) (net.Listener, error) {
	if kept, err := keptSocket(); kept != nil || err != nil {
		return kept, err
	}
	handed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("sockets of systemd: %w", err)
	}
	switch len(handed) {
	case 0:
		return endpoint.Endpoint{Address: "unix://" + path, Mode: 0o600}.Listen()
	case 1:
		return handed[0], nil
	}
	return nil, fmt.Errorf("systemd handed over %d sockets, want one", len(handed))
}

// places are where the driver's own files lie, and how others know this host.
type places struct {
	stateDir, mountDir, runDir, socket, admin string

	cgroups []string // of the processes that serve profiles on S3, none for the driver's own
	host    string
}

func plainPlaces(cfg *config.Config, _ *slog.Logger) (places, error) {
	host, err := os.Hostname()
	return places{
		stateDir: cfg.StateDir, mountDir: filepath.Join(cfg.StateDir, "mounts"), runDir: session.DefaultRunDir,
		socket: cfg.Plugin.Socket, admin: cfg.Plugin.Admin, host: host,
	}, err
}

func reloadCommand() *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the volume driver read its configuration again",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := newAdmin(address).call(cmd.Context(), http.MethodPost, "/reload", nil, nil); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "reloaded")
			return nil
		},
	}
	adminFlag(cmd, &address)
	return cmd
}

func adminFlag(cmd *cobra.Command, address *string) {
	cmd.Flags().StringVar(address, "admin", envOr("VALISE_ADMIN", "unix:///run/valise/admin.sock"), "the driver's admin `ADDRESS` (or VALISE_ADMIN)")
}

func envOr(name, def string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return def
}
