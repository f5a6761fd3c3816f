package plugin

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/moby/sys/mountinfo"
)

// isMountpoint reports whether something is mounted on path itself.
func isMountpoint(path string) (bool, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(path))
	if err != nil {
		return false, fmt.Errorf("read the mount table: %w", err)
	}
	return len(mounts) > 0, nil
}

// sourceOf tells what is mounted on a mount point.
func sourceOf(path string) (source, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(path))
	if err != nil {
		return source{}, fmt.Errorf("read the mount table: %w", err)
	}
	if len(mounts) == 0 {
		return source{}, fmt.Errorf("nothing is mounted on %q", path)
	}
	return sourceIn(mounts[len(mounts)-1]), nil
}

func sourceIn(m *mountinfo.Info) source {
	return source{Device: fmt.Sprintf("%d:%d", m.Major, m.Minor), Root: m.Root}
}

// held returns the sources that some process beside the host and the driver has
// mounted: what containers hold. A mount that the host has at the same place is the
// host's, seen from a service with a mount namespace of its own; one named as ours
// are is a copy of ours.
func held(mountDir string, host int) (map[source]bool, error) {
	seen := map[string]bool{} // namespaces
	hostMounts := map[string]source{}
	ours, err := filepath.Glob(filepath.Join(mountDir, "*"))
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, path := range ours {
		names[filepath.Base(path)] = true
	}
	// Another process (a shim of Docker's, or systemd) stands for the host where process 1
	// does not let itself be read.
	for _, pid := range []string{"self", "1", strconv.Itoa(host)} {
		ns, mounts, err := namespaceMounts(pid)
		if err != nil && pid == "self" {
			return nil, err
		}
		if err != nil || seen[ns] {
			continue
		}
		seen[ns] = true
		for _, m := range mounts {
			hostMounts[m.Mountpoint] = sourceIn(m)
		}
	}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	out := map[source]bool{}
	for _, p := range procs {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		ns, err := os.Readlink(filepath.Join("/proc", p.Name(), "ns/mnt"))
		if err != nil || seen[ns] {
			continue // gone meanwhile, or seen
		}
		seen[ns] = true
		_, mounts, err := namespaceMounts(p.Name())
		if err != nil {
			delete(seen, ns) // this process went; another may share its namespace
			continue
		}
		for _, m := range mounts {
			s := sourceIn(m)
			if hostMounts[m.Mountpoint] != s && !names[filepath.Base(m.Mountpoint)] {
				out[s] = true
			}
		}
	}
	return out, nil
}

func namespaceMounts(pid string) (namespace string, mounts []*mountinfo.Info, err error) {
	dir := filepath.Join("/proc", pid)
	if namespace, err = os.Readlink(filepath.Join(dir, "ns/mnt")); err != nil {
		return "", nil, err
	}
	f, err := os.Open(filepath.Join(dir, "mountinfo"))
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	mounts, err = mountinfo.GetMountsFromReader(f, nil)
	return namespace, mounts, err
}
