package layer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// CheckUpper tries in dir what overlayfs and Scanner need of the file system of an
// upper directory. It leaves nothing behind. overlayfs itself would mount without most
// of it, and do less.
func CheckUpper(dir string) error {
	probe, err := os.MkdirTemp(dir, ".valise-check-")
	if err != nil {
		return fmt.Errorf("check %s: %w", dir, err)
	}
	defer os.RemoveAll(probe)
	for _, c := range [...]struct {
		what string
		try  func(dir string) error
	}{
		{"trusted extended attributes", checkXattr},
		{"whiteouts", checkWhiteout},
		{"file types in directory listings", checkType},
		{"O_TMPFILE", checkTmpfile},
		{"file leases", checkLease},
		{"change times of mapped files", checkMappedTimes},
	} {
		err := c.try(probe)
		switch {
		case err == nil:
		case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EIO):
			return fmt.Errorf("check %s: %s: %w", dir, c.what, err)
		default:
			return fmt.Errorf("check %s: its file system lacks %s: %w: "+
				"the state directory must lie on a local file system such as ext4 or xfs", dir, c.what, err)
		}
	}
	return nil
}

func checkXattr(dir string) error {
	return unix.Setxattr(dir, xattrOpaque, []byte("y"), 0)
}

// checkWhiteout makes the two kinds: by mknod and by a rename that leaves one.
func checkWhiteout(dir string) error {
	if err := unix.Mknod(filepath.Join(dir, "whiteout"), unix.S_IFCHR, 0); err != nil {
		return err
	}
	from := filepath.Join(dir, "from")
	if err := os.WriteFile(from, nil, 0o600); err != nil {
		return err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, filepath.Join(dir, "to"), unix.RENAME_WHITEOUT); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return err
	}
	if !isWhiteout(&st) {
		return errors.New("the rename left none")
	}
	return nil
}

func checkType(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	entries, err := readDir(int(d.Fd()), make([]byte, 4096))
	if err != nil {
		return err
	}
	want := map[string]byte{"from": unix.DT_CHR, "to": unix.DT_REG, "whiteout": unix.DT_CHR}
	for _, e := range entries {
		if e.kind == want[e.name] {
			delete(want, e.name)
		}
	}
	if len(want) > 0 {
		return errors.New("wrong or unknown types")
	}
	return nil
}

func checkTmpfile(dir string) error {
	f, err := os.OpenFile(dir, unix.O_TMPFILE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD,
		filepath.Join(dir, "linked"), unix.AT_SYMLINK_FOLLOW)
}

// checkLease wants a lease granted on another user's file at rest, and refused while it
// has a writer.
func checkLease(dir string) error {
	const nobody = 65534
	path := filepath.Join(dir, "to")
	if err := os.Chown(path, nobody, nobody); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	l, err := takeLease(int(f.Fd()))
	if errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w (this process needs CAP_LEASE)", err)
	}
	if err != nil {
		return err
	}
	if !l.held() {
		return errors.New("refused on a file at rest")
	}
	l.release()
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer w.Close()
	if l, err := takeLease(int(f.Fd())); err == nil && l.held() {
		l.release()
		return errors.New("granted on a file that is open for writing")
	}
	return nil
}

// checkMappedTimes wants the first store through a mapping to change the file's times.
func checkMappedTimes(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "mapped"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	size := os.Getpagesize()
	if err := f.Truncate(int64(size)); err != nil {
		return err
	}
	old := []unix.Timespec{{Sec: 1}, {Sec: 1}}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, f.Name(), old, 0); err != nil {
		return err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	m[0] = 1
	if err := unix.Munmap(m); err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.ModTime().Equal(time.Unix(1, 0)) {
		return errors.New("a store through a mapping did not change them")
	}
	return nil
}
