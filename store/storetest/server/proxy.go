package server

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Path is a TCP proxy to a Server whose behaviour a test sets. What is set stays until
// Clean.
type Path struct {
	Endpoint string // of the proxy, with the Server's scheme

	api    string
	client *http.Client
}

// Proxy starts toxiproxy in front of an endpoint such as a Server's.
func Proxy(t testing.TB, upstream string) *Path {
	t.Helper()
	u, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	program := binary(t, "toxiproxy-server")
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	p := &Path{client: &http.Client{Transport: transport, Timeout: 10 * time.Second}}
	p.api = "http://" + start(t, p.client, func(address string) (*exec.Cmd, string) {
		host, port, _ := strings.Cut(address, ":")
		return exec.Command(program, "-host", host, "-port", port), "http://" + address + "/version"
	})
	listen := freeAddress(t)
	p.Endpoint = u.Scheme + "://" + listen
	p.call(t, http.MethodPost, "/proxies", map[string]any{
		"name": "s3", "listen": listen, "upstream": u.Host, "enabled": true,
	})
	return p
}

// Latency delays each answer by d, give or take jitter.
func (p *Path) Latency(t testing.TB, d, jitter time.Duration) {
	t.Helper()
	p.toxic(t, "latency", "downstream", map[string]any{"latency": d.Milliseconds(), "jitter": jitter.Milliseconds()})
}

// Bandwidth limits both directions, each connection for itself, to so many KB/s.
func (p *Path) Bandwidth(t testing.TB, rate int) {
	t.Helper()
	p.toxic(t, "bandwidth", "downstream", map[string]any{"rate": rate})
	p.toxic(t, "bandwidth", "upstream", map[string]any{"rate": rate})
}

// CutAfter closes each new connection when so many bytes of answers have passed.
func (p *Path) CutAfter(t testing.TB, bytes int64) {
	t.Helper()
	p.toxic(t, "limit_data", "downstream", map[string]any{"bytes": bytes})
}

// CutRequestsAfter closes each new connection when so many bytes of requests have
// passed.
func (p *Path) CutRequestsAfter(t testing.TB, bytes int64) {
	t.Helper()
	p.toxic(t, "limit_data", "upstream", map[string]any{"bytes": bytes})
}

// Silence passes no answer on and keeps the connections open.
func (p *Path) Silence(t testing.TB) {
	t.Helper()
	p.toxic(t, "timeout", "downstream", map[string]any{"timeout": 0})
}

// Reset answers with a TCP reset.
func (p *Path) Reset(t testing.TB) {
	t.Helper()
	p.toxic(t, "reset_peer", "downstream", map[string]any{"timeout": 0})
}

// Down closes all connections and refuses new ones.
func (p *Path) Down(t testing.TB) {
	t.Helper()
	p.call(t, http.MethodPost, "/proxies/s3", map[string]any{"enabled": false})
}

// Up ends Down.
func (p *Path) Up(t testing.TB) {
	t.Helper()
	p.call(t, http.MethodPost, "/proxies/s3", map[string]any{"enabled": true})
}

// Clean ends all that was set, Down too.
func (p *Path) Clean(t testing.TB) {
	t.Helper()
	p.call(t, http.MethodPost, "/reset", nil)
}

func (p *Path) toxic(t testing.TB, kind, stream string, attributes map[string]any) {
	t.Helper()
	p.call(t, http.MethodPost, "/proxies/s3/toxics", map[string]any{
		"name": kind + "_" + stream, "type": kind, "stream": stream, "toxicity": 1.0, "attributes": attributes,
	})
}

// call asks toxiproxy. It may be made in the cleanup of a test, whose context has
// ended.
func (p *Path) call(t testing.TB, method, path string, body any) {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(method, p.api+path, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode >= 300 {
		t.Fatalf("toxiproxy: %s %s: %s: %s, %v", method, path, resp.Status, answer, err)
	}
}
