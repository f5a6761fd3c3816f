package proxy

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Sizes of the way through. dockerd writes archives in pieces of 32 KiB; a reader that
// takes several at once saves the proxy its system calls. What a request costs is
// bufferSize while its answer is copied, and the transport's two while it is pooled.
const (
	bufferSize      = 128 << 10
	readBufferSize  = 128 << 10
	writeBufferSize = 64 << 10
	idleConns       = 64
)

// A forwarder carries requests to the daemon as they are. It is safe for concurrent use.
type forwarder struct {
	upstream         Upstream
	network, address string
	log              *slog.Logger
	transport        *http.Transport
	buffers          sync.Pool // of *[]byte, bufferSize long

	mu     sync.Mutex // guards live and closed
	live   map[*tunnel]struct{}
	closed bool
	open   sync.WaitGroup // the tunnels in live
}

func newForwarder(upstream Upstream, log *slog.Logger) (*forwarder, error) {
	network, address, err := upstream.split()
	if err != nil {
		return nil, err
	}
	f := &forwarder{
		upstream: upstream, network: network, address: address, log: log,
		live: map[*tunnel]struct{}{},
	}
	f.buffers.New = func() any { b := make([]byte, bufferSize); return &b }
	f.transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := f.dial(ctx)
			if err != nil {
				return nil, err
			}
			return newPatientConn(conn), nil
		},
		DisableCompression:    true,
		MaxIdleConnsPerHost:   idleConns,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
		ReadBufferSize:        readBufferSize,
		WriteBufferSize:       writeBufferSize,
	}
	return f, nil
}

// ServeHTTP carries one request and its answer. The bodies stream both ways at once.
func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		// Unsupported only by a ResponseWriter that is no connection (tests).
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	resp, err := f.send(r)
	if err != nil {
		if r.ContentLength != 0 {
			w.Header().Set("Connection", "close") // the rest of the body is not read
		}
		writeFault(w, err)
		return
	}
	f.relay(w, resp)
}

// send carries a request that a server received to the daemon. The request line goes
// as r.RequestURI says, byte for byte. The answer's body must be closed; relay does.
func (f *forwarder) send(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodConnect {
		return nil, faultf(http.StatusMethodNotAllowed, "the Docker daemon is no HTTP proxy")
	}
	out, body := outgoing(r)
	resp, err := f.transport.RoundTrip(out)
	if err == nil && resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body.Close()
		err = errors.New("it switched protocols unasked")
	}
	if err == nil {
		return resp, nil
	}
	if body != nil && body.failed() {
		return nil, faultf(http.StatusBadRequest, "read the request's body: %v", err)
	}
	return nil, f.noAnswer(r.Context(), err)
}

// do sends a request of the proxy's own. A body is JSON.
func (f *forwarder) do(ctx context.Context, method, path string, query url.Values, body []byte) (*http.Response, error) {
	target := url.URL{Scheme: "http", Host: "docker", Path: path, RawQuery: query.Encode()}
	r, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := f.transport.RoundTrip(r)
	if err != nil {
		return nil, f.noAnswer(ctx, err)
	}
	return resp, nil
}

// noAnswer makes a failed round trip a fault, unless the caller gave up first.
func (f *forwarder) noAnswer(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if gone, ok := errors.AsType[*fault](err); ok {
		return gone
	}
	return faultf(http.StatusBadGateway, "the Docker daemon at %s gave no answer: %v", f.upstream.Address, err)
}

// close ends every tunnel, waits for them and drops the idle connections. Requests
// that are not tunnels belong to the server, which must be shut down first.
func (f *forwarder) close() {
	f.mu.Lock()
	f.closed = true
	for t := range f.live {
		t.abort()
	}
	f.mu.Unlock()
	f.open.Wait()
	f.transport.CloseIdleConnections()
}
