package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// session is a container with a user's home, in which a shell takes orders.
type session struct {
	host *host
	id   string
	conn net.Conn
	out  *bufio.Reader

	began, created, started, running time.Time
}

func (s *session) took() time.Duration { return s.running.Sub(s.began) }

// shell is what runs in a session. Docker stops it by a signal.
const shell = `trap 'exit 0' TERM; echo running; while read -r line; do eval "$line"; echo done; done`

// login makes a user's session by the Engine API, through the proxy, and returns when its
// shell has said that it runs.
func (h *host) login(ctx context.Context, workspace, user string) (*session, error) {
	client := unixClient(h.api)
	defer client.CloseIdleConnections()
	s := &session{host: h, began: time.Now()}
	var made struct{ ID string }
	if err := call(ctx, client, http.MethodPost, "http://docker/containers/create", map[string]any{
		"Image": image, "User": "user", "Cmd": []string{"sh", "-c", shell}, "OpenStdin": true,
		"Labels": map[string]string{"valise.user": user, "valise.workspace": workspace, "bench": h.name},
	}, &made); err != nil {
		return nil, err
	}
	s.id, s.created = made.ID, time.Now()
	if err := s.attach(ctx); err != nil {
		return nil, err
	}
	if err := call(ctx, client, http.MethodPost, "http://docker/containers/"+s.id+"/start", nil, nil); err != nil {
		return nil, err
	}
	s.started = time.Now()
	err := s.await("running")
	s.running = time.Now()
	return s, err
}

// attach connects to the shell's streams.
func (s *session) attach(ctx context.Context) (err error) {
	if s.conn, err = unixDialer(s.host.api)(ctx, "", ""); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://docker/containers/"+s.id+"/attach?stream=1&stdin=1&stdout=1&stderr=1", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "tcp")
	if err := req.Write(s.conn); err != nil {
		return err
	}
	s.out = bufio.NewReader(s.conn)
	resp, err := http.ReadResponse(s.out, req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return errors.New("attach: " + resp.Status)
	}
	return s.conn.SetReadDeadline(time.Now().Add(10 * time.Minute))
}

// await reads up to a line that ends with word, behind Docker's header of 8 bytes.
func (s *session) await(word string) error {
	said := ""
	for {
		line, err := s.out.ReadString('\n')
		said += line
		if err != nil {
			return fmt.Errorf("session: %w: %q", err, said)
		}
		if strings.HasSuffix(line, word+"\n") {
			return nil
		}
	}
}

// do has the shell do something.
func (s *session) do(order string) error {
	if _, err := fmt.Fprintln(s.conn, order+" || echo failed"); err != nil {
		return err
	}
	return s.await("done")
}

// stop is docker stop. How long it took is measured; remove comes after it.
func (s *session) stop(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	err := call(ctx, s.host.direct, http.MethodPost, "http://docker/containers/"+s.id+"/stop?t=10", nil, nil)
	return time.Since(began), err
}

func (s *session) remove(ctx context.Context) error {
	return errors.Join(s.conn.Close(), s.host.remove(ctx, s.id))
}

// logout ends a session in which nothing is measured any more.
func (s *session) logout(ctx context.Context) error {
	_, err := s.stop(ctx)
	return errors.Join(err, s.remove(ctx))
}

func (h *host) remove(ctx context.Context, id string) error {
	return call(ctx, h.direct, http.MethodDelete, "http://docker/containers/"+id+"?force=1", nil, nil)
}

// removeSessions removes the containers that are left, some at once.
func (h *host) removeSessions(ctx context.Context) error {
	var list []struct{ ID string }
	filters := url.QueryEscape(fmt.Sprintf(`{"label":["bench=%s"]}`, h.name))
	if err := call(ctx, h.direct, http.MethodGet, "http://docker/containers/json?all=1&filters="+filters, nil, &list); err != nil {
		return err
	}
	errs := make([]error, len(list))
	some := make(chan struct{}, 4)
	var wg sync.WaitGroup
	for i, c := range list {
		wg.Go(func() {
			some <- struct{}{}
			errs[i] = h.remove(ctx, c.ID)
			<-some
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// callRecorder lies between Docker and a volume driver and remembers the calls.
type callRecorder struct {
	client *http.Client // the driver's
	server *http.Server

	mu    sync.Mutex // mu guards calls
	calls []request
}

func recordCalls(socket, driver string) (*callRecorder, error) {
	if err := os.MkdirAll("/run/docker/plugins", 0o755); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	r := &callRecorder{client: unixClient(driver)}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.Out.URL.Scheme, p.Out.URL.Host = "http", "driver" },
		Transport: r.client.Transport,
	}
	r.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		done := request{what: strings.TrimPrefix(req.URL.Path, "/"), start: time.Now()}
		proxy.ServeHTTP(w, req)
		done.end = time.Now()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.calls = append(r.calls, done)
	})}
	go func() { _ = r.server.Serve(l) }() // until close
	return r, nil
}

func (r *callRecorder) close() error { return r.server.Close() }

// since returns the calls that began after a time.
func (r *callRecorder) since(from time.Time) []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []request
	for _, c := range r.calls {
		if c.start.After(from) {
			out = append(out, c)
		}
	}
	return out
}

func unixDialer(path string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
}

func unixClient(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: unixDialer(path)}}
}
