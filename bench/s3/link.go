package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"time"
)

// links are the ways to the store: toxiproxy, which delays what comes back.
type links struct{ api string }

// link is one way.
type link struct {
	links   *links
	name    string
	Address string // where clients connect
	delayed bool
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// startLinks starts toxiproxy; it ends with ctx.
func (b *bench) startLinks(ctx context.Context) (*links, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(b.dirs.bin, "toxiproxy-server"), "-host", host, "-port", port)
	if err := b.spawn(cmd, "toxiproxy.log"); err != nil {
		return nil, err
	}
	l := &links{api: "http://" + address}
	for range 100 {
		if err = l.call(ctx, http.MethodGet, "/version", nil, nil); err == nil {
			return l, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, err
}

// add makes a way to an address.
func (l *links) add(ctx context.Context, name, upstream string) (*link, error) {
	var made struct{ Listen string }
	err := l.call(ctx, http.MethodPost, "/proxies", map[string]any{
		"name": name, "listen": "127.0.0.1:0", "upstream": upstream, "enabled": true,
	}, &made)
	return &link{links: l, name: name, Address: made.Listen}, err
}

// delay lets every answer take d longer.
func (l *link) delay(ctx context.Context, d time.Duration) error {
	if l.delayed {
		if err := l.links.call(ctx, http.MethodDelete, "/proxies/"+l.name+"/toxics/latency", nil, nil); err != nil {
			return err
		}
		l.delayed = false
	}
	if d == 0 {
		return nil
	}
	l.delayed = true
	return l.links.call(ctx, http.MethodPost, "/proxies/"+l.name+"/toxics", map[string]any{
		"name": "latency", "type": "latency", "stream": "downstream", "toxicity": 1.0,
		"attributes": map[string]any{"latency": d.Milliseconds(), "jitter": 0},
	}, nil)
}

func (l *links) call(ctx context.Context, method, path string, in, out any) error {
	return call(ctx, http.DefaultClient, method, l.api+path, in, out)
}

// call sends JSON and reads JSON.
func call(ctx context.Context, client *http.Client, method, url string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode >= http.StatusMultipleChoices:
		return fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, answer)
	case out == nil:
		return nil
	}
	return json.Unmarshal(answer, out)
}
