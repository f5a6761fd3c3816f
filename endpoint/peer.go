package endpoint

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Peer is the process that connected to a Unix socket. It need not be the one that
// speaks: a connection can be handed on.
type Peer struct {
	UID, GID uint32
	PID      int32 // in our pid namespace; 0 if the process is not in it

	socket syscall.RawConn
}

// peerKey is where a connection's context keeps its peer.
type peerKey struct{}

// ConnContext is the http.Server's ConnContext. It reads the credentials that the
// kernel kept when the peer connected.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	p, ok := readPeer(c)
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, p)
}

// PeerOf returns the peer of the connection that a request came on, false on TCP.
func PeerOf(ctx context.Context) (Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(Peer)
	return p, ok
}

func readPeer(c net.Conn) (Peer, bool) {
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return Peer{}, false
	}
	socket, err := conn.SyscallConn()
	if err != nil {
		return Peer{}, false
	}
	var cred *unix.Ucred
	if cerr := socket.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil || err != nil {
		return Peer{}, false
	}
	return Peer{UID: cred.Uid, GID: cred.Gid, PID: cred.Pid, socket: socket}, true
}

// ForeignNamespace names the first namespace (pid, user, mnt) in which the peer differs
// from this process, "" if there is none. What can't be told is foreign: a peer that has
// exited, that our pid namespace does not hold, or whose namespaces we may not see (that
// takes CAP_SYS_PTRACE).
//
// The pid may have passed to another process since the peer connected. Kernels from 6.5
// on have a descriptor for the very process (SO_PEERPIDFD), and if that is still alive
// after the look at /proc, the look was at it. Older ones leave a gap: the peer must
// exit, with another process still holding its connection, and its pid must come to a
// process of the host in between.
func (p Peer) ForeignNamespace() string {
	namespaces := []string{"pid", "user", "mnt"}
	if p.PID <= 0 {
		return namespaces[0]
	}
	pidfd, pidfdErr := p.pidfd()
	if pidfdErr == nil {
		defer unix.Close(pidfd)
	} else if pidfdErr != unix.ENOPROTOOPT {
		return namespaces[0]
	}
	theirs := filepath.Join("/proc", strconv.Itoa(int(p.PID)), "ns")
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

// killed tells whether the peer's process has ended but for threads that hang in a dead
// file system: such a process keeps its sockets, and will never answer on them. No
// signal ends a call that the file system's server has taken on.
func (p Peer) killed() bool {
	if p.PID <= 0 {
		return false
	}
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(int(p.PID)), "status"))
	if err != nil {
		return false // another process has inherited its socket
	}
	const sigkill = 1 << (unix.SIGKILL - 1)
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		switch name {
		case "State":
			if strings.HasPrefix(value, "Z") || strings.HasPrefix(value, "X") {
				return true
			}
		case "SigPnd", "ShdPnd":
			pending, err := strconv.ParseUint(value, 16, 64)
			if err == nil && pending&sigkill != 0 {
				return true
			}
		}
	}
	return false
}

// exited tells whether the process of pidfd is gone.
func exited(pidfd int) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err != nil || n != 0
}

// pidfd is a descriptor for the peer's process; the kernel kept hold of it, not of its
// number. ENOPROTOOPT is a kernel that has none.
func (p Peer) pidfd() (int, error) {
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
