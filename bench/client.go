package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// client speaks the Engine API at one address.
type client struct {
	http     *http.Client
	received atomic.Int64 // bytes of images
}

func newClient(address string) *client {
	path := strings.TrimPrefix(address, "unix://")
	return &client{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
		MaxIdleConnsPerHost: connections,
		ReadBufferSize:      256 << 10,
	}}}
}

// call sends a request and hands its answer's body to read.
func (c *client) call(ctx context.Context, method, path string, in any, read func(io.Reader) error) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<12))
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	if read != nil {
		return read(resp.Body)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func (c *client) ping(ctx context.Context) error {
	return c.call(ctx, http.MethodGet, "/_ping", nil, nil)
}

// container is the body of a create.
type container struct {
	Image      string
	Labels     map[string]string `json:",omitempty"`
	HostConfig struct {
		Mounts []json.RawMessage `json:",omitempty"`
	}
}

func (c *client) create(ctx context.Context, body container) (id string, err error) {
	var made struct{ ID string }
	err = c.call(ctx, http.MethodPost, "/containers/create", body, func(r io.Reader) error {
		return json.NewDecoder(r).Decode(&made)
	})
	return made.ID, err
}

func (c *client) remove(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/containers/"+id, nil, nil)
}

func (c *client) createAndDelete(body container) action {
	return func(ctx context.Context) error {
		id, err := c.create(ctx, body)
		if err != nil {
			return err
		}
		return c.remove(ctx, id)
	}
}

// rewritten is a create as it comes out of the proxy: with its mounts.
func (c *client) rewritten(ctx context.Context, body container) (out container, err error) {
	id, err := c.create(ctx, body)
	if err != nil {
		return out, err
	}
	err = c.call(ctx, http.MethodGet, "/containers/"+id+"/json", nil, func(r io.Reader) error {
		return json.NewDecoder(r).Decode(&out)
	})
	if err == nil && len(out.HostConfig.Mounts) == 0 {
		err = fmt.Errorf("the proxy adds nothing to a container of image %q", body.Image)
	}
	out.Image, out.Labels = body.Image, body.Labels
	if removeErr := c.remove(ctx, id); err == nil {
		err = removeErr
	}
	return out, err
}

func (c *client) save(ctx context.Context, image string) error {
	return c.call(ctx, http.MethodGet, "/images/get?names="+url.QueryEscape(image), nil, func(r io.Reader) error {
		n, err := io.Copy(io.Discard, r)
		c.received.Add(n)
		return err
	})
}

// resident is how much memory a process has now, peakResident the most it ever had
// since forgetPeak.
func resident(pid int) (int64, error)     { return statusField(pid, "VmRSS:") }
func peakResident(pid int) (int64, error) { return statusField(pid, "VmHWM:") }

func forgetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

func statusField(pid int, name string) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("process %d: no %s in its status", pid, name)
}
