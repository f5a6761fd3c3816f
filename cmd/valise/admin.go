package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"valise/fleet"
)

// admin talks to the driver's admin socket.
type admin struct {
	address string
	client  *http.Client
}

func newAdmin(address string) *admin {
	network, where, ok := strings.Cut(address, "://")
	if !ok {
		network, where = "tcp", address
	}
	return &admin{address: address, client: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, where)
		},
	}}}
}

// call sends in and decodes the answer into out; either may be nil.
func (a *admin) call(ctx context.Context, method, path string, in, out any) error {
	body, err := a.ask(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer body.Close()
	if out == nil {
		return nil
	}
	return json.NewDecoder(body).Decode(out)
}

// stream asks for an answer that comes in lines, and tells of each.
func (a *admin) stream(ctx context.Context, path string, told func(fleet.Drained) error) error {
	body, err := a.ask(ctx, http.MethodPost, path, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	for dec := json.NewDecoder(body); ; {
		var d fleet.Drained
		if err := dec.Decode(&d); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("the volume driver's answer: %w", err)
		}
		if err := told(d); err != nil {
			return err
		}
	}
}

// ask sends in, which may be nil, and returns the body of a good answer.
func (a *admin) ask(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://valise"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return nil, fmt.Errorf("reach the volume driver at %s (is it running? set --admin otherwise): %w", a.address, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var fault struct{ Message string }
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&fault); err != nil {
		return nil, fmt.Errorf("the volume driver answered %s", resp.Status)
	}
	return nil, errors.New(fault.Message)
}
