package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What reaches the daemon is what the client sent, but for what concerns one connection.
func TestForwardRequest(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"nothing is added",
			"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n",
			"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n"},
		{"the request line stays",
			"GET /v1.41/containers/a%2Fb/json?x=%zz&y=a;b&filters={\"a\"} HTTP/1.1\r\nHost: h:1\r\n\r\n",
			"GET /v1.41/containers/a%2Fb/json?x=%zz&y=a;b&filters={\"a\"} HTTP/1.1\r\nHost: h:1\r\n\r\n"},
		{"two slashes are no host",
			"GET //v1.41/info HTTP/1.1\r\nHost: d\r\n\r\n",
			"GET //v1.41/info HTTP/1.1\r\nHost: d\r\n\r\n"},
		{"headers stay",
			"DELETE /x HTTP/1.1\r\nHost: d\r\nUser-Agent: a/1\r\nX-Registry-Auth: e30=\r\nX-B: 1\r\nX-B: 2\r\n\r\n",
			"DELETE /x HTTP/1.1\r\nHost: d\r\nUser-Agent: a/1\r\nX-B: 1\r\nX-B: 2\r\nX-Registry-Auth: e30=\r\n\r\n"},
		{"hop by hop",
			"GET /x HTTP/1.1\r\nHost: d\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nTe: trailers\r\nKeep-Alive: 5\r\n\r\n",
			"GET /x HTTP/1.1\r\nHost: d\r\nTe: trailers\r\n\r\n"},
		{"a body with a length",
			"POST /x HTTP/1.1\r\nHost: d\r\nContent-Length: 3\r\n\r\nabc",
			"POST /x HTTP/1.1\r\nHost: d\r\nContent-Length: 3\r\n\r\nabc"},
		{"no body",
			"POST /x HTTP/1.1\r\nHost: d\r\n\r\n",
			"POST /x HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n"},
		{"a body in chunks, with a trailer",
			"PUT /x HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
			"PUT /x HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"},
	}
	noLeaks(t)
	daemon := network("unix").listen(t)
	defer daemon.Close()
	front := network("unix").proxied(t, daemon)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := front.connect(t)
			send(t, client, tt.in)
			conn, err := daemon.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			expect(t, conn, tt.want)
			send(t, conn, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
			expect(t, client, "HTTP/1.1 204 No Content\r\n")
		})
	}
}

func TestForwardAnswer(t *testing.T) {
	tests := []struct{ name, method, in, want string }{
		{"nothing is added", "GET",
			"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html",
			"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html"},
		{"headers stay", "GET",
			"HTTP/1.1 404 Not Found\r\nApi-Version: 1.41\r\nContent-Type: text/x\r\nDate: now\r\nX: 1\r\nX: 2\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 404 Not Found\r\nApi-Version: 1.41\r\nContent-Length: 0\r\nContent-Type: text/x\r\nDate: now\r\nX: 1\r\nX: 2\r\n\r\n"},
		{"of a HEAD", "HEAD",
			"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"},
		{"chunks and trailers", "GET",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
			"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"},
		{"hop by hop", "GET",
			"HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{"until the end of the connection", "GET",
			"HTTP/1.1 200 OK\r\n\r\nabc",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"},
		{"early hints", "GET",
			"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
	}
	noLeaks(t)
	daemon := network("unix").listen(t)
	defer daemon.Close()
	front := network("unix").proxied(t, daemon)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := front.connect(t)
			send(t, client, tt.method+" /x HTTP/1.1\r\nHost: d\r\n\r\n")
			conn := daemon.accept(t)
			send(t, conn, tt.in)
			conn.Close()
			expect(t, client, tt.want)
		})
	}
}

func TestForwardStreams(t *testing.T) {
	noLeaks(t)
	daemon := network("unix").listen(t)
	daemon.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := http.NewResponseController(w)
		out.EnableFullDuplex()
		out.Flush() // the head comes before there is anything to say
		for buf := make([]byte, 100); ; {
			n, err := r.Body.Read(buf)
			w.Write(buf[:n])
			out.Flush()
			if err != nil {
				return
			}
		}
	}))
	front := network("unix").proxied(t, daemon)
	body, in := io.Pipe()
	resp, err := front.client(t).Post("http://docker/echo", "", body)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for _, text := range []string{"one", "two", strings.Repeat("x", 1<<20)} {
		go io.WriteString(in, text)
		expect(t, resp.Body, text)
	}
	in.Close()
	expectEnd(t, resp.Body)
}

