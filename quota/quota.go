package quota

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrUnsupported says that a file system does not hold anyone to project quotas.
var ErrUnsupported = errors.New("its file system enforces no project quotas: " +
	"mount it with prjquota (ext4 with the features quota and project) or pquota (xfs)")

// Check returns an error that is ErrUnsupported if what lies in dir can't be limited.
func Check(dir string) error {
	return within(dir, func(f *os.File) error {
		var state state
		state.version = 1
		err := quotactl(f, getState, 0, unsafe.Pointer(&state))
		if err != nil && !unsupported(err) {
			return err
		}
		if err != nil || state.flags&projectsEnforced == 0 {
			return ErrUnsupported
		}
		return nil
	})
}

// unsupported are the answers of file systems without quotas, and of kernels.
func unsupported(err error) bool {
	for _, e := range []unix.Errno{unix.ENOSYS, unix.ENOTTY, unix.EOPNOTSUPP, unix.ESRCH, unix.EINVAL, unix.ENODEV} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Assign makes dir, which must be empty, a project of its own, without a limit.
func Assign(dir string) error {
	return within(dir, func(f *os.File) error {
		project, err := free(f)
		if err != nil {
			return err
		}
		var a attributes
		if err := ioctl(f, fsGetXattr, &a); err != nil {
			return err
		}
		a.flags |= inherit
		a.project = project
		return ioctl(f, fsSetXattr, &a)
	})
}

// free finds a project that has nothing. Its limit may be that of one that ended.
func free(f *os.File) (uint32, error) {
	for {
		project := 1<<30 | rand.Uint32N(1<<30)
		u, err := usage(f, project)
		if err == nil && u.space == 0 && u.inodes == 0 {
			err = limit(f, project, 0)
			return project, err
		}
		if err != nil {
			return 0, err
		}
	}
}

// Usage is what a project has, in bytes.
type Usage struct {
	Used  int64
	Limit int64 // 0 is none
}

// Of returns the usage of dir's project. ok is false if dir was never assigned.
func Of(dir string) (u Usage, ok bool, err error) {
	err = within(dir, func(f *os.File) error {
		project, err := projectOf(f)
		if err != nil || project == 0 {
			return err
		}
		d, err := usage(f, project)
		u, ok = Usage{int64(d.space), int64(d.hard) * blockSize}, err == nil
		return err
	})
	return u, ok, err
}

// Limit limits dir's project to so many bytes, rounded up to whole blocks of 1 KiB; 0
// takes the limit away. A project that has more already can only shrink. It is an error
// if dir was never assigned.
func Limit(dir string, bytes int64) error {
	return within(dir, func(f *os.File) error {
		project, err := projectOf(f)
		if err != nil {
			return err
		}
		if project == 0 {
			return errors.New("it has no project")
		}
		return limit(f, project, bytes)
	})
}

func limit(f *os.File, project uint32, bytes int64) error {
	d := block{hard: uint64(bytes+blockSize-1) / blockSize, valid: blockLimits}
	return quotactl(f, setQuota, project, unsafe.Pointer(&d))
}

func projectOf(f *os.File) (uint32, error) {
	var a attributes
	err := ioctl(f, fsGetXattr, &a)
	return a.project, err
}

// usage is nothing for a project that was never used.
func usage(f *os.File, project uint32) (block, error) {
	var d block
	err := quotactl(f, getQuota, project, unsafe.Pointer(&d))
	if errors.Is(err, unix.ENOENT) { // xfs
		return block{}, nil
	}
	return d, err
}

// within opens dir for do, whose errors name it.
func within(dir string, do func(*os.File) error) error {
	f, err := os.OpenFile(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("quota: %w", err)
	}
	defer f.Close()
	if err := do(f); err != nil {
		return fmt.Errorf("quota of %s: %w", dir, err)
	}
	return nil
}
