package fusefs

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// readAhead is how far the kernel reads ahead in a file, in KiB; it would be 128. It
// keeps two requests under way, as each may be a journey to the store: with blocks
// that take 20 ms, a file is read at 173 MiB/s instead of 12. More costs those who map
// a file and read here and there: a page fault brings as much.
const readAhead = 2048

// Mount shows cfg.Tree at the directory dir, for all users.
func Mount(cfg Config, dir string) (*Server, error) {
	s, err := mount(cfg, dir)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", dir, err)
	}
	if err := s.readAhead(); err != nil {
		s.view.log.Debug("read-ahead stays short", "dir", dir, "error", err)
	}
	if err := s.refusePoll(); err != nil {
		s.view.log.Debug("polling was not refused", "dir", dir, "error", err)
	}
	return s, nil
}

func mount(cfg Config, dir string) (*Server, error) {
	v, err := newView(cfg)
	if err != nil {
		return nil, err
	}
	device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/fuse", Err: err}
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,max_read=%d", device, maxRequest)
	err = unix.Mount(cmp.Or(cfg.Name, "valise"), dir, "fuse.valise", unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID, options)
	if err != nil {
		return nil, errors.Join(err, unix.Close(device))
	}
	s, err := negotiate(v, dir, device)
	if err != nil {
		return nil, errors.Join(err, unix.Close(device), unix.Unmount(dir, unix.MNT_DETACH))
	}
	return s, nil
}

// negotiate answers the kernel's first request and serves those that follow. It takes
// device unless it fails.
func negotiate(v *view, dir string, device int) (*Server, error) {
	init := make([]byte, 1<<16)
	n, err := read(device, init)
	if err != nil {
		return nil, fmt.Errorf("first request: %w", err)
	}
	init = init[:n:n]
	minor, err := connection(device, dir)
	if err != nil {
		return nil, err
	}
	server, err := attach(v, device, init, func(reply []byte) error {
		_, err := unix.Write(device, reply)
		return err
	})
	if err != nil {
		return nil, err
	}
	return start(v, server, dir, device, init, minor), nil
}

func read(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// connection returns the minor number of the file system of device, which is mounted at
// dir, without asking the file system.
func connection(device int, dir string) (uint32, error) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", device))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(info)) {
		if value, ok := strings.CutPrefix(line, "fuse_connection:"); ok { // new kernels tell it
			n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32)
			return uint32(n), err
		}
	}
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_STATX_DONT_SYNC, 0, &st); err != nil {
		return 0, &os.PathError{Op: "statx", Path: dir, Err: err}
	}
	return st.Dev_minor, nil
}

// readAhead raises what the kernel reads ahead; it needs a writable /sys.
func (s *Server) readAhead() error {
	path := fmt.Sprintf("/sys/class/bdi/0:%d/read_ahead_kb", s.minor)
	return os.WriteFile(path, strconv.AppendInt(nil, readAhead, 10), 0)
}

// refusePoll has the kernel ask once whether a file can be polled and never again. Go's
// runtime polls the files it opens: were the question asked while this process opens
// one of its own, the threads that wait for the answer could be those that give it.
// go-fuse knows the name and refuses.
func (s *Server) refusePoll() error {
	fd, err := unix.Open(filepath.Join(s.dir, ".go-fuse-epoll-hack"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return errors.Join(err, unix.Close(fd))
}

// Unmount takes the mount away; where it is in use that is EBUSY. The connection ends
// when no other mount of it is left, in another mount namespace or under an overlayfs;
// see Wait.
func (s *Server) Unmount() error { return s.unmount(unix.UMOUNT_NOFOLLOW) }

// Detach takes the mount away from its directory at once, and for good when it is in
// use no more.
func (s *Server) Detach() error { return s.unmount(unix.UMOUNT_NOFOLLOW | unix.MNT_DETACH) }

func (s *Server) unmount(flags int) error {
	if err := unix.Unmount(s.dir, flags); err != nil {
		return fmt.Errorf("unmount %s: %w", s.dir, err)
	}
	return nil
}

// Abort ends the connection whatever uses it: all that wait for it and all that come
// get an error. It needs fusectl mounted where it belongs.
func (s *Server) Abort() error {
	path := fmt.Sprintf("/sys/fs/fuse/connections/%d/abort", s.minor)
	if err := os.WriteFile(path, []byte("1"), 0); err != nil {
		return fmt.Errorf("abort %s: %w", s.dir, err)
	}
	return nil
}
