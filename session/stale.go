package session

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// clearStale takes away what a mount whose processes are all dead has left: its overlay,
// which would go on writing to the upper, and its lower, which nobody serves.
func (s *Session) clearStale(old state) error {
	upper, lower := s.home.layer(old.Mount, "upper"), s.home.file("lower")
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(mounts) { // the top ones first
		overlay := m.FSType == "overlay" && m.Source == mountName &&
			(hasOption(m, "upperdir="+upper) || m.Mountpoint == old.Dir && hasDescriptor(m))
		if !overlay && m.Mountpoint != lower {
			continue
		}
		s.log.Info("taking away what a dead mount left", "dir", m.Mountpoint)
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", m.Mountpoint, err)
		}
	}
	return nil
}

// mountName is the source of the mounts in /proc/mounts.
const mountName = "valise"

func hasOption(m *mountinfo.Info, option string) bool {
	return slices.Contains(strings.Split(m.VFSOptions, ","), option)
}

// hasDescriptor reports whether an overlay's directories were named by descriptors,
// because their paths could not be written in an option.
func hasDescriptor(m *mountinfo.Info) bool {
	return strings.Contains(m.VFSOptions, "upperdir=/proc/self/fd/")
}
