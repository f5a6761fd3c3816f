package fusefs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	// maxRequest is the largest read in one request; the kernel's own limit unless
	// fs.fuse.max_pages_limit was changed.
	maxRequest = 1 << 20
	// maxBackground is how many read-ahead reads may be under way. Each that waits for
	// content that does not come takes one; with go-fuse's default of 12 a dozen of
	// them would stop every other file's.
	maxBackground = 1000
	// outHeader is the size of a reply's header: length, error and the request's number.
	outHeader = 16
)

// attach makes a go-fuse server for the connection of device; it has not begun to
// serve. init is the kernel's first request, and answer gets go-fuse's reply to it.
//
// go-fuse reads the first request itself, from a descriptor that it is given. To have
// that request in hand for a later Resume, and to have it again then when the kernel
// sends it no more, the descriptor is at first one end of a socket pair whose other end
// plays the kernel. When they have shaken hands the device takes the socket's place
// under the same number. (go-fuse keeps the number alone and reads it by system calls,
// without Go's poller, as it is a blocking one.)
func attach(v *view, device int, init []byte, answer func(reply []byte) error) (*fuse.Server, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket pair: %w", err)
	}
	kernel := pair[0]
	if _, err := unix.Write(kernel, init); err != nil {
		return nil, errors.Join(fmt.Errorf("first request: %w", err), unix.Close(kernel), unix.Close(pair[1]))
	}
	server, err := fuse.NewServer(v, fmt.Sprintf("/dev/fd/%d", pair[1]), v.options()) // takes pair[1]
	if err != nil {
		return nil, errors.Join(fmt.Errorf("first request: %w", err), unix.Close(kernel))
	}
	reply, err := receiveReply(kernel)
	if err == nil {
		err = answer(reply)
	}
	if err == nil {
		err = unix.Dup3(device, pair[1], unix.O_CLOEXEC)
	}
	err = errors.Join(err, unix.Close(kernel))
	if err != nil {
		server.Serve() // reads the pair's end and closes its descriptor
		return nil, fmt.Errorf("first reply: %w", err)
	}
	return server, nil
}

// receiveReply reads what go-fuse answered the first request.
func receiveReply(kernel int) ([]byte, error) {
	reply := make([]byte, 4096)
	n, err := unix.Read(kernel, reply)
	if err != nil {
		return nil, err
	}
	if n < outHeader {
		return nil, fmt.Errorf("reply of %d bytes", n)
	}
	if code := int32(binary.NativeEndian.Uint32(reply[4:])); code != 0 {
		return nil, unix.Errno(-code)
	}
	return reply[:n], nil
}

func (v *view) options() *fuse.MountOptions {
	return &fuse.MountOptions{
		MaxBackground:            maxBackground,
		MaxWrite:                 maxRequest, // bounds reads as well
		EnableSymlinkCaching:     true,
		ExplicitDataCacheControl: true, // a page never becomes stale
		EnableAcl:                v.acls,
		DisableSplice:            true, // content is in memory
		ExtraCapabilities:        fuse.CAP_NO_OPENDIR_SUPPORT,
		// Passthrough would count as a file system stacked on another, and leave one
		// overlayfs above this one instead of two.
		DisabledCapabilities: fuse.CAP_PASSTHROUGH,
		// Mostly replies that nobody waits for any more, after an unmount.
		Logger: slog.NewLogLogger(v.log.Handler(), slog.LevelDebug),
		PanicHandler: func(cause any) fuse.Status {
			v.log.Error("answering a request panicked", "cause", cause, "stack", string(debug.Stack()))
			return fuse.EIO
		},
	}
}
