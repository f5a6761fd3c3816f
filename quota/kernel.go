package quota

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands of quotactl(2), of linux/quota.h and linux/dqblk_xfs.h.
const (
	getQuota = 0x800007
	setQuota = 0x800008
	getState = 'X'<<8 + 8 // Q_XGETQSTATV, which ext4 answers too

	projects = 2 // PRJQUOTA
)

// block is struct if_dqblk.
type block struct {
	hard, soft uint64 // in blocks of blockSize, 0 is none
	space      uint64 // bytes
	hardInodes uint64
	softInodes uint64
	inodes     uint64
	blockTime  uint64
	inodeTime  uint64
	valid      uint32
	_          uint32
}

const (
	blockSize   = 1024 // QIF_DQBLKSIZE
	blockLimits = 1    // QIF_BLIMITS
)

// state is struct fs_quota_statv.
type state struct {
	version int8
	_       uint8
	flags   uint16
	_       [156]byte
}

const projectsEnforced = 1 << 5 // FS_QUOTA_PDQ_ENFD

// attributes are struct fsxattr.
type attributes struct {
	flags, extent, extents, project, cowExtent uint32
	_                                          [8]byte
}

// Of linux/fs.h.
const (
	fsGetXattr = 0x801c581f // FS_IOC_FSGETXATTR
	fsSetXattr = 0x401c5820 // FS_IOC_FSSETXATTR
	inherit    = 0x200      // FS_XFLAG_PROJINHERIT
)

func quotactl(f *os.File, command uintptr, id uint32, data unsafe.Pointer) error {
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, f.Fd(), command<<8|projects, uintptr(id), uintptr(data), 0, 0)
	if errno != 0 {
		return fmt.Errorf("quotactl: %w", errno)
	}
	return nil
}

func ioctl(f *os.File, request uintptr, a *attributes) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(a)))
	if errno != 0 {
		return fmt.Errorf("project: %w", errno)
	}
	return nil
}
