package proxy

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// patience bounds what should happen at once.
const patience = 20 * time.Second

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// usage counts the process's goroutines and descriptors.
func usage(t *testing.T) (goroutines, fds int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return runtime.NumGoroutine(), len(entries)
}

// noLeaks fails the test unless it leaves as many goroutines and descriptors as it found.
func noLeaks(t *testing.T) {
	goroutines, fds := usage(t)
	t.Cleanup(func() {
		eventually(t, "all goroutines and descriptors gone", func() bool {
			g, f := usage(t)
			return g <= goroutines && f <= fds
		})
	})
}

// A network is how a test's connections run: "unix" or "tls".
type network string

// certificates returns the two sides' configurations.
func certificates(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return &tls.Config{Certificates: s.TLS.Certificates, NextProtos: []string{"http/1.1"}}, &tls.Config{RootCAs: roots}
}

// place is somewhere to listen and to connect to.
type place struct {
	net.Listener
	upstream Upstream
}

func (n network) listen(t *testing.T) place {
	t.Helper()
	if n == "tls" {
		server, client := certificates(t)
		l, err := tls.Listen("tcp", "127.0.0.1:0", server)
		if err != nil {
			t.Fatal(err)
		}
		return place{l, Upstream{Address: "tcp://" + l.Addr().String(), TLS: client}}
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	return place{l, Upstream{Address: "unix://" + path}}
}

// connect dials the place, as a forwarder would.
func (p place) connect(t *testing.T) net.Conn {
	t.Helper()
	f := newTestForwarder(t, p.upstream)
	c, err := f.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// client speaks HTTP to the place.
func (p place) client(t *testing.T) *http.Client {
	t.Helper()
	f := newTestForwarder(t, p.upstream)
	return &http.Client{Transport: f.transport}
}

func newTestForwarder(t *testing.T, upstream Upstream) *forwarder {
	t.Helper()
	f, err := newForwarder(upstream, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.close)
	return f
}

// serve serves h at the place until the test ends.
func (p place) serve(t *testing.T, h http.Handler) {
	t.Helper()
	s := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(p)
	}()
	t.Cleanup(func() { s.Close(); <-done })
}

// proxied puts a forwarder before daemon.
func (n network) proxied(t *testing.T, daemon place) place {
	t.Helper()
	p := n.listen(t)
	f := newTestForwarder(t, daemon.upstream)
	p.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isUpgrade(r) {
			f.tunnel(w, r)
		} else {
			f.ServeHTTP(w, r)
		}
	}))
	return p
}

// A call is one connection to a daemon that a test plays byte by byte.
type call struct {
	net.Conn
	*bufio.Reader
	req *http.Request // its head
}

func (c *call) Read(p []byte) (int, error) { return c.Reader.Read(p) }

// accept waits for a connection and its request's head.
func (p place) accept(t *testing.T) *call {
	t.Helper()
	conn, err := p.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	c := &call{Conn: conn, Reader: bufio.NewReader(conn)}
	if c.req, err = http.ReadRequest(c.Reader); err != nil {
		t.Fatalf("read the request: %v", err)
	}
	return c
}

// expect reads exactly want.
func expect(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("got %q (%v), want %q", got[:n], err, want)
	}
}

// expectEnd reads the end of r.
func expectEnd(t *testing.T, r io.Reader) {
	t.Helper()
	if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil {
		t.Fatalf("got %q (%v), want the end", rest, err)
	}
}

func send(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatalf("send %q: %v", text, err)
	}
}
