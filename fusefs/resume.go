package fusefs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// notifyResend asks the kernel to send again what it has no answer to
// (FUSE_NOTIFY_RESEND, since Linux 6.9).
const notifyResend = 7

// Resume goes on serving a mount whose process has died. dir is where it is mounted,
// device a descriptor of its connection, which stays the caller's, and init the
// kernel's first request; see Server.Device and Server.Init. Only one process may serve
// a connection. A connection that has ended is unix.ENODEV.
func Resume(cfg Config, dir string, device *os.File, init []byte) (*Server, error) {
	s, err := resume(cfg, dir, device, init)
	if err != nil {
		return nil, fmt.Errorf("resume %s: %w", dir, err)
	}
	return s, nil
}

func resume(cfg Config, dir string, device *os.File, init []byte) (*Server, error) {
	v, err := newView(cfg)
	if err != nil {
		return nil, err
	}
	own, err := duplicate(device)
	if err != nil {
		return nil, err
	}
	if ended(own) {
		return nil, errors.Join(unix.ENODEV, unix.Close(own))
	}
	minor, err := connection(own, dir)
	if err != nil {
		return nil, errors.Join(err, unix.Close(own))
	}
	server, err := attach(v, own, init, func([]byte) error { return nil }) // the kernel has the dead one's
	if err != nil {
		return nil, errors.Join(err, unix.Close(own))
	}
	// Before the first request is read: what is read afterwards would come twice.
	if err := resend(own); err != nil {
		v.log.Warn("requests that the dead process had taken hang until they are killed", "dir", dir, "error", err)
	}
	return start(v, server, dir, own, init, minor), nil
}

// resend has the requests without an answer sent again. They come with bit 63 of their
// number set, and so do their interrupts and go-fuse's replies.
func resend(device int) error {
	var notice [outHeader]byte // length, error (here the notice's code), number (0)
	binary.NativeEndian.PutUint32(notice[0:], outHeader)
	binary.NativeEndian.PutUint32(notice[4:], notifyResend)
	_, err := unix.Write(device, notice[:])
	return err
}

// duplicate returns a new descriptor of f.
func duplicate(f *os.File) (int, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	var fd int
	var dupErr error
	err = conn.Control(func(from uintptr) { fd, dupErr = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(err, dupErr)
}
