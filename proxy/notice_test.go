package proxy

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"valise/notice"

	"github.com/docker/docker/pkg/stdcopy"
)

// TestNoticesGoUpstream: the proxy's notices take the forwarder's way to the daemon, an
// answer that is a hijacked connection included.
func TestNoticesGoUpstream(t *testing.T) {
	noLeaks(t)
	daemon := network("unix").listen(t)
	told, asked := make(chan string, 10), atomic.Int32{}
	daemon.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case "GET /containers/json":
			io.WriteString(w, `[{"Id":"c","Names":["/c"],"Mounts":[{"Type":"volume","Name":"v","Driver":"valise","Destination":"/home"}]}]`)
		case "GET /volumes/v":
			io.WriteString(w, `{"Name":"v","Status":{"kind":"profile","limit_bytes":100,"usage_bytes":95,"fill":"above 90 % of the limit"}}`)
		case "POST /containers/c/exec":
			var made struct{ Cmd []string }
			if json.NewDecoder(r.Body).Decode(&made) == nil {
				told <- strings.Join(made.Cmd, " ")
			}
			w.WriteHeader(http.StatusCreated)
			io.WriteString(w, `{"Id":"e"}`)
		case "POST /exec/e/start":
			io.Copy(io.Discard, r.Body)
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n")
			io.WriteString(stdcopy.NewStdWriter(conn, stdcopy.Stdout), "done")
		case "GET /exec/e/json":
			io.WriteString(w, `{"Running":false,"ExitCode":0}`)
			asked.Add(1)
		default:
			t.Errorf("unexpected %s %s", r.Method, r.URL)
		}
	}))
	stop := serveNotices(t, daemon, slog.New(slog.DiscardHandler))
	if got := <-told; got != "tell near" {
		t.Errorf("told %q", got)
	}
	eventually(t, "the command's end seen", func() bool { return asked.Load() == 1 })
	stop()
}

// TestNoticesEndWithTheProxy: a daemon that hangs does not hold Serve.
func TestNoticesEndWithTheProxy(t *testing.T) {
	noLeaks(t)
	daemon := network("unix").listen(t)
	asked := make(chan bool, 10)
	daemon.serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- true
		<-r.Context().Done()
	}))
	stop := serveNotices(t, daemon, slog.New(slog.DiscardHandler))
	<-asked
	began := time.Now()
	stop()
	if took := time.Since(began); took > drainTime {
		t.Errorf("took %s", took)
	}
}

// serveNotices runs a proxy without listeners that looks every 10 ms.
func serveNotices(t *testing.T, daemon place, log *slog.Logger) (stop func()) {
	t.Helper()
	p, err := New(Config{
		Upstream: daemon.upstream, Driver: "valise", Log: log,
		Notices: notice.Config{Command: []string{"tell", "{level}"}, Interval: 10 * time.Millisecond},
	}, testPolicy(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx, nil) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}
