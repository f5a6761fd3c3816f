package main

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"valise/config"

	"github.com/moby/sys/mountinfo"
)

// Where config.json puts the host's directories in the managed plugin.
const (
	managedSocket   = "/run/docker/plugins/valise.sock"
	managedMounts   = "/mounts"   // propagatedMount
	managedProfiles = "/mnt"      // settable "profiles"
	managedState    = "/host/lib" // settable "state": the host's /var/lib
	managedRun      = "/host/run" // settable "run": the host's /run
)

// managedPlaces maps the configuration's paths, which are the host's, into the plugin.
func managedPlaces(cfg *config.Config, log *slog.Logger) (places, error) {
	p := places{mountDir: managedMounts, socket: managedSocket, admin: cfg.Plugin.Admin}
	state, ok := strings.CutPrefix(cfg.StateDir, "/var/lib/")
	if !ok {
		return p, fmt.Errorf("state_dir %q: the managed plugin sees the host's /var/lib only; choose a directory below it", cfg.StateDir)
	}
	p.stateDir = filepath.Join(managedState, state)
	if path, unix := strings.CutPrefix(cfg.Plugin.Admin, "unix://"); unix {
		run, ok := strings.CutPrefix(path, "/run/")
		if !ok {
			return p, fmt.Errorf("plugin.admin %q: the managed plugin sees the host's /run only; choose a socket below it", cfg.Plugin.Admin)
		}
		p.admin = "unix://" + filepath.Join(managedRun, run)
	}
	return p, warnPropagation(log)
}

// warnPropagation says so where file systems that the host mounts later will not be
// seen, because the host's own mount does not propagate.
func warnPropagation(log *slog.Logger) error {
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(managedProfiles))
	if err != nil {
		return fmt.Errorf("read the mount table: %w", err)
	}
	slave := slices.ContainsFunc(mounts, func(m *mountinfo.Info) bool { return strings.Contains(m.Optional, "master:") })
	if !slave {
		log.Warn("the host's mount propagation is private: file systems that are mounted below the profiles directory from now on are not seen until the plugin is enabled again; `mount --make-rshared /` on the host, before Docker starts, mends it", "path", managedProfiles)
	}
	return nil
}
