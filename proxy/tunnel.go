package proxy

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// maxTunnelBody bounds the body of a request that becomes a tunnel; exec/start sends
// some 30 bytes of JSON.
const maxTunnelBody = 1 << 20

// isUpgrade tells whether the answer to r may turn the connection into a tunnel: r asks
// for another protocol, or it is for one of the endpoints that take the connection over
// even unasked. A tunnel's request goes to the daemon as it is: whatever has rules of
// its own must be routed before this is asked, for an Upgrade header can be on it too.
func isUpgrade(r *http.Request) bool {
	if r.Header.Get("Upgrade") != "" {
		return true
	}
	path := unversioned(r.URL.Path)
	switch r.Method {
	case http.MethodPost:
		return path == "/session" || path == "/grpc" ||
			between(path, "/containers/", "/attach") || between(path, "/exec/", "/start")
	case http.MethodGet:
		return between(path, "/containers/", "/attach/ws")
	}
	return false
}

// unversioned is path without the API version, which dockerd takes to be /v[0-9.]+.
func unversioned(path string) string {
	rest, ok := strings.CutPrefix(path, "/v")
	if !ok {
		return path
	}
	end := strings.TrimLeft(rest, "0123456789.")
	if end == rest || !strings.HasPrefix(end, "/") {
		return path
	}
	return end
}

// between tells whether path has something between prefix and suffix.
func between(path, prefix, suffix string) bool {
	return len(path) > len(prefix)+len(suffix) &&
		strings.HasPrefix(path, prefix) && strings.HasSuffix(path, suffix)
}

// A tunnel is a client's connection and one to the daemon that belongs to it alone.
type tunnel struct {
	client, daemon net.Conn
	fromClient     io.Reader // client, after the bytes that came right behind the request
	fromDaemon     *bufio.Reader
	request        *http.Request
	once           sync.Once // closes the connections
}

// abort closes both connections; whatever reads or writes them returns.
func (t *tunnel) abort() {
	t.once.Do(func() {
		t.client.Close()
		t.daemon.Close()
	})
}

// tunnel carries a request whose answer may take the connection over. The client's
// connection is taken over before the daemon has answered: only then can the client end
// its input early without net/http taking it for gone. What it sends behind the request
// reaches the daemon after the daemon's consent, never before: a daemon that refuses
// would read it as requests that no one has looked at.
func (f *forwarder) tunnel(w http.ResponseWriter, r *http.Request) {
	t, err := f.openTunnel(w, r)
	if err != nil {
		w.Header().Set("Connection", "close")
		writeFault(w, err)
		return
	}
	defer f.forget(t)
	defer t.abort()
	stop := t.watchClient()
	defer stop()
	resp, err := t.ask()
	if err != nil {
		resp = f.refusal(err)
	}
	// Closing resp.Body would read it to its end; abort ends it.
	if !switches(t.request, resp) {
		if t.answer(resp) == nil {
			stop()
			t.leave()
		}
		return
	}
	stop()
	if _, err := t.client.Write(switchHead(resp)); err == nil {
		t.pipe()
	}
}

// openTunnel reads the request, connects to the daemon and takes the client's
// connection over. After an error the ResponseWriter still works.
func (f *forwarder) openTunnel(w http.ResponseWriter, r *http.Request) (*tunnel, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxTunnelBody+1))
	if err != nil {
		return nil, faultf(http.StatusBadRequest, "read the request's body: %v", err)
	}
	if len(body) > maxTunnelBody {
		return nil, faultf(http.StatusRequestEntityTooLarge, "the request's body is larger than %d bytes", maxTunnelBody)
	}
	daemon, err := f.dial(context.WithoutCancel(r.Context()))
	if err != nil {
		return nil, err
	}
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		daemon.Close()
		return nil, err
	}
	early, _ := buffered.Reader.Peek(buffered.Reader.Buffered())
	t := &tunnel{
		client: client, daemon: daemon,
		fromClient: io.MultiReader(bytes.NewReader(bytes.Clone(early)), client),
		fromDaemon: bufio.NewReader(daemon),
		request:    upgrading(r, body),
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.live[t] = struct{}{}
	f.open.Add(1)
	if f.closed {
		t.abort()
	}
	return t, nil
}

func (f *forwarder) forget(t *tunnel) {
	f.mu.Lock()
	delete(f.live, t)
	f.mu.Unlock()
	f.open.Done()
}

// upgrading is r for the daemon, with its wish for another protocol.
func upgrading(r *http.Request, body []byte) *http.Request {
	upgrade := r.Header["Upgrade"]
	out, _ := outgoing(r)
	if len(upgrade) > 0 {
		out.Header["Connection"] = []string{"Upgrade"}
		out.Header["Upgrade"] = slices.Clone(upgrade)
	}
	out.Body, out.ContentLength, out.Trailer = nil, int64(len(body)), nil
	if len(body) > 0 {
		out.Body = io.NopCloser(bytes.NewReader(body))
	}
	out.Header.Del("Expect")
	return out
}

// switches tells whether the daemon took the connection over. It does so with 101, or,
// for a client that sent no Upgrade, with a 200 whose content ends with the connection.
func switches(r *http.Request, resp *http.Response) bool {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return r.Header.Get("Upgrade") != ""
	}
	raw := resp.StatusCode == http.StatusOK && resp.ContentLength < 0 && len(resp.TransferEncoding) == 0
	switch resp.Header.Get("Content-Type") {
	case "application/vnd.docker.raw-stream", "application/vnd.docker.multiplexed-stream":
		return raw
	}
	return false
}
