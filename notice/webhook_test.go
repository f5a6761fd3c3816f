package notice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// receiver is a webhook's other side.
type receiver struct {
	mu     sync.Mutex // guards what follows
	answer func(try int) (*http.Response, error)
	tries  int
	bodies []string // that it took
}

func (h *receiver) receive(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.tries++
	try, decide := h.tries, h.answer
	h.mu.Unlock()
	resp := answer(200, nil)
	if decide != nil {
		if resp, err = decide(try); err != nil || resp.StatusCode != 200 {
			return resp, err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bodies = append(h.bodies, string(body))
	return resp, nil
}

func (h *receiver) events(t *testing.T) (out []event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range h.bodies {
		var e event
		if err := json.Unmarshal([]byte(b), &e); err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

func (h *receiver) levels() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for _, b := range h.bodies {
		var e event
		_ = json.Unmarshal([]byte(b), &e)
		out = append(out, e.Event+" "+e.Level)
	}
	return strings.Join(out, ", ")
}

// One event for a volume, whatever the number of its containers, and again while over.
func TestWebhook(t *testing.T) {
	hook := &receiver{}
	bubble(t, Config{Webhook: "https://hook.example.com/x", Command: []string{}}, hook.receive, func(r rig) {
		began := time.Now().UTC()
		r.change(func() {
			r.containers = []running{with("c2", "v"), with("c1", "v"), with("c3", "w")}
			r.volumes["v"], r.volumes["w"] = alice(95), alice(10)
		})
		r.passes(1)
		want := `{"event":"changed","level":"near","not_saved":false,"user":"alice","workspace":"desktop","volume":"v",` +
			`"containers":[{"id":"c1","name":"name-of-c1"},{"id":"c2","name":"name-of-c2"}],` +
			`"usage_bytes":95,"limit_bytes":100,"time":"` + began.Add(30*time.Second).Format(time.RFC3339) + `"}`
		if fmt.Sprint(hook.bodies) != "["+want+"]" {
			t.Errorf("got  %s\nwant %s", hook.bodies, want)
		}
		r.change(func() {
			r.containers = append(r.containers, with("c4", "v"))
			r.volumes["v"] = alice(120)
		})
		r.passes(21)
		s := alice(120)
		s.OverLimit = true
		r.change(func() { r.volumes["v"] = s })
		r.passes(1)
		r.change(func() { r.volumes["v"] = alice(10) })
		r.passes(1)
		if got := hook.levels(); got != "changed near, changed over, repeated over, changed over, changed fits" {
			t.Error(got)
		}
		if !hook.events(t)[3].NotSaved {
			t.Error("not_saved is missing")
		}
		if got := r.asked("POST"); got != 0 {
			t.Errorf("%d commands", got)
		}
	})
}

// A webhook's faults pass, or are logged without its URL, and hold up no command.
func TestWebhookFails(t *testing.T) {
	failing := func(n int, status int) func(int) (*http.Response, error) {
		return func(try int) (*http.Response, error) {
			if try <= n {
				return answer(status, nil), nil
			}
			return answer(200, nil), nil
		}
	}
	for _, c := range []struct {
		name   string
		answer func(int) (*http.Response, error)
		tries  int
		levels string
		logged int
	}{
		{"works", nil, 1, "changed near", 0},
		{"500 twice", failing(2, 500), 3, "changed near", 0},
		{"429", failing(1, 429), 2, "changed near", 0},
		{"500 for good", failing(100, 500), postTries, "", 1},
		{"404", failing(100, 404), 1, "", 1},
		{"no network", func(int) (*http.Response, error) { return nil, errors.New("no route") }, postTries, "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			hook := &receiver{answer: c.answer}
			bubble(t, Config{Webhook: "https://hook.example.com/secret?token=secret"}, hook.receive, func(r rig) {
				r.change(func() {
					r.containers = []running{with("c1", "v")}
					r.volumes["v"] = alice(95)
				})
				r.passes(4)
				r.told("c1", nearText)
				if hook.tries != c.tries || hook.levels() != c.levels {
					t.Errorf("%d tries, %q came", hook.tries, hook.levels())
				}
				if r.log.count("webhook", "host=hook.example.com") != c.logged || r.log.count("secret") != 0 {
					t.Errorf("log:\n%s", r.log)
				}
			})
		})
	}
}

// A webhook that never answers takes none of the loop's time, and no more than its
// queue of memory.
func TestWebhookHangs(t *testing.T) {
	var mu sync.Mutex
	hanging := 0
	hook := func(r *http.Request) (*http.Response, error) {
		mu.Lock()
		hanging++
		if hanging > 1 {
			t.Error("two posts at once")
		}
		mu.Unlock()
		<-r.Context().Done()
		mu.Lock()
		hanging--
		mu.Unlock()
		return nil, r.Context().Err()
	}
	bubble(t, Config{Webhook: "http://hook.example.com"}, hook, func(r rig) {
		r.change(func() {
			for i := range postQueue + 10 {
				v := fmt.Sprintf("v%03d", i)
				r.containers = append(r.containers, with("c"+v, v))
				r.volumes[v] = alice(95)
			}
		})
		r.passes(2)
		r.told("cv000", nearText)
		r.told(fmt.Sprintf("cv%03d", postQueue+9), nearText)
		if got := r.log.count("one is dropped"); got < 9 || got > 10 {
			t.Errorf("%d dropped", got)
		}
	})
}

// Redirects are followed on the same server, with the event, and nowhere else.
func TestWebhookRedirects(t *testing.T) {
	var elsewhere, here []string
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		elsewhere = append(elsewhere, r.Method)
	}))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		case "/moved":
			http.Redirect(w, r, "/here", http.StatusPermanentRedirect)
		case "/found":
			http.Redirect(w, r, "/here", http.StatusFound)
		case "/circle":
			http.Redirect(w, r, "/circle", http.StatusTemporaryRedirect)
		default:
			body, _ := io.ReadAll(r.Body)
			here = append(here, r.Method+" "+string(body))
		}
	}))
	defer server.Close()
	for path, want := range map[string]string{"/away": "another host", "/moved": "", "/found": "drops the event", "/circle": "circle", "/here": ""} {
		w := newWebhook(server.URL+path, slog.New(slog.DiscardHandler))
		again, err := w.post(context.Background(), []byte("event"))
		w.client.CloseIdleConnections()
		if again || (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: again %t, %v", path, again, err)
		}
	}
	if len(elsewhere) != 0 || fmt.Sprint(here) != "[POST event POST event]" {
		t.Errorf("elsewhere %q, here %q", elsewhere, here)
	}
	tls := httptest.NewUnstartedServer(http.NotFoundHandler())
	tls.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	tls.StartTLS()
	defer tls.Close()
	w := newWebhook(tls.URL, slog.New(slog.DiscardHandler))
	if _, err := w.post(context.Background(), nil); err == nil || !strings.Contains(err.Error(), "certificate") || strings.Contains(err.Error(), tls.URL) {
		t.Errorf("an unknown authority: %v", err)
	}
}
