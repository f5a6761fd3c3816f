package endpoint

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

// Endpoint is where clients connect.
type Endpoint struct {
	Address string      // unix:///path or tcp://host:port
	Mode    os.FileMode // of the socket file, 0660 if zero
	Group   string      // name or number of the socket file's group, "" is the process's own
	TLS     *tls.Config // tcp only
}

// Listen opens the socket.
func (e Endpoint) Listen() (net.Listener, error) {
	network, address, _ := strings.Cut(e.Address, "://")
	var (
		ln  net.Listener
		err error
	)
	switch {
	case network == "unix" && strings.HasPrefix(address, "/"):
		ln, err = e.listenUnix(address)
	case network == "tcp" && address != "":
		ln, err = e.listenTCP(address)
	default:
		err = errors.New("want unix:///path or tcp://host:port")
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", e.Address, err)
	}
	return ln, nil
}

func (e Endpoint) listenTCP(address string) (net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil || e.TLS == nil {
		return ln, err
	}
	config := e.TLS.Clone()
	config.NextProtos = []string{"http/1.1"} // no connection can be taken over in HTTP/2
	return tls.NewListener(ln, config), nil
}

// listenUnix makes the socket under a name of its own and moves it into place when its
// owner and mode are right: no one can connect before, and a stale file is replaced
// without a moment at which there is none.
func (e Endpoint) listenUnix(path string) (net.Listener, error) {
	if e.TLS != nil {
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
	own, err := e.place(temp, path)
	if err != nil {
		ln.Close()
		os.Remove(temp)
		return nil, err
	}
	return &unixListener{UnixListener: ln, path: path, own: own}, nil
}

// replaceable tells whether path is free, or a socket that no one listens on any more.
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
		defer conn.Close()
		if peer, ok := readPeer(conn); ok && peer.killed() {
			return nil
		}
		return errors.New("another process is listening there")
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	default: // EAGAIN is a full queue, so someone is there
		return fmt.Errorf("another process may be listening there: %w", err)
	}
}

// place gives the socket at temp its group and mode, and then its path.
func (e Endpoint) place(temp, path string) (fs.FileInfo, error) {
	if e.Group != "" {
		gid, err := groupID(e.Group)
		if err != nil {
			return nil, err
		}
		if err := os.Lchown(temp, -1, gid); err != nil {
			return nil, err
		}
	}
	mode := e.Mode
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
