package notice

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/pkg/stdcopy"
)

// daemon is a Docker daemon that a test plays: its Engine is do.
type daemon struct {
	mu         sync.Mutex // guards what follows
	containers []running
	volumes    map[string]status
	requests   []string // METHOD PATH
	execs      []*execution
	down       bool                      // it refuses connections
	hang       func(path string) bool    // it takes the request and says no more
	program    func(c string) *execution // what a command does in container c; nil = it succeeds
	commands   map[string][][]string     // that were run, by container
	body       func(path string) []byte  // raw answers
	refuse     func(path string) (status int, message string)
	hanging    int
}

// execution is a command in a container.
type execution struct {
	output  string
	code    int
	hangs   bool // until the test sets runs to false
	runs    bool
	started bool
}

func newDaemon() *daemon {
	return &daemon{volumes: map[string]status{}, commands: map[string][][]string{}}
}

func (d *daemon) do(ctx context.Context, method, path string, query url.Values, body []byte) (*http.Response, error) {
	d.mu.Lock()
	d.requests = append(d.requests, method+" "+path)
	down, hang := d.down, d.hang != nil && d.hang(path)
	d.mu.Unlock()
	if down {
		return nil, errors.New("connection refused")
	}
	if hang {
		d.count(1)
		defer d.count(-1)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuse != nil {
		if status, message := d.refuse(path); status != 0 {
			return answer(status, map[string]string{"message": message}), nil
		}
	}
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case path == "/containers/json":
		if query.Get("filters") != `{"status":{"running":true}}` {
			return answer(400, nil), nil
		}
		return answer(200, d.containers), nil
	case parts[0] == "volumes":
		s, ok := d.volumes[parts[1]]
		if !ok {
			return answer(404, map[string]string{"message": "no such volume"}), nil
		}
		return answer(200, map[string]any{"Name": parts[1], "Status": s}), nil
	case parts[0] == "containers":
		var asked container.ExecOptions
		if err := json.Unmarshal(body, &asked); err != nil || asked.User != "" || asked.Privileged || asked.Tty {
			return answer(400, nil), nil
		}
		e := &execution{}
		if d.program != nil {
			if p := d.program(parts[1]); p != nil {
				e = p
			}
		}
		d.execs = append(d.execs, e)
		d.commands[parts[1]] = append(d.commands[parts[1]], asked.Cmd)
		return answer(201, map[string]string{"Id": fmt.Sprint(len(d.execs) - 1)}), nil
	case parts[2] == "start":
		e := d.exec(parts[1])
		e.started, e.runs = true, e.hangs
		var out bytes.Buffer
		stdcopy.NewStdWriter(&out, stdcopy.Stderr).Write([]byte(e.output))
		resp := answer(200, nil)
		resp.Body = io.NopCloser(&out)
		if e.hangs {
			resp.Body = io.NopCloser(io.MultiReader(&out, silence{ctx}))
		}
		return resp, nil
	default:
		e := d.exec(parts[1])
		return answer(200, container.ExecInspect{Running: e.runs, ExitCode: e.code}), nil
	}
}

func (d *daemon) exec(id string) *execution {
	var n int
	fmt.Sscan(id, &n)
	return d.execs[n]
}

func (d *daemon) count(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hanging += n
}

// silence is a stream on which nothing comes.
type silence struct{ ctx context.Context }

func (s silence) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

func answer(status int, body any) *http.Response {
	data, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Body: io.NopCloser(bytes.NewReader(data))}
}

// change changes the daemon under its lock.
func (d *daemon) change(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// ran returns what was run in a container so far and forgets it.
func (d *daemon) ran(c string) (lines []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, command := range d.commands[c] {
		lines = append(lines, strings.Join(command, "|"))
	}
	delete(d.commands, c)
	return lines
}

// asked counts requests that begin with prefix.
func (d *daemon) asked(prefix string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

// with is a container that has a volume of the driver as its home.
func with(id, volume string) running {
	return running{ID: id, Names: []string{"/name-of-" + id}, Mounts: []container.MountPoint{
		{Type: mount.TypeVolume, Name: volume, Driver: "valise:latest", Destination: "/home/kasm-user"},
	}}
}

// alice is a directory profile of 100 bytes as the driver shows it.
func alice(usage int64) status {
	s := status{Kind: "profile", Workspace: "desktop", User: "alice", Limit: 100, Usage: usage}
	switch {
	case usage > 100:
		s.Fill = "over the limit"
	case usage > 90:
		s.Fill = "above 90 % of the limit"
	default:
		s.Fill = "fits"
	}
	return s
}

// script is a command that shows what it is told.
var script = []string{"tell", "{level}", "{message}"}

// journal is a log that a test reads.
type journal struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

// count counts the lines that hold all the words.
func (j *journal) count(words ...string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range strings.Lines(j.buf.String()) {
		hit := true
		for _, w := range words {
			hit = hit && strings.Contains(line, w)
		}
		if hit {
			n++
		}
	}
	return n
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

// rig is a notifier at work, in a bubble whose clock is the test's.
type rig struct {
	*testing.T
	*daemon
	log  *journal
	stop func() // and wait until nothing is left
}

// bubble runs a test with a notifier that looks every 30 s; posts go to hook.
func bubble(t *testing.T, cfg Config, hook func(*http.Request) (*http.Response, error), test func(r rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := rig{T: t, daemon: newDaemon(), log: &journal{}}
		if cfg.Command == nil {
			cfg.Command = script
		}
		n, err := New(cfg, "valise", r.do, slog.New(slog.NewTextHandler(r.log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if n.hook != nil {
			n.hook.client.Transport = transport(hook)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); n.Run(ctx) }()
		r.stop = func() { cancel(); <-done }
		defer r.stop()
		test(r)
	})
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// passes lets n passes go by, of an interval of 30 s.
func (r rig) passes(n int) {
	time.Sleep(time.Duration(n)*30*time.Second + time.Millisecond)
	synctest.Wait()
}

// told compares what a container was told since the last time.
func (r rig) told(c string, want ...string) {
	r.Helper()
	got := r.ran(c)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		r.Errorf("container %s was told\n%s\nwant\n%s", c, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
