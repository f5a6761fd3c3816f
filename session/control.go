package session

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultRunDir is where the sockets of mounts are.
const DefaultRunDir = "/run/valise/mounts"

// ErrNotMounted says that no process serves a mount at a directory.
var ErrNotMounted = errors.New("no profile is mounted there")

// ErrMounted says that a process serves a mount at a directory already.
var ErrMounted = errors.New("a profile is mounted there already")

func socketPath(runDir, dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(runDir, hex.EncodeToString(sum[:12])+".sock")
}

// listen makes the socket for Control, before there is a mount point, so that whoever
// sees that one can use the other.
func (s *Session) listen(ctx context.Context) error {
	if s.cfg.RunDir == "" {
		return nil
	}
	if err := os.MkdirAll(s.cfg.RunDir, 0o700); err != nil {
		return err
	}
	path := socketPath(s.cfg.RunDir, s.cfg.Dir)
	if err := awaitEnd(ctx, path); err != nil {
		return fmt.Errorf("%s: %w", s.cfg.Dir, err)
	}
	// By a rename, so that who waits for the end of a take-over always finds a socket.
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: next, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	s.socket = l
	return os.Rename(next, path)
}

// clearSocket removes the socket of a process that died, with nobody to follow it.
func (s *Session) clearSocket() error {
	if s.cfg.RunDir == "" {
		return nil
	}
	path := socketPath(s.cfg.RunDir, s.cfg.Dir)
	if _, err := dialSocket(path); !errors.Is(err, ErrNotMounted) {
		return nil // another profile is mounted there
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// hangUp takes the socket away.
func (s *Session) hangUp() error {
	return errors.Join(s.socket.Close(), os.Remove(socketPath(s.cfg.RunDir, s.cfg.Dir)))
}

// awaitEnd waits for a session that is ending to leave its socket; any other is
// ErrMounted.
func awaitEnd(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, quietTime)
	defer cancel()
	for {
		c, err := dialSocket(path)
		if errors.Is(err, ErrNotMounted) {
			return nil
		}
		if err != nil {
			return err
		}
		if st, err := c.Status(ctx); ctx.Err() != nil || err == nil && st.State != StateEnding {
			return ErrMounted
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Control answers Client on the socket in Config.RunDir until ctx ends.
func (s *Session) Control(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.Status())
	})
	mounted := func(pattern string, handle http.HandlerFunc) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if !s.opened.Load() {
				http.Error(w, "the profile is not mounted any more, and being saved", http.StatusConflict)
				return
			}
			handle(w, r)
		})
	}
	mounted("POST /sync", func(w http.ResponseWriter, r *http.Request) {
		if err := s.Sync(r.Context()); err != nil {
			http.Error(w, err.Error(), statusUnsaved)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /unmount", func(w http.ResponseWriter, r *http.Request) {
		if err := s.Unmount(r.URL.Query().Has("force")); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		if r.URL.Query().Has("nowait") {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		<-s.closed
		if s.closeErr != nil {
			http.Error(w, s.closeErr.Error(), statusUnsaved)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mounted("POST /idle", func(w http.ResponseWriter, r *http.Request) {
		if err := s.Idle(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mounted("POST /resume", func(w http.ResponseWriter, r *http.Request) {
		s.Resume(r.Context())
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /yield", func(w http.ResponseWriter, _ *http.Request) {
		s.Yield()
		w.WriteHeader(http.StatusNoContent)
	})
	server := &http.Server{Handler: mux}
	stopped := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
		defer cancel()
		err := os.Remove(socketPath(s.cfg.RunDir, s.cfg.Dir))
		stopped <- errors.Join(err, server.Shutdown(last))
	})
	if err := server.Serve(s.socket); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

// statusUnsaved says that changes were to be saved and are not.
const statusUnsaved = http.StatusInsufficientStorage

// unsavedError is the answer that changes were not saved, and why.
type unsavedError string

func (e unsavedError) Error() string { return string(e) }

// Unwrap returns ErrUnsaved.
func (e unsavedError) Unwrap() error { return ErrUnsaved }

// answerTime is how long answers under way may take at the end.
const answerTime = 2 * time.Second

// Client speaks to the process that serves a mount.
type Client struct{ http *http.Client }

// takeOverTime is how long Dial waits where a socket is left of a process that died:
// another one may be about to take its place.
const takeOverTime = 5 * time.Second

// Dial returns a Client of the mount at dir, or ErrNotMounted.
func Dial(runDir, dir string) (*Client, error) {
	path := socketPath(runDir, dir)
	c, err := dialSocket(path)
	for end := time.Now().Add(takeOverTime); errors.Is(err, ErrNotMounted) && exists(path) && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
		c, err = dialSocket(path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return c, nil
}

// Reach returns a Client of the mount at dir as Dial does, and does not wait.
func Reach(runDir, dir string) (*Client, error) {
	c, err := dialSocket(socketPath(runDir, dir))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return c, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func dialSocket(path string) (*Client, error) {
	conn, err := net.Dial("unix", path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, ErrNotMounted
	}
	if err != nil {
		return nil, err
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &Client{http: &http.Client{Transport: &http.Transport{DialContext: dial}}}, conn.Close()
}

// Mounts returns a Client of each mount that is served.
func Mounts(runDir string) ([]*Client, error) {
	names, err := filepath.Glob(filepath.Join(runDir, "*.sock"))
	if err != nil {
		return nil, err
	}
	var out []*Client
	for _, name := range names {
		c, err := dialSocket(name)
		if errors.Is(err, ErrNotMounted) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// Sync asks for a save and waits for it. If the process dies meanwhile, the next one is
// asked.
func (c *Client) Sync(ctx context.Context) error {
	for end := time.Now().Add(takeOverTime); ; {
		err := c.do(ctx, http.MethodPost, "/sync", nil)
		var broken *url.Error
		if !errors.As(err, &broken) || ctx.Err() != nil || time.Now().After(end) {
			return err
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			end = time.Now().Add(takeOverTime) // it took the question
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Unmount asks the process to unmount, save and end, and waits until it has saved.
// It is refused while processes use the mount, unless force is set.
func (c *Client) Unmount(ctx context.Context, force bool) error {
	path := "/unmount"
	if force {
		path += "?force"
	}
	return c.do(ctx, http.MethodPost, path, nil)
}

// End asks the process to unmount, even while processes use the mount, and does not wait
// until it has saved and ends.
func (c *Client) End(ctx context.Context) error {
	err := c.do(ctx, http.MethodPost, "/unmount?nowait", nil)
	if err != nil && ctx.Err() == nil {
		err = c.do(ctx, http.MethodPost, "/unmount?nowait&force", nil)
	}
	return err
}

// Idle says that nobody uses the mount for now, see Session.Idle.
func (c *Client) Idle(ctx context.Context) error { return c.do(ctx, http.MethodPost, "/idle", nil) }

// Resume takes Idle back.
func (c *Client) Resume(ctx context.Context) error { return c.do(ctx, http.MethodPost, "/resume", nil) }

// Yield has a process that is ending leave what it has not saved to the next.
func (c *Client) Yield(ctx context.Context) error { return c.do(ctx, http.MethodPost, "/yield", nil) }

// Status asks how the mount is.
func (c *Client) Status(ctx context.Context) (st Status, err error) {
	return st, c.do(ctx, http.MethodGet, "/status", &st)
}

func (c *Client) do(ctx context.Context, method, path string, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://mount"+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode == statusUnsaved {
		return unsavedError(bytes.TrimSpace(body))
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return errors.New(string(bytes.TrimSpace(body)))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(body, out)
}
