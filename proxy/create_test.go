package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestTooLargeBodyIsTold: a client that reads no answer before it has sent everything
// can send it, and sees why it was refused.
func TestTooLargeBodyIsTold(t *testing.T) {
	p, err := New(Config{
		Upstream: Upstream{Address: "unix:///nowhere"}, Driver: "valise",
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}, testPolicy(t))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx, []Listener{{Listener: l, Identity: []string{"valise"}}}) }()
	client, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	const size = 4 * maxBody
	fmt.Fprintf(client, "POST /containers/create HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", size)
	if n, err := io.WriteString(client, strings.Repeat(" ", size)); err != nil {
		t.Errorf("cut off after %d of %d bytes: %v", n, size, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(client), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(string(body), `{"message":"the body is larger than`) {
		t.Errorf("got %s %q, %v", resp.Status, body, err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
