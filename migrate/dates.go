package migrate

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// date gives the directories that no object tells the time of that of the newest entry
// in them, as file systems on such objects show it; told are the others. It returns the
// time that the top should have.
func (s *stage) date(told map[id]bool) (int64, error) {
	top, err := openBeneath(s.root, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return 0, err
	}
	return s.dateDir(top, "", told)
}

// dateDir takes over the descriptor fd of the directory rel, and returns its new time.
func (s *stage) dateDir(fd int, rel string, told map[id]bool) (newest int64, err error) {
	dir := os.NewFile(uintptr(fd), rel)
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(1024)
		for _, name := range names {
			at, err := s.dateName(fd, path.Join(rel, name), name, told)
			if err != nil {
				return 0, fmt.Errorf("date %q: %w", path.Join(rel, name), err)
			}
			newest = max(newest, at)
		}
		if errors.Is(err, io.EOF) {
			return newest, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

func (s *stage) dateName(fd int, rel, name string, told map[id]bool) (int64, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		return 0, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return st.Mtim.Nano(), nil
	}
	sub, err := openBeneath(fd, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return 0, err
	}
	newest, err := s.dateDir(sub, rel, told)
	if err != nil {
		return 0, err
	}
	if told[pathID(rel)] {
		return st.Mtim.Nano(), nil
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(newest)}
	return newest, retry(func() error { return unix.UtimesNanoAt(fd, name, times, unix.AT_SYMLINK_NOFOLLOW) })
}
