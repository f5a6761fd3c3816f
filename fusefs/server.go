package fusefs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"valise/tree"
)

// Content is where the bytes of files come from.
type Content interface {
	// Block returns the verified plain bytes of b, which lies in a pack of packSize
	// bytes. They are shared and must not be changed. It returns soon after ctx ends,
	// without ending what others wait for.
	Block(ctx context.Context, b tree.Blob, packSize uint32) ([]byte, error)
	// Prefetch brings a whole pack of size bytes near. An error means that it makes no
	// sense to go on.
	Prefetch(ctx context.Context, id tree.PackID, size uint32) error
}

// Config says what to show. To Resume a mount, Tree and Generation must be those it was
// made with.
type Config struct {
	Tree       *tree.Tree // a whole one; it must stay open until Wait returns
	Content    Content
	Generation uint64        // of all nodes: the snapshot's number
	Patience   time.Duration // how long a read waits for content; 0: as long as the kernel lets it
	Name       string        // the mount's source in /proc/mounts; "" for valise
	Log        *slog.Logger  // nil for slog.Default
}

// Server serves one connection to the kernel. Its goroutine ends with the connection;
// who made the Server waits for that with Wait.
type Server struct {
	dir    string
	view   *view
	init   []byte
	device *os.File // a duplicate of what the readers read
	minor  uint32   // of the file system's device number: the connection's name

	done chan struct{} // closed after err is set
	err  error
}

// start serves requests in a goroutine. It takes device, a descriptor of the connection.
func start(v *view, server *fuse.Server, dir string, device int, init []byte, minor uint32) *Server {
	s := &Server{
		dir: dir, view: v, init: slices.Clone(init), minor: minor,
		device: os.NewFile(uintptr(device), "/dev/fuse"),
		done:   make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		server.Serve()
		if !ended(device) {
			s.err = fmt.Errorf("serve %s: reading requests ended before the connection", dir)
		}
		s.err = errors.Join(s.err, s.device.Close())
	}()
	return s
}

// ended reports whether the connection of a device has ended. The kernel flags an error
// on the descriptor then.
func ended(device int) bool {
	fds := []unix.PollFd{{Fd: int32(device)}}
	for {
		_, err := unix.Poll(fds, 0)
		if !errors.Is(err, unix.EINTR) {
			return err != nil || fds[0].Revents&(unix.POLLERR|unix.POLLNVAL) != 0
		}
	}
}

// Done is closed when no request will be served any more; Wait tells why.
func (s *Server) Done() <-chan struct{} { return s.done }

// Wait returns when no request will be served any more: nil when the connection has
// ended, so that no mount of it lives in any mount namespace or under any overlayfs.
func (s *Server) Wait() error {
	<-s.done
	return s.err
}

// Device returns a new descriptor of the connection, which lives as long as one is open
// and a mount of it is left.
func (s *Server) Device() (*os.File, error) {
	fd, err := duplicate(s.device)
	if err != nil {
		return nil, fmt.Errorf("device of %s: %w", s.dir, err)
	}
	return os.NewFile(uintptr(fd), "/dev/fuse"), nil
}

// Init returns the kernel's first request, which Resume needs.
func (s *Server) Init() []byte { return slices.Clone(s.init) }

// Requests returns how many requests of each kind were served, but for INIT, INTERRUPT
// and POLL, which go-fuse answers itself. A resumed Server begins at zero.
func (s *Server) Requests() map[string]uint64 { return s.view.requests.snapshot() }

// Touched returns the inode numbers of the regular files that were read, in the order
// of their first read, up to 65,536. A resumed Server begins with none, and a file
// whose pages the kernel still has does not appear.
func (s *Server) Touched() []uint64 { return s.view.touched.list() }
