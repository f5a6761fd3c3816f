package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// defaultMode lets the socket's owner and group in, as docker.sock does.
const defaultMode os.FileMode = 0o660

// Listener is where clients connect.
type Listener struct {
	Address string      // unix:///path or tcp://host:port
	Mode    os.FileMode // of the socket file, 0660 if zero
	Group   string      // name or number of the socket file's group, "" is the process's own
	TLS     *tls.Config // tcp only, which is refused without it
}

func (l Listener) listen() (net.Listener, error) {
	network, address, _ := strings.Cut(l.Address, "://")
	var (
		ln  net.Listener
		err error
	)
	switch {
	case network == "unix" && strings.HasPrefix(address, "/"):
		ln, err = l.listenUnix(address)
	case network == "tcp" && address != "":
		ln, err = l.listenTLS(address)
	default:
		err = errors.New("want unix:///path or tcp://host:port")
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", l.Address, err)
	}
	return ln, nil
}

func (l Listener) listenTLS(address string) (net.Listener, error) {
	if l.TLS == nil {
		return nil, errors.New("a TCP listener needs TLS")
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	config := l.TLS.Clone()
	config.NextProtos = []string{"http/1.1"} // no connection can be taken over in HTTP/2
	return tls.NewListener(ln, config), nil
}

// listenUnix makes the socket under a name of its own and moves it into place when its
// owner and mode are right: no one can connect before, and a stale file is replaced
// without a moment at which there is none.
func (l Listener) listenUnix(path string) (net.Listener, error) {
	if l.TLS != nil {
		return nil, errors.New("TLS is for tcp:// only")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := replaceable(path); err != nil {
		return nil, err
	}
	temp := path + "." + strconv.Itoa(os.Getpid())
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	own, err := l.place(temp, path)
	if err != nil {
		ln.Close()
		os.Remove(temp)
		return nil, err
	}
	return &unixListener{UnixListener: ln, path: path, own: own}, nil
}

// replaceable tells whether path is free, or a socket that no one listens on.
func replaceable(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("the path exists and is no socket")
	}
	conn, err := net.Dial("unix", path)
	switch {
	case err == nil:
		conn.Close()
		return errors.New("another process is listening there")
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	default: // EAGAIN is a full queue, so someone is there
		return fmt.Errorf("another process may be listening there: %w", err)
	}
}

// place gives the socket at temp its group and mode, and then its path.
func (l Listener) place(temp, path string) (fs.FileInfo, error) {
	if l.Group != "" {
		gid, err := groupID(l.Group)
		if err != nil {
			return nil, err
		}
		if err := os.Lchown(temp, -1, gid); err != nil {
			return nil, err
		}
	}
	mode := l.Mode
	if mode == 0 {
		mode = defaultMode
	}
	if err := os.Chmod(temp, mode); err != nil {
		return nil, err
	}
	own, err := os.Lstat(temp)
	if err != nil {
		return nil, err
	}
	return own, os.Rename(temp, path)
}

func groupID(name string) (int, error) {
	if gid, err := strconv.Atoi(name); err == nil && gid >= 0 {
		return gid, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(g.Gid)
}

// A unixListener removes its file when it is closed, unless another process has put its
// own in its place.
type unixListener struct {
	*net.UnixListener
	path string
	own  fs.FileInfo
	once sync.Once
}

// Addr is the listener's address under its final name.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

func (l *unixListener) Close() error {
	l.once.Do(func() {
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.own) {
			os.Remove(l.path)
		}
	})
	return l.UnixListener.Close()
}
