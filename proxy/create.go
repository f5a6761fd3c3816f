package proxy

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
)

// maxBody is the largest create the proxy reads; Docker's own are a few KiB.
const maxBody = 4 << 20

// createTime bounds the work that precedes a create: dockerd gives a driver 120 s.
const createTime = 110 * time.Second

// create rewrites POST /containers/create.
func (p *Proxy) create(l Listener, w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	doc, err := p.readCreate(r)
	if err != nil {
		writeFault(w, err)
		drain(w, r)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), createTime)
	defer cancel()
	plan, err := p.plan(l, r, doc)
	if err == nil && plan != nil {
		err = p.prepare(ctx, plan, doc)
	}
	if err != nil {
		p.cfg.Log.Warn("create refused", "image", doc.text("Image"), "error", err)
		writeFault(w, err)
		return
	}
	if err := p.send(w, r, doc, plan); err != nil {
		writeFault(w, err)
		return
	}
	if plan != nil {
		p.cfg.Log.Info("create", "user", plan.caller.User, "workspace", plan.workspace.Name, "profile", plan.mode,
			"volumes", len(plan.injections), "warnings", len(plan.warnings), "took", time.Since(started))
	}
}

// How much of a refused body is still read, and how long: a client that is cut off
// while it sends never sees why.
const (
	drainBytes = 64 << 20
	drainFor   = 5 * time.Second
)

func drain(w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	// Where this fails, the connection is cut a little earlier.
	_ = c.Flush()
	_ = c.SetReadDeadline(time.Now().Add(drainFor))
	_, _ = io.CopyN(io.Discard, r.Body, drainBytes)
	_ = c.SetReadDeadline(time.Time{})
}

func (p *Proxy) readCreate(r *http.Request) (document, error) {
	if err := checkContentType(r.Header); err != nil {
		return nil, err
	}
	return p.creates.decode(r.Body, maxBody)
}

// misplaced refuses members of HostConfig that stand beside it. Engines up to 20.10
// take them there where there is no HostConfig, and forget them once we add one.
func misplaced(doc document) error {
	beside, inside := shapeOf(reflect.TypeFor[container.CreateRequest]()), shapeOf(reflect.TypeFor[container.HostConfig]())
	for _, name := range slices.Sorted(maps.Keys(doc)) {
		_, _, known := beside.member(name)
		right, _, belongs := inside.member(name)
		if known == nil && belongs != nil {
			return faultf(http.StatusBadRequest, "body: member %q belongs into HostConfig", right)
		}
	}
	return nil
}

// send passes the document on and brings the answer back, with the plan's warnings
// among the daemon's.
func (p *Proxy) send(w http.ResponseWriter, r *http.Request, doc document, plan *plan) error {
	body, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	uri := canonical(r)
	resp, err := p.forward.send(replace(r, uri, body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated || plan == nil || len(plan.warnings) == 0 {
		p.forward.relay(w, resp)
		return nil
	}
	answer := document{}
	dec := json.NewDecoder(io.LimitReader(resp.Body, maxBody))
	dec.UseNumber()
	if err := dec.Decode(&answer); err != nil {
		return faultf(http.StatusBadGateway, "the Docker daemon's answer to a create can't be read: %v", err)
	}
	warnings := answer.list("Warnings")
	for _, text := range plan.warnings {
		warnings = append(warnings, "valise: "+text)
	}
	answer["Warnings"] = warnings
	if body, err = json.Marshal(answer); err != nil {
		return err
	}
	copyHead(w.Header(), resp)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(resp.StatusCode)
	_, err = w.Write(body)
	if err != nil {
		p.cfg.Log.Debug("the client went before its answer", "error", err)
	}
	return nil
}

// canonical is the one spelling of a create's URI.
func canonical(r *http.Request) string {
	uri := "/containers/create"
	if version, _, ok := strings.Cut(strings.TrimLeft(r.URL.Path, "/"), "/"); ok && strings.HasPrefix(version, "v") {
		uri = "/" + version + uri
	}
	if r.URL.RawQuery != "" {
		uri += "?" + r.URL.RawQuery
	}
	return uri
}