// A daemon that refuses an upload answers, and hangs up with most of it unread.
func TestForwardEarlyAnswer(t *testing.T) {
	noLeaks(t)
	daemon := network("unix").listen(t)
	defer daemon.Close()
	front := network("unix").proxied(t, daemon)
	client := front.client(t)
	for range 50 {
		go func() {
			conn, err := daemon.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\nContent-Length: 9\r\nConnection: close\r\n\r\nno thanks")
			}
		}()
		resp, err := client.Post("http://docker/build", "", &endless{})
		if err != nil {
			t.Fatal(err)
		}
		expect(t, resp.Body, "no thanks")
		resp.Body.Close()
	}
}

type endless struct{}

func (*endless) Read(p []byte) (int, error) { return len(p), nil }

// The answer comes while the client's upload rests in the middle.
func TestForwardEarlyAnswerIdleUpload(t *testing.T) {
	noLeaks(t)
	daemon := network("unix").listen(t)
	defer daemon.Close()
	front := network("unix").proxied(t, daemon)
	client := front.connect(t)
	send(t, client, "POST /build HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	conn := daemon.accept(t)
	send(t, conn, "HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno")
	expect(t, client, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
}

func TestForwardClientGone(t *testing.T) {
	for _, head := range []string{"", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"} {
		noLeaks(t)
		daemon := network("unix").listen(t)
		defer daemon.Close()
		front := network("unix").proxied(t, daemon)
		client := front.connect(t)
		send(t, client, "GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
		conn := daemon.accept(t)
		send(t, conn, head)
		if head != "" {
			expect(t, client, "HTTP/1.1 200 OK\r\n")
		}
		client.Close()
		expectEnd(t, conn)
	}
}

func TestForwardBrokenAnswer(t *testing.T) {
	tests := []struct{ name, head string }{
		{"in chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"},
		{"with a length", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabcde"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			daemon := network("unix").listen(t)
			defer daemon.Close()
			front := network("unix").proxied(t, daemon)
			go func() {
				conn, err := daemon.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				http.ReadRequest(bufio.NewReader(conn))
				io.WriteString(conn, tt.head)
			}()
			resp, err := front.client(t).Get("http://docker/x")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if got, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("got %q and %v, want an unexpected end", got, err)
			}
		})
	}
}

func TestForwardUnreachable(t *testing.T) {
	noLeaks(t)
	daemon := network("unix").listen(t)
	front := network("unix").proxied(t, daemon)
	tests := []struct {
		name, want string
		stop       func()
	}{
		{"no answer", "the Docker daemon at " + daemon.upstream.Address + " gave no answer: ", func() {
			go func() {
				if conn, err := daemon.Accept(); err == nil {
					conn.Close()
				}
			}()
		}},
		{"nobody there", "cannot reach the Docker daemon at " + daemon.upstream.Address + ": ", func() { daemon.Close() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.stop()
			for _, path := range []string{"/_ping", "/exec/1/start"} {
				resp, err := front.client(t).Post("http://docker"+path, "application/json", strings.NewReader("{}"))
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusBadGateway || resp.Header.Get("Content-Type") != "application/json" ||
					!strings.HasPrefix(string(body), `{"message":"`+tt.want) {
					t.Errorf("%s: got %d %s (%v), want 502 …%s…", path, resp.StatusCode, body, err, tt.want)
				}
				if path == "/_ping" {
					tt.stop()
				}
			}
		})
	}
}

func TestForwardDo(t *testing.T) {
	noLeaks(t)
	daemon := network("tls").listen(t)
	daemon.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		io.WriteString(w, r.Method+" "+r.RequestURI+" "+r.Header.Get("Content-Type")+" "+string(body))
	}))
	f := newTestForwarder(t, daemon.upstream)
	resp, err := f.do(t.Context(), http.MethodPost, "/volumes/a b", url.Values{"force": {"1"}}, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("POST /volumes/a%20b?force=1 application/json {}", string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.do(gone, http.MethodGet, "/x", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestUpstreamAddress(t *testing.T) {
	for _, bad := range []string{"", "/var/run/docker.sock", "unix://docker.sock", "tcp://host", "http://host:1"} {
		if f, err := newForwarder(Upstream{Address: bad}, nil); err == nil {
			f.close()
			t.Errorf("%q: want an error", bad)
		}
	}
}

// A connection that the daemon closed while it was idle is no error.
func TestForwardStaleConnection(t *testing.T) {
	noLeaks(t)
	daemon := network("unix").listen(t)
	defer daemon.Close()
	front := network("unix").proxied(t, daemon)
	client := front.client(t)
	go func() {
		for {
			conn, err := daemon.Accept()
			if err != nil {
				return
			}
			http.ReadRequest(bufio.NewReader(conn))
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			conn.(*net.UnixConn).Close()
		}
	}()
	for range 100 {
		resp, err := client.Get("http://docker/_ping")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("got %s", resp.Status)
		}
	}
}
