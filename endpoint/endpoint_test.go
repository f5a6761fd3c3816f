package endpoint

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func listen(t *testing.T, e Endpoint) net.Listener {
	t.Helper()
	l, err := e.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "x.sock")
	g, err := user.LookupGroupId("1")
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t, Endpoint{Address: "unix://" + path, Mode: 0o640, Group: g.Name})
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o640 || fi.Sys().(*syscall.Stat_t).Gid != 1 {
		t.Errorf("socket: got %v, %v, want 0640 of group %s", fi, err, g.Name)
	}
	if l.Addr().String() != path {
		t.Errorf("address: got %s, want %s", l.Addr(), path)
	}
	if _, err := (Endpoint{Address: "unix://" + path}).Listen(); err == nil || !strings.Contains(err.Error(), "another process is listening") {
		t.Errorf("a second listener: got %v", err)
	}
	l.Close()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the file stays after Close: %v", err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) > 0 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	unix.Close(fd) // as a killed process leaves it
	old := listen(t, Endpoint{Address: "unix://" + path})
	// A successor that took the path must survive the close of the one before.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	listen(t, Endpoint{Address: "unix://" + path})
	old.Close()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the old listener removed its successor's socket: %v", err)
	}
}

func TestListenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, e := range map[string]Endpoint{
		"exists and is no socket":              {Address: "unix://" + file},
		"want unix:///path or tcp://host:port": {Address: "http://x"},
		"no-such-group":                        {Address: "unix://" + filepath.Join(dir, "s"), Group: "no-such-group"},
		"TLS is for tcp":                       {Address: "unix://" + filepath.Join(dir, "s"), TLS: &tls.Config{}},
	} {
		l, err := e.Listen()
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want an error with %q", e, err, want)
		}
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "data" {
		t.Errorf("the file was touched: %q, %v", data, err)
	}
}

// TestTLSSpeaksHTTP1: HTTP/2 has no connection that could be taken over.
func TestTLSSpeaksHTTP1(t *testing.T) {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	l := listen(t, Endpoint{Address: "tcp://127.0.0.1:0", TLS: &tls.Config{Certificates: s.TLS.Certificates, NextProtos: []string{"h2"}}})
	go http.Serve(l, http.NotFoundHandler())
	c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("negotiated %q, want http/1.1", got)
	}
}

// peerServer answers each request with what it knows of its peer.
func peerServer(t *testing.T, address string) net.Listener {
	l := listen(t, Endpoint{Address: address, Mode: 0o666})
	s := &http.Server{ConnContext: ConnContext, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := PeerOf(r.Context())
		if !ok {
			io.WriteString(w, "no peer")
			return
		}
		io.WriteString(w, "uid "+whose(p.UID)+" foreign "+p.ForeignNamespace())
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l
}

func whose(uid uint32) string {
	if uid == uint32(os.Getuid()) {
		return "mine"
	}
	return "other"
}

func TestPeerAtHome(t *testing.T) {
	l := peerServer(t, "unix://"+filepath.Join(t.TempDir(), "s"))
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", l.Addr().String())
	}}}
	if got := get(t, client, "http://x/"); got != "uid mine foreign " {
		t.Errorf("got %q", got)
	}
	tcp := peerServer(t, "tcp://127.0.0.1:0")
	if got := get(t, http.DefaultClient, "http://"+tcp.Addr().String()); got != "no peer" {
		t.Errorf("on TCP: got %q", got)
	}
}

func get(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestForeignPeer connects from a child process in namespaces of its own.
func TestForeignPeer(t *testing.T) {
	if socket := os.Getenv("ENDPOINT_TEST_SOCKET"); socket != "" {
		client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial("unix", socket)
		}}}
		os.Stdout.WriteString("<" + get(t, client, "http://x/") + ">")
		return
	}
	l := peerServer(t, "unix://"+filepath.Join(t.TempDir(), "s"))
	for flags, want := range map[uintptr]string{
		unix.CLONE_NEWNS:                      "foreign mnt",
		unix.CLONE_NEWPID:                     "foreign pid",
		unix.CLONE_NEWUSER:                    "foreign user",
		unix.CLONE_NEWNET:                     "foreign >",
		unix.CLONE_NEWUSER | unix.CLONE_NEWNS: "foreign user",
	} {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestForeignPeer$")
		cmd.Env = append(os.Environ(), "ENDPOINT_TEST_SOCKET="+l.Addr().String())
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
		if flags&unix.CLONE_NEWUSER != 0 { // root in a container
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("clone flags %#x: got %s, %v, want %q", flags, out, err, want)
		}
	}
}
