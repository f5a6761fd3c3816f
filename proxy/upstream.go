package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// dialTimeout bounds the way to a daemon on another host. A Unix socket answers at once.
const dialTimeout = 30 * time.Second

// Upstream is the Docker daemon that requests go to.
type Upstream struct {
	Address string      // unix:///path or tcp://host:port
	TLS     *tls.Config // for tcp; nil is plain text
}

// split gives the network and the address as package net wants them.
func (u Upstream) split() (network, address string, err error) {
	network, address, _ = strings.Cut(u.Address, "://")
	switch network {
	case "unix":
		if !strings.HasPrefix(address, "/") {
			return "", "", fmt.Errorf("upstream %q: want unix:///path", u.Address)
		}
		if u.TLS != nil {
			return "", "", fmt.Errorf("upstream %q: TLS is for tcp:// only", u.Address)
		}
	case "tcp":
		if _, _, err := net.SplitHostPort(address); err != nil {
			return "", "", fmt.Errorf("upstream %q: want tcp://host:port: %w", u.Address, err)
		}
	default:
		return "", "", fmt.Errorf("upstream %q: want unix:///path or tcp://host:port", u.Address)
	}
	return network, address, nil
}

// dial opens a connection to the daemon, through TLS where that is configured. Its
// error is a fault that names the daemon.
func (f *forwarder) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, f.network, f.address)
	if err != nil {
		return nil, f.unreachable(err)
	}
	if f.upstream.TLS == nil {
		return conn, nil
	}
	config := f.upstream.TLS.Clone()
	config.NextProtos = []string{"http/1.1"} // a tunnel needs a connection of its own
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(f.address)
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, f.unreachable(err)
	}
	return secure, nil
}

func (f *forwarder) unreachable(err error) *fault {
	return faultf(http.StatusBadGateway, "cannot reach the Docker daemon at %s: %v", f.upstream.Address, err)
}

// A patientConn holds a failed write back until reading has ended too. http.Transport
// drops an answer that it has not delivered yet, or cuts one that is under way, when
// the request can't be written to its end; and a daemon that refuses an upload in the
// middle answers, and then hangs up.
type patientConn struct {
	net.Conn

	once sync.Once
	over chan struct{} // closed when reading failed or the connection was closed
}

func newPatientConn(c net.Conn) *patientConn {
	return &patientConn{Conn: c, over: make(chan struct{})}
}

func (c *patientConn) end() { c.once.Do(func() { close(c.over) }) }

func (c *patientConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.end()
	}
	return n, err
}

func (c *patientConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		<-c.over
	}
	return n, err
}

func (c *patientConn) Close() error {
	c.end()
	return c.Conn.Close()
}
