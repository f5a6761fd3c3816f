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
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://valise"+path, body)
	if err != nil {
		return err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return fmt.Errorf("reach the volume driver at %s (is it running? set --admin otherwise): %w", a.address, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var fault struct{ Message string }
		if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&fault); err != nil {
			return fmt.Errorf("the volume driver answered %s", resp.Status)
		}
		return errors.New(fault.Message)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}
