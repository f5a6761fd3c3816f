package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// When a managed plugin stops, Docker kills what is in its cgroups. The processes that serve
// profiles on S3 run in ones beside them, so that sessions outlive the plugin's first
// process and uploads its being disabled.

// cgroupName is that of the cgroups beside the plugin's.
const cgroupName = "valise-mounts"

// mountsCgroups makes the cgroups of the processes that serve profiles, in each hierarchy
// that the host has.
func mountsCgroups(log *slog.Logger) []string {
	dirs, err := makeCgroups("/run/valise-cgroups")
	if err != nil {
		log.Warn("sessions on S3 end when the plugin's first process is killed, and uploads when the plugin is disabled, because no cgroup can be made for them", "error", err)
	}
	return dirs
}

func makeCgroups(at string) (dirs []string, err error) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		// ID:CONTROLLERS:PATH, see cgroups(7).
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			return nil, fmt.Errorf("/proc/self/cgroup: %q", line)
		}
		kind, options := "cgroup", fields[1]
		switch {
		case options == "":
			kind = "cgroup2"
		case strings.HasPrefix(options, "name="):
			options = "none," + options
		}
		hierarchy := filepath.Join(at, fields[0])
		if err := os.MkdirAll(hierarchy, 0o700); err != nil {
			return nil, err
		}
		if err := unix.Mount("none", hierarchy, kind, 0, options); err != nil && !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("mount %s %s: %w", kind, options, err)
		}
		dir := filepath.Join(hierarchy, filepath.Dir(filepath.Clean(fields[2])), cgroupName)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if err := inherit(dir); err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

// inherit gives a new cgroup of cpuset the parent's settings, without which it takes no
// process.
func inherit(dir string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && strings.TrimSpace(string(value)) != "" {
			err = os.WriteFile(filepath.Join(dir, name), value, 0o644)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// enterCgroups moves this process into cgroups.
func enterCgroups(dirs []string) error {
	for _, dir := range dirs {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0o644); err != nil {
			return fmt.Errorf("enter a cgroup: %w", err)
		}
	}
	return nil
}
