package migrate

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// sweep removes from the directory what is not kept: what a killed Fetch did not finish,
// and files whose objects changed or are gone. Directories that are not kept stay if
// something in them does.
func (s *stage) sweep(kept map[id]bool) error {
	top, err := openBeneath(s.root, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	return s.sweepDir(top, "", kept)
}

// sweepDir takes over the descriptor fd of the directory rel.
func (s *stage) sweepDir(fd int, rel string, kept map[id]bool) error {
	dir := os.NewFile(uintptr(fd), rel)
	defer dir.Close()
	for {
		// Removing while reading may hide names on some file systems, so the removed are
		// few at a time, and it ends when a whole pass removes none.
		removed, err := s.sweepPass(dir, rel, kept)
		if err != nil || !removed {
			return err
		}
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
}

func (s *stage) sweepPass(dir *os.File, rel string, kept map[id]bool) (removed bool, err error) {
	fd := int(dir.Fd())
	for {
		names, err := dir.Readdirnames(1024)
		for _, name := range names {
			gone, err := s.sweepName(fd, rel, name, kept)
			if err != nil {
				return false, fmt.Errorf("sweep %q: %w", path.Join(rel, name), err)
			}
			removed = removed || gone
		}
		if errors.Is(err, io.EOF) {
			return removed, nil
		}
		if err != nil {
			return false, err
		}
	}
}

func (s *stage) sweepName(fd int, rel, name string, kept map[id]bool) (removed bool, err error) {
	full := path.Join(rel, name)
	keep := kept[pathID(full)]
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		return false, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if keep {
			return false, nil
		}
		return true, remove(fd, name, 0)
	}
	sub, err := openBeneath(fd, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return false, err
	}
	if err := s.sweepDir(sub, full, kept); err != nil || keep {
		return false, err
	}
	err = remove(fd, name, unix.AT_REMOVEDIR)
	if err == unix.ENOTEMPTY || err == unix.EEXIST {
		return false, nil
	}
	return true, err
}
