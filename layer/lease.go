package layer

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// lease is a read lease on an open file: while it is held, nobody has the file open for
// writing or mapped for it. What opens it for writing waits until it is released; the
// longest wait is what lies between two calls of held.
//
// The lease is on the file of upper. overlayfs opens that file for as long as the
// user's descriptor or mapping of the merged file lives, so its writers count.
type lease struct {
	fd    int
	valid bool
}

// takeLease asks for a lease. One that is refused since the file has a writer is no
// error: held is false from the beginning, as it is on an error. Others' files need
// CAP_LEASE.
func takeLease(fd int) (*lease, error) {
	l := &lease{fd: fd}
	// The kernel announces a break by SIGIO, which would end a program that has no
	// handler for it. The Go runtime has one for every signal and ignores SIGURG.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETSIG, int(unix.SIGURG)); err != nil {
		return l, fmt.Errorf("set the signal of a lease: %w", err)
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		return l, fmt.Errorf("take a lease: %w", err)
	}
	l.valid = err == nil
	return l, nil
}

// held reports whether the lease was never broken. If it is being broken, held gives it
// up, so that the writer goes on.
func (l *lease) held() bool {
	if !l.valid {
		return false
	}
	if kind, err := unix.FcntlInt(uintptr(l.fd), unix.F_GETLEASE, 0); err == nil && kind == unix.F_RDLCK {
		return true
	}
	l.release()
	return false
}

func (l *lease) release() {
	if l.valid {
		_, _ = unix.FcntlInt(uintptr(l.fd), unix.F_SETLEASE, unix.F_UNLCK)
		l.valid = false
	}
}
