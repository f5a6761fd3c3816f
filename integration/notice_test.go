//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// notified is a user whose name would do harm in a shell.
const notified = `a'b"; touch $(id -u)`

// hook is a webhook's other side.
type hook struct {
	*httptest.Server
	mu     sync.Mutex // guards events
	events []map[string]any
}

func newHook(t *testing.T) *hook {
	t.Helper()
	h := &hook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e map[string]any
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			t.Errorf("webhook: %v", err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.events = append(h.events, e)
	}))
	t.Cleanup(h.Close)
	return h
}

// event returns the first event of a kind and level.
func (h *hook) event(kind, level string) (map[string]any, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		if e["event"] == kind && e["level"] == level {
			return e, nil
		}
	}
	return nil, fmt.Errorf("no %s %s in %v", kind, level, h.events)
}

func TestNotice(t *testing.T) {
	for _, f := range []form{plain, managed} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			h := newHook(t)
			r := newRig(t, theEngine(t), f, settings{
				tables: desktop + "size_limit = \"2m\"\n",
				proxy: `[proxy.notices]
command = ["sh", "-c", 'echo "$(id -un) $DISPLAY $2: $1" >>/tmp/notices', "sh", "{level}: {message}", "{user}"]
interval = "1s"
repeat = "2s"
webhook = "` + h.URL + `"
`,
			})
			session := r.session(notified, "-u", "user", "-e", "DISPLAY=:7")
			volume := r.volumeAt(session, home)
			told := func(container string, parts ...string) {
				t.Helper()
				eventually(t, "the user is told", 30*time.Second, func() error {
					text := r.in(container, "cat /tmp/notices || true")
					for _, p := range parts {
						if !strings.Contains(text, p) {
							return fmt.Errorf("got %q, want %q", text, p)
						}
					}
					return nil
				})
			}
			posted := func(kind, level string) map[string]any {
				t.Helper()
				var e map[string]any
				eventually(t, "the webhook knows", 30*time.Second, func() (err error) {
					e, err = h.event(kind, level)
					return err
				})
				return e
			}
			r.in(session, "dd if=/dev/zero of=big bs=1k count=1950 2>/dev/null")
			told(session, "user :7 "+notified+": near: Your home is 9", " % full (1.9", " MB of 2 MB). Delete files")
			e := posted("changed", "near")
			equal(t, "the event's user", fmt.Sprint(e["user"], e["workspace"], e["volume"]), notified+"desktop"+volume)
			equal(t, "the event's limit", fmt.Sprint(int64(e["limit_bytes"].(float64))), "2097152")
			contains(t, "the event's containers", fmt.Sprint(e["containers"]), session)

			r.in(session, "dd if=/dev/zero of=more bs=1k count=500 2>/dev/null")
			told(session, "over: Your home is over its limit (2.")
			posted("changed", "over")
			posted("repeated", "over")
			second := r.session(notified, "-u", "user")
			told(second, "over: Your home is over its limit (2.")

			r.in(session, "rm big more")
			told(session, "fits: Your home fits its limit again.")
			told(second, "fits: Your home fits its limit again.")
			posted("changed", "fits")
			log := r.in(session, "cat /tmp/notices")
			equal(t, "how often near was told", strings.Count(log, "near: "), 1)
			equal(t, "the home", r.in(session, "ls -A"), "")
		})
	}
}

// An image without the default command is logged, once, and left alone.
func TestNoticeWithoutCommand(t *testing.T) {
	r := plainForm(t, settings{
		tables: desktop + "size_limit = \"1m\"\n",
		proxy:  "[proxy.notices]\ninterval = \"1s\"\nrepeat = \"1s\"\n",
	})
	session := r.session("alice", "--name", r.name+"-told")
	r.in(session, "dd if=/dev/zero of=big bs=1k count=1500 2>/dev/null")
	r.serving.awaits(t, "a notice could not be shown")
	r.in(session, "rm big")
	r.awaitStatus(r.volumeAt(session, home), "fill", "fits")
	r.in(session, "dd if=/dev/zero of=big bs=1k count=1500 2>/dev/null")
	r.awaitStatus(r.volumeAt(session, home), "fill", "over the limit")
	r.end(session)
	var lines []string
	for line := range strings.Lines(r.serving.output()) {
		if strings.Contains(line, "notice") {
			lines = append(lines, line)
		}
	}
	equal(t, "lines about notices", len(lines), 1)
	contains(t, "the line", lines[0], "level=INFO", "container="+r.name+"-told", "command=notify-send", "exit_code=12", "not found")
}
