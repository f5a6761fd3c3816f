//go:build integration

package s3_test

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// browser is a running Chromium, which is told what to do by a pipe: JSON messages of
// the Chrome DevTools Protocol, each with a zero byte at its end.
type browser struct {
	t    *testing.T
	cmd  *exec.Cmd
	to   *os.File
	from *bufio.Reader
	last int // number of the last call
}

// startBrowser starts one with its profile in a home.
func startBrowser(t *testing.T, h *host) *browser {
	t.Helper()
	theirs3, to, err := os.Pipe()
	must(t, err)
	from, theirs4, err := os.Pipe()
	must(t, err)
	b := &browser{t: t, to: to, from: bufio.NewReader(from)}
	b.cmd = exec.Command(program(t, "chromium"), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--remote-debugging-pipe", "--user-data-dir="+h.path("chromium"))
	b.cmd.Dir = h.dir
	b.cmd.Env = append(os.Environ(), "HOME="+h.profile.dir, "TMPDIR="+h.profile.dir)
	b.cmd.ExtraFiles = []*os.File{theirs3, theirs4}
	must(t, b.cmd.Start(), theirs3.Close(), theirs4.Close())
	t.Cleanup(func() {
		_ = b.cmd.Process.Kill() // it has ended, unless the test failed
		to.Close()
		from.Close()
	})
	return b
}

// call asks for one thing and decodes the answer's result.
func (b *browser) call(session, method string, params, result any) {
	b.t.Helper()
	b.last++
	message := map[string]any{"id": b.last, "method": method, "params": params}
	if session != "" {
		message["sessionId"] = session
	}
	data, err := json.Marshal(message)
	must(b.t, err)
	_, err = b.to.Write(append(data, 0))
	must(b.t, err)
	for {
		data, err := b.from.ReadBytes(0)
		must(b.t, err)
		var answer struct {
			ID     int
			Result json.RawMessage
			Error  json.RawMessage
		}
		must(b.t, json.Unmarshal(data[:len(data)-1], &answer))
		if answer.ID != b.last {
			continue // an event
		}
		if answer.Error != nil {
			b.t.Fatalf("%s: %s", method, answer.Error)
		}
		must(b.t, json.Unmarshal(answer.Result, result))
		return
	}
}

// visit opens a page in a new browser and returns what it says, when that begins with
// prefix. The browser has ended in good order, which is when it writes what pages store.
func visit(t *testing.T, h *host, page, prefix string) (text string) {
	t.Helper()
	b := startBrowser(t, h)
	var target struct{ TargetID, SessionID string }
	b.call("", "Target.createTarget", map[string]any{"url": "file://" + page}, &target)
	b.call("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	eventually(t, time.Minute, "page that says "+prefix, func() bool {
		var got struct{ Result struct{ Value string } }
		b.call(target.SessionID, "Runtime.evaluate", map[string]any{"expression": `document.body ? document.body.textContent : ""`}, &got)
		text = got.Result.Value
		return strings.HasPrefix(text, prefix)
	})
	b.call("", "Browser.close", map[string]any{}, &struct{}{})
	must(t, b.cmd.Wait())
	return text
}
