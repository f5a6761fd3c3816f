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
	p := places{mountDir: managedMounts, runDir: managedRun + "/valise/mounts", socket: managedSocket, admin: cfg.Plugin.Admin}
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
	var err error
	if p.host, err = hostName(); err != nil {
		return p, err
	}
	p.cgroups = mountsCgroups(log)
	return p, warnPropagation(log)
}

// warnPropagation says so where file systems that the host mounts later will not be
// seen: the plugin's mount must be the slave of one that the host itself has.
func warnPropagation(log *slog.Logger) error {
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(managedProfiles))
	if err != nil {
		return fmt.Errorf("read the mount table: %w", err)
	}
	host, err := mountinfo.PidMountInfo(1)
	if err != nil {
		return fmt.Errorf("read the host's mount table (pidhost): %w", err)
	}
	for _, m := range mounts {
		_, master, slave := strings.Cut(" "+m.Optional, " master:")
		master, _, _ = strings.Cut(master, " ")
		if slave && slices.ContainsFunc(host, func(h *mountinfo.Info) bool {
			return slices.Contains(strings.Fields(h.Optional), "shared:"+master)
		}) {
			return nil
		}
	}
	log.Warn("file systems that the host mounts below the profiles directory from now on are not seen until the plugin is enabled again, because the host's mount propagation is private there; `mount --bind DIR DIR && mount --make-shared DIR`, with the directory that is the plugin's profiles.source, before the plugin is enabled, mends it", "path", managedProfiles)
	return nil
}
