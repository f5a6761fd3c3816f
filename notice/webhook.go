package notice

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// event is what a webhook gets. The keys do not change.
type event struct {
	Event      string           `json:"event"`
	Level      string           `json:"level"`
	NotSaved   bool             `json:"not_saved"`
	User       string           `json:"user"`
	Workspace  string           `json:"workspace"`
	Volume     string           `json:"volume"`
	Containers []eventContainer `json:"containers"`
	UsageBytes int64            `json:"usage_bytes"`
	LimitBytes int64            `json:"limit_bytes"`
	Time       time.Time        `json:"time"`
}

type eventContainer struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// The values of event.Event.
const (
	eventChanged  = "changed"
	eventRepeated = "repeated" // still over the limit
)

const (
	postTime  = 10 * time.Second // for one try
	postTries = 4
	postWait  = time.Second // before the second try; three times as long before each next
	postQueue = 256         // events that wait; more are dropped
)

// webhook posts events one after the other, in their order.
type webhook struct {
	url    string
	host   string // for the log: a URL may hold a secret
	client *http.Client
	events chan event
	log    *slog.Logger
}

func newWebhook(address string, log *slog.Logger) *webhook {
	w := &webhook{url: address, events: make(chan event, postQueue), log: log}
	if u, err := url.Parse(address); err == nil {
		w.host = u.Host
	}
	w.client = &http.Client{
		Transport: http.DefaultTransport.(*http.Transport).Clone(), Timeout: postTime, CheckRedirect: redirect,
	}
	return w
}

// redirect lets a server move its webhook about on itself, and the event arrive whole.
func redirect(r *http.Request, via []*http.Request) error {
	first := via[0]
	switch {
	case r.URL.Host != first.URL.Host || r.URL.Scheme != first.URL.Scheme:
		return errors.New("it redirects to another host, port or scheme")
	case r.Method != first.Method:
		return errors.New("it redirects with a status that drops the event (want 307 or 308)")
	case len(via) > 3:
		return errors.New("it redirects in a circle")
	}
	return nil
}

// queue takes an event over, or drops it.
func (w *webhook) queue(e event) {
	select {
	case w.events <- e:
	default:
		w.log.Warn("notices: webhook: too many events wait, one is dropped", "host", w.host, "volume", e.Volume, "level", e.Level)
	}
}

// run posts events until ctx ends.
func (w *webhook) run(ctx context.Context) {
	defer w.client.CloseIdleConnections()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-w.events:
			if err := w.deliver(ctx, e); err != nil && ctx.Err() == nil {
				w.log.Warn("notices: webhook", "host", w.host, "volume", e.Volume, "level", e.Level, "error", err)
			}
		}
	}
}

// deliver tries until an event has arrived, or has no hope to.
func (w *webhook) deliver(ctx context.Context, e event) error {
	body, err := json.Marshal(e)
	if err != nil {
		return err
	}
	wait := postWait
	for try := 1; ; try++ {
		again, err := w.post(ctx, body)
		if err == nil || !again || try == postTries || !sleep(ctx, wait) {
			return err
		}
		wait *= 3
	}
}

// post tries once. Its error says nothing of the URL.
func (w *webhook) post(ctx context.Context, body []byte) (again bool, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return false, errors.New("the URL is none")
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "valise")
	resp, err := w.client.Do(r)
	if err != nil {
		if failed, ok := errors.AsType[*url.Error](err); ok {
			err = failed.Err
		}
		// A redirect that is refused comes with its answer.
		return resp == nil, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)) // so that the connection is used again
	if resp.StatusCode < http.StatusMultipleChoices {
		return false, nil
	}
	again = resp.StatusCode >= http.StatusInternalServerError ||
		resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout
	return again, fmt.Errorf("it answers %s", resp.Status)
}
