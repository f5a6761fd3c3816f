//go:build integration

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// answer is an HTTP answer, read to its end.
type answer struct {
	status int
	body   string
}

// clientAt speaks HTTP to a unix:// or tcp:// address, one connection a request.
func clientAt(address string) *http.Client {
	network, where, _ := strings.Cut(address, "://")
	return &http.Client{Timeout: commandTime, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, where)
		},
	}}
}

// request sends a request with a JSON body: a string as it is, nil for none, anything
// else encoded.
func request(address, method, path string, body any) (answer, error) {
	return requestBy(clientAt(address), "http://docker"+path, method, body)
}

func requestBy(client *http.Client, url, method string, body any) (answer, error) {
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		data, err := json.Marshal(b)
		if err != nil {
			return answer{}, err
		}
		in = bytes.NewReader(data)
	}
	r, err := http.NewRequest(method, url, in)
	if err != nil {
		return answer{}, err
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(data)}, err
}

// api sends a request to the proxy.
func (r *rig) api(method, path string, body any) answer {
	r.t.Helper()
	a, err := request(r.proxy, method, path, body)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// refused wants a status and an error in Docker's form with every part in it.
func (a answer) refused(t *testing.T, what string, status int, parts ...string) {
	t.Helper()
	equal(t, what+": status ("+strings.TrimSpace(a.body)+")", a.status, status)
	var fault struct{ Message string }
	if err := json.Unmarshal([]byte(a.body), &fault); err != nil || fault.Message == "" {
		t.Errorf("%s: got %q, want an error in Docker's form (%v)", what, a.body, err)
	}
	contains(t, what, fault.Message, parts...)
}

// created wants a container and returns its id and the warnings.
func (a answer) created(t *testing.T, what string) (id string, warnings []string) {
	t.Helper()
	var c struct {
		ID       string `json:"Id"`
		Warnings []string
	}
	if err := json.Unmarshal([]byte(a.body), &c); err != nil || a.status != http.StatusCreated || c.ID == "" {
		t.Fatalf("%s: got %d %s, want a container (%v)", what, a.status, a.body, err)
	}
	return c.ID, c.Warnings
}

// body is a container create of the demo image, changed by the caller.
type body map[string]any

// container is a create's body with the rig's label and these beside it.
func (r *rig) container(labels map[string]string) body {
	all := map[string]string{"rig": r.name}
	for k, v := range labels {
		all[k] = v
	}
	return body{"Image": image, "Cmd": []string{"sleep", "1000"}, "Labels": all, "HostConfig": body{"NetworkMode": "none"}}
}

// status is what `docker volume inspect` shows of a volume.
type status struct {
	Driver, Mountpoint string
	Options            map[string]string
	Status             map[string]any
}

func (r *rig) inspect(volume string) status {
	r.t.Helper()
	var list []status
	out := r.direct("volume", "inspect", volume).must()
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 {
		r.t.Fatalf("inspect %s: %v\n%s", volume, err, out)
	}
	return list[0]
}

// awaitStatus waits until a member of a volume's Status is want, a string as fmt
// would print it.
func (r *rig) awaitStatus(volume, member, want string) {
	r.t.Helper()
	eventually(r.t, member+" of "+volume, 20*time.Second, func() error {
		return wantText(r.inspect(volume).Status[member], want)
	})
}

// volumeAt names the volume that a container has at a target.
func (r *rig) volumeAt(container, target string) string {
	r.t.Helper()
	var mounts []struct{ Type, Name, Destination string }
	out := r.direct("inspect", "-f", "{{json .Mounts}}", container).must()
	if err := json.Unmarshal([]byte(out), &mounts); err != nil {
		r.t.Fatal(err)
	}
	for _, m := range mounts {
		if m.Destination == target && m.Type == "volume" {
			return m.Name
		}
	}
	r.t.Fatalf("container %s has no volume at %s: %s", container, target, out)
	return ""
}
