package notice

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/pkg/stdcopy"
)

// Engine sends a request to the Docker daemon; a body is JSON.
type Engine func(ctx context.Context, method, path string, query url.Values, body []byte) (*http.Response, error)

// requestTime bounds every question to the daemon.
const requestTime = 10 * time.Second

// maxAnswer bounds the daemon's answers; a listing has about 2 KiB for each container.
const maxAnswer = 64 << 20

// statusError is an answer of the daemon that is no success.
type statusError struct {
	status  int
	message string
}

func (e *statusError) Error() string { return fmt.Sprintf("%d: %s", e.status, e.message) }

// call asks the daemon and reads its answer into out.
func (e Engine) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	resp, err := e.send(ctx, method, path, query, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<10)) // so that the connection is used again
	return nil
}

// send returns the daemon's answer, if it is a success.
func (e Engine) send(ctx context.Context, method, path string, query url.Values, in any) (*http.Response, error) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return nil, err
		}
	}
	resp, err := e(ctx, method, path, query, body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < http.StatusBadRequest {
		return resp, nil
	}
	defer resp.Body.Close()
	var said struct{ Message string }
	_ = json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&said) // or the status says it
	return nil, &statusError{resp.StatusCode, said.Message}
}

// running is a container that runs.
type running struct {
	ID     string `json:"Id"`
	Names  []string
	Mounts []container.MountPoint
}

func (r running) name() string {
	if len(r.Names) == 0 {
		return ""
	}
	return strings.TrimPrefix(r.Names[0], "/")
}

// containers lists what runs. The mounts of a list have their volume's driver, so
// nobody needs the list of volumes.
func (e Engine) containers(ctx context.Context) (list []running, err error) {
	only, err := filters.ToJSON(filters.NewArgs(filters.Arg("status", "running")))
	if err != nil {
		return nil, err
	}
	return list, e.call(ctx, http.MethodGet, "/containers/json", url.Values{"filters": {only}}, nil, &list)
}

// status reads what the driver says of a volume, which only an inspect has.
func (e Engine) status(ctx context.Context, volume string) (status, error) {
	var v struct{ Status status }
	err := e.call(ctx, http.MethodGet, "/volumes/"+volume, nil, nil, &v)
	return v.Status, err
}

// driverNames are the names that the daemon may show our driver by: that of a managed
// plugin ends in its tag.
func driverNames(driver string) []string {
	names := []string{driver}
	if named, err := reference.ParseNormalizedNamed(driver); err == nil {
		names = append(names, reference.FamiliarString(reference.TagNameOnly(named)))
	}
	return names
}

// isVolume tells a mount of a volume from a bind or tmpfs.
func isVolume(m container.MountPoint) bool { return m.Type == mount.TypeVolume && m.Name != "" }

// Bounds of a command: how long it is waited for, how much of what it prints is read,
// and how much of that is logged.
const (
	execTime = 10 * time.Second
	maxRead  = 64 << 10
	maxShown = 1 << 10
)

// result is how a command in a container ended.
type result struct {
	exec   string // its id
	runs   bool   // it has not ended: a dialog may wait for its user
	code   int
	output string
}

// Exit codes of what can't be run, as shells and Docker have them.
const (
	notExecutable = 126
	notFound      = 127
)

// run runs a command in a container as its default user, and waits for its end, for a
// while. The API has no way to end a command that takes longer.
func (e Engine) run(ctx context.Context, id string, command []string) (result, error) {
	var made struct {
		ID string `json:"Id"`
	}
	err := e.call(ctx, http.MethodPost, "/containers/"+id+"/exec", nil,
		container.ExecOptions{AttachStdout: true, AttachStderr: true, Cmd: command}, &made)
	if err != nil {
		return result{}, err
	}
	waiting, cancel := context.WithTimeout(ctx, execTime)
	defer cancel()
	output, err := e.attach(waiting, made.ID)
	res := result{exec: made.ID, output: output}
	if err != nil && waiting.Err() == nil {
		return res, err
	}
	// The end of the output may come before the end of the command, or after it.
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		res.runs, res.code, err = e.ended(ctx, made.ID)
		if err != nil || !res.runs || !sleep(waiting, wait) {
			return res, err
		}
	}
}

// attach starts a command and returns what it prints, cut short.
func (e Engine) attach(ctx context.Context, exec string) (string, error) {
	resp, err := e.send(ctx, http.MethodPost, "/exec/"+exec+"/start", nil, container.ExecStartOptions{})
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var out capture
	_, err = stdcopy.StdCopy(&out, &out, resp.Body)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return out.String(), err
}

// ended tells whether a command still runs, and its exit code.
func (e Engine) ended(ctx context.Context, exec string) (runs bool, code int, err error) {
	var state container.ExecInspect
	err = e.call(ctx, http.MethodGet, "/exec/"+exec+"/json", nil, nil, &state)
	return state.Running, state.ExitCode, err
}

// sleep waits, unless ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

var errEnough = errors.New("enough was read")

// capture keeps the beginning of what is written, and takes no more than maxRead.
type capture struct {
	kept bytes.Buffer
	read int
}

func (c *capture) Write(p []byte) (int, error) {
	c.kept.Write(p[:min(len(p), maxShown-c.kept.Len())])
	if c.read += len(p); c.read > maxRead {
		return 0, errEnough
	}
	return len(p), nil
}

func (c *capture) String() string {
	return strings.TrimSpace(strings.ToValidUTF8(c.kept.String(), "�"))
}
