package proxy

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// A peer is the process that connected to a Unix socket. It need not be the one that
// speaks: a connection can be handed on.
type peer struct {
	uid, gid uint32
	pid      int32 // in our pid namespace; 0 if the process is not in it
	hasCreds bool  // false on TCP, where nothing else here means anything
	socket   syscall.RawConn
}

// peerKey is where a connection's context keeps its peer.
type peerKey struct{}

// connContext is the http.Server's ConnContext. It reads the credentials that the
// kernel kept when the peer connected.
func connContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, readPeer(c))
}

// peerOf returns the peer of the connection that a request came on.
func peerOf(ctx context.Context) peer {
	p, _ := ctx.Value(peerKey{}).(peer)
	return p
}

func readPeer(c net.Conn) peer {
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return peer{}
	}
	socket, err := conn.SyscallConn()
	if err != nil {
		return peer{}
	}
	var cred *unix.Ucred
	if cerr := socket.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil || err != nil {
		return peer{}
	}
	return peer{uid: cred.Uid, gid: cred.Gid, pid: cred.Pid, hasCreds: true, socket: socket}
}

// foreignNamespace names the first namespace (pid, user, mnt) in which the peer differs
// from this process, "" if there is none. What can't be told is foreign: a peer that has
// exited, that our pid namespace does not hold, or whose namespaces we may not see (that
// takes CAP_SYS_PTRACE).
//
// The pid may have passed to another process since the peer connected. Kernels from 6.5
// on have a descriptor for the very process (SO_PEERPIDFD), and if that is still alive
// after the look at /proc, the look was at it. Older ones leave a gap: the peer must
// exit, with another process still holding its connection, and its pid must come to a
// process of the host in between.
func (p peer) foreignNamespace() string {
	namespaces := []string{"pid", "user", "mnt"}
	if !p.hasCreds || p.pid <= 0 {
		return namespaces[0]
	}
	pidfd, pidfdErr := p.pidfd()
	if pidfdErr == nil {
		defer unix.Close(pidfd)
	} else if pidfdErr != unix.ENOPROTOOPT {
		return namespaces[0]
	}
	theirs := filepath.Join("/proc", strconv.Itoa(int(p.pid)), "ns")
	for _, ns := range namespaces {
		here, err := os.Readlink(filepath.Join("/proc/self/ns", ns))
		if err != nil {
			return ns
		}
		if there, err := os.Readlink(filepath.Join(theirs, ns)); err != nil || there != here {
			return ns
		}
	}
	if pidfdErr == nil && exited(pidfd) {
		return namespaces[0]
	}
	return ""
}

// exited tells whether the process of pidfd is gone.
func exited(pidfd int) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err != nil || n != 0
}

// pidfd is a descriptor for the peer's process; the kernel kept hold of it, not of its
// number. ENOPROTOOPT is a kernel that has none.
func (p peer) pidfd() (int, error) {
	fd := -1
	var err error
	cerr := p.socket.Control(func(s uintptr) {
		fd, err = unix.GetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	})
	if cerr != nil {
		return -1, cerr
	}
	return fd, err
}
