package proxy

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestTooLargeBodyIsTold: a client that is still sending when it is refused sees why.
func TestTooLargeBodyIsTold(t *testing.T) {
	p, err := New(Config{
		Upstream: Upstream{Address: "unix:///nowhere"}, Driver: "valise",
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}, testPolicy(t))
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx, []Listener{{Listener: l, Identity: []string{"valise"}}}) }()
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", socket)
	}}}
	for range 20 {
		resp, err := client.Post("http://docker/containers/create", "application/json", strings.NewReader(strings.Repeat(" ", 3*maxBody)))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(string(body), `{"message":"the body is larger than`) {
			t.Fatalf("got %s %q, %v", resp.Status, body, err)
		}
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
