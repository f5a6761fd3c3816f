package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestIsUpgrade(t *testing.T) {
	tests := []struct {
		method, target string
		upgrade        string
		want           bool
	}{
		{"POST", "/containers/a/attach?stream=1", "", true},
		{"POST", "/v1.41/containers/a/attach", "", true},
		{"POST", "/v1.24/exec/e/start", "", true},
		{"POST", "/session", "h2c", true},
		{"POST", "/v1.56/grpc", "", true},
		{"GET", "/containers/a/attach/ws", "", true},
		{"GET", "/anything", "tcp", true},
		{"GET", "/containers/a/attach", "", false},
		{"POST", "/containers//attach", "", false},
		{"POST", "/containers/attach", "", false},
		{"POST", "/exec/e/resize", "", false},
		{"POST", "/vx/session", "", false},
		{"POST", "/v1.41session", "", false},
		{"POST", "/containers/a/start", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.target, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, tt.target, nil)
			if tt.upgrade != "" {
				r.Header.Set("Upgrade", tt.upgrade)
			}
			if got := isUpgrade(r); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

const (
	attach       = "POST /v1.41/containers/a/attach?stream=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
	plainAttach  = "POST /v1.41/containers/a/attach?stream=1 HTTP/1.1\r\nHost: d\r\n\r\n"
	execStart    = "POST /v1.41/exec/e/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n{}"
	switched     = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nContent-Type: application/vnd.docker.raw-stream\r\nUpgrade: tcp\r\n\r\n"
	plainStream  = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
	notFound     = "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}"
	notFoundLast = "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}"
)

// A world is a client, a forwarder and a daemon, with a tunnel about to be made.
type world struct {
	client net.Conn
	daemon place
	front  place
}

// worlds runs test with either network on both sides.
func worlds(t *testing.T, test func(t *testing.T, w world)) {
	for _, n := range []network{"unix", "tls"} {
		t.Run(string(n), func(t *testing.T) {
			noLeaks(t)
			daemon := n.listen(t)
			defer daemon.Close()
			front := n.proxied(t, daemon)
			test(t, world{front.connect(t), daemon, front})
		})
	}
}

// established makes the tunnel.
func (w world) established(t *testing.T, request, answer string) *call {
	t.Helper()
	send(t, w.client, request)
	c := w.daemon.accept(t)
	io.CopyN(io.Discard, c, c.req.ContentLength)
	send(t, c, answer)
	expect(t, w.client, answer)
	return c
}

func halfClose(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
}

// Bytes right behind the request and right behind the answer arrive, in either form.
func TestTunnelEarlyBytes(t *testing.T) {
	forms := []struct{ name, request, answer, body string }{
		{"attach", attach, switched, ""},
		{"attach without Upgrade", plainAttach, plainStream, ""},
		{"exec", execStart, switched, "{}"},
		{"multiplexed", plainAttach, strings.Replace(plainStream, "raw", "multiplexed", 1), ""},
	}
	big := strings.Repeat("0123456789", 20000)
	for _, form := range forms {
		for _, early := range []string{"x", "early input", big} {
			t.Run(fmt.Sprint(form.name, len(early)), func(t *testing.T) {
				worlds(t, func(t *testing.T, w world) {
					go io.WriteString(w.client, form.request+early)
					c := w.daemon.accept(t)
					expect(t, c, form.body)
					go io.WriteString(c.Conn, form.answer+early)
					expect(t, c, early)
					expect(t, w.client, form.answer+early)
					send(t, w.client, "more")
					expect(t, c, "more")
					send(t, c.Conn, "more")
					expect(t, w.client, "more")
				})
			})
		}
	}
}

// The client's end of input reaches the daemon, also from before the answer, and the
// output still comes back.
func TestTunnelInputEnds(t *testing.T) {
	for _, before := range []bool{true, false} {
		t.Run(fmt.Sprint("before the answer: ", before), func(t *testing.T) {
			worlds(t, func(t *testing.T, w world) {
				send(t, w.client, attach+"input")
				if before {
					halfClose(t, w.client)
				}
				c := w.daemon.accept(t)
				send(t, c.Conn, switched)
				if !before {
					expect(t, w.client, switched)
					halfClose(t, w.client)
				}
				expect(t, c, "input")
				expectEnd(t, c)
				send(t, c.Conn, "output")
				c.Close()
				if before {
					expect(t, w.client, switched)
				}
				expect(t, w.client, "output")
				expectEnd(t, w.client)
			})
		})
	}
}

// The end of the output reaches the client while the input goes on.
func TestTunnelOutputEnds(t *testing.T) {
	worlds(t, func(t *testing.T, w world) {
		c := w.established(t, attach, switched)
		send(t, c.Conn, "output")
		halfClose(t, c.Conn)
		expect(t, w.client, "output")
		expectEnd(t, w.client)
		send(t, w.client, "input")
		expect(t, c, "input")
		halfClose(t, w.client)
		expectEnd(t, c)
	})
}

// Whichever side goes, the other is let go too: noLeaks watches both connections.
func TestTunnelSideDies(t *testing.T) {
	t.Run("daemon, client waits", func(t *testing.T) {
		worlds(t, func(t *testing.T, w world) {
			c := w.established(t, execStart, switched)
			send(t, c.Conn, "output")
			c.Close()
			expect(t, w.client, "output")
			expectEnd(t, w.client)
		})
	})
	t.Run("daemon, client goes on", func(t *testing.T) {
		worlds(t, func(t *testing.T, w world) {
			c := w.established(t, execStart, switched)
			c.Close()
			expectEnd(t, w.client)
			eventually(t, "a write fails", func() bool {
				_, err := io.WriteString(w.client, "input")
				return err != nil
			})
		})
	})
	t.Run("client, daemon silent", func(t *testing.T) {
		worlds(t, func(t *testing.T, w world) {
			c := w.established(t, attach, switched)
			send(t, w.client, "last words")
			w.client.Close()
			expect(t, c, "last words")
			expectEnd(t, c)
			if _, isUnix := c.Conn.(*net.UnixConn); isUnix {
				eventually(t, "the daemon's connection is closed", func() bool { return hungUp(c.Conn) })
			}
		})
	})
	t.Run("client, daemon goes on", func(t *testing.T) {
		worlds(t, func(t *testing.T, w world) {
			c := w.established(t, attach, switched)
			w.client.Close()
			eventually(t, "a write fails", func() bool {
				_, err := c.Conn.Write(make([]byte, 64<<10))
				return err != nil
			})
		})
	})
	t.Run("client, before the answer", func(t *testing.T) {
		// On TCP this can't be told from the end of the input.
		noLeaks(t)
		daemon := network("unix").listen(t)
		defer daemon.Close()
		client := network("unix").proxied(t, daemon).connect(t)
		send(t, client, attach)
		c := daemon.accept(t)
		client.Close()
		expectEnd(t, c)
	})
	t.Run("client half closed, then gone, daemon silent", func(t *testing.T) {
		noLeaks(t)
		daemon := network("unix").listen(t)
		defer daemon.Close()
		w := world{daemon: daemon, client: network("unix").proxied(t, daemon).connect(t)}
		c := w.established(t, attach, switched)
		halfClose(t, w.client)
		expectEnd(t, c)
		send(t, c.Conn, "output")
		expect(t, w.client, "output")
		w.client.Close()
		eventually(t, "the daemon's connection is closed", func() bool { return hungUp(c.Conn) })
	})
	t.Run("daemon, before the answer", func(t *testing.T) {
		worlds(t, func(t *testing.T, w world) {
			send(t, w.client, attach)
			w.daemon.accept(t).Close()
			expect(t, w.client, "HTTP/1.1 502 Bad Gateway\r\n")
		})
	})
}

// Where no tunnel comes about, what the client sent for it must not become a request.
func TestTunnelRefused(t *testing.T) {
	tests := []struct{ name, answer, want string }{
		{"not found", notFound, notFoundLast},
		{"detached", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"},
		{"in chunks", "HTTP/1.1 409 Conflict\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "HTTP/1.1 409 Conflict\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"},
		{"raw, but framed", "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\nContent-Length: 1\r\n\r\nx", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\nx"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			worlds(t, func(t *testing.T, w world) {
				send(t, w.client, attach+"POST /containers/create HTTP/1.1\r\nHost: d\r\n\r\n")
				c := w.daemon.accept(t)
				send(t, c.Conn, tt.answer)
				expect(t, w.client, tt.want)
				expectEnd(t, w.client)
				w.client.Close()
				expectEnd(t, c)
			})
		})
	}
}

func TestTunnelRequest(t *testing.T) {
	worlds(t, func(t *testing.T, w world) {
		send(t, w.client, "POST /v1.41/exec/a%2Fb/start?x=%zz HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\nUpgrade: tcp\r\nConnection: upgrade, x-hop\r\nX-Hop: 1\r\nX-Y: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
		conn, err := w.daemon.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		expect(t, conn, "POST /v1.41/exec/a%2Fb/start?x=%zz HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nX-Y: 2\r\n\r\n{}")
	})
}

func TestTunnelBodyTooLarge(t *testing.T) {
	noLeaks(t)
	daemon := network("unix").listen(t)
	defer daemon.Close()
	front := network("unix").proxied(t, daemon)
	resp, err := front.client(t).Post("http://docker/exec/e/start", "application/json", io.LimitReader(&endless{}, maxTunnelBody+1))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("got %s, want 413", resp.Status)
	}
}

// Closing the forwarder ends what no server knows of any more.
func TestTunnelShutdown(t *testing.T) {
	noLeaks(t)
	daemon := network("unix").listen(t)
	defer daemon.Close()
	front := network("unix").listen(t)
	f := newTestForwarder(t, daemon.upstream)
	front.serve(t, http.HandlerFunc(f.tunnel))
	w := world{daemon: daemon, client: front.connect(t)}
	c := w.established(t, attach, switched)
	f.close()
	expectEnd(t, w.client)
	expectEnd(t, c)
	after := front.connect(t)
	send(t, after, attach)
	expectEnd(t, after)
}
