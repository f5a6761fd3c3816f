package proxy

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// linger is how long a side that is gone is waited out by the other: bytes on their way
// still arrive, and a peer that never closes costs no more than this.
const linger = time.Second

// pipe copies both directions until both have ended. Each ends on its own: the end of
// the client's input reaches the container while its output goes on, and the other way
// round. A side that hung up altogether ends the other after linger. One that is there
// but sends nothing, or takes nothing, may do so for ever, as it could without a proxy.
func (t *tunnel) pipe() {
	input, output := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		carry(t.daemon, t.fromClient, t.daemonGone)
		close(input)
		if awaitHangup(t.client) {
			t.clientGone()
		}
	})
	all.Go(func() {
		carry(t.client, t.fromDaemon, t.clientGone)
		close(output)
		if awaitHangup(t.daemon) {
			t.daemonGone()
		}
	})
	<-input
	<-output
	t.abort()
	all.Wait()
}

// clientGone ends both directions soon: no one is there to take output, and input has
// linger to get through.
func (t *tunnel) clientGone() { t.daemon.SetDeadline(time.Now().Add(linger)) }

// daemonGone ends the input soon. Output that is still on its way to a slow client has
// all the time it needs.
func (t *tunnel) daemonGone() { t.client.SetReadDeadline(time.Now().Add(linger)) }

// carry copies until src ends, and passes the end on to dst. When dst takes no more, src
// is read on for its end alone; gone is called if that is because dst hung up.
func carry(dst net.Conn, src io.Reader, gone func()) {
	buf := make([]byte, 32<<10)
	broken := false
	for {
		n, err := src.Read(buf)
		if n > 0 && !broken {
			_, werr := dst.Write(buf[:n])
			broken = werr != nil
			if broken && hungUp(dst) {
				gone()
			}
		}
		if err != nil {
			break
		}
	}
	closeWrite(dst)
}

// closeWrite ends what we send on c. Where that is impossible, nothing but closing is
// left, which abort does.
func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
}

// raw is the socket below c, nil if there is none.
func raw(c net.Conn) syscall.RawConn {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	socket, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	conn, err := socket.SyscallConn()
	if err != nil {
		return nil
	}
	return conn
}

// awaitHangup waits until the other end of c is closed altogether, and tells whether it
// is: false means that the wait was ended by a deadline or by closing c. Only a Unix
// socket tells this from an end of sending at once; TCP does when something sent is
// refused, keep-alive probes included. It takes c's side of reading: nothing else may
// read c meanwhile.
func awaitHangup(c net.Conn) bool {
	conn := raw(c)
	if conn == nil {
		return false
	}
	// Between calls the runtime waits for the socket's next event.
	return conn.Read(func(fd uintptr) bool { return polledHangup(fd) }) == nil
}

// hungUp tells whether the other end of c is closed altogether.
func hungUp(c net.Conn) bool {
	conn := raw(c)
	up := false
	if conn != nil {
		conn.Control(func(fd uintptr) { up = polledHangup(fd) })
	}
	return up
}

func polledHangup(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1 && fds[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}
