package proxy

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"valise/volume"

	dockervolume "github.com/docker/docker/api/types/volume"
)

// removeTime bounds the removal of a control volume.
const removeTime = 30 * time.Second

// control has the driver do something with a volume's options, by way of a volume
// that lives for this one request: the driver's error comes back with its create.
func (p *Proxy) control(ctx context.Context, spec volume.Spec, what volume.Control) error {
	spec.Control = what
	name := "valise-" + string(what) + "-" + strings.ToLower(rand.Text())
	body, err := json.Marshal(dockervolume.CreateOptions{Name: name, Driver: p.cfg.Driver, DriverOpts: spec.Options()})
	if err != nil {
		return err
	}
	resp, err := p.forward.do(ctx, http.MethodPost, "/volumes/create", nil, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return driverFault(resp)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody)) // so that the connection is used again
	p.cleanup.Go(func() { p.removeControl(name) })
	return nil
}

// removeControl makes Docker forget a control volume. The driver forgets one that is
// left over by itself.
func (p *Proxy) removeControl(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), removeTime)
	defer cancel()
	resp, err := p.forward.do(ctx, http.MethodDelete, "/volumes/"+name, url.Values{"force": {"1"}}, nil)
	if err != nil {
		p.cfg.Log.Warn("remove control volume", "volume", name, "error", err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest && resp.StatusCode != http.StatusNotFound {
		p.cfg.Log.Warn("remove control volume", "volume", name, "error", driverFault(resp))
	}
}

// driverFault turns the daemon's error about a control volume into ours: what the
// driver said is behind the last "VolumeDriver.Create: ".
func driverFault(resp *http.Response) error {
	var body struct{ Message string }
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err == nil {
		err = json.Unmarshal(data, &body)
	}
	if err != nil {
		body.Message = resp.Status
	}
	text := body.Message
	if _, said, ok := strings.Cut(text, "VolumeDriver.Create: "); ok {
		text = said
	}
	status := resp.StatusCode
	if strings.Contains(text, volume.ErrInUse.Error()) {
		status = http.StatusConflict
	}
	return faultf(status, "valise: %s", text)
}
