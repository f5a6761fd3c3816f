//go:build integration

package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A follower is a command whose output is read line by line while it runs.
type follower struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string // closed at the end of its output
	stdin io.WriteCloser
}

// follow starts a command that goes on until it is stopped, or the test ends.
func (c command) follow() *follower {
	c.t.Helper()
	cmd := exec.Command(c.name, c.args...)
	cmd.Env = append(os.Environ(), c.env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	f := &follower{t: c.t, cmd: cmd, lines: make(chan string, 1000), stdin: in}
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			f.lines <- s.Text()
		}
		close(f.lines)
	}()
	c.t.Cleanup(f.stop)
	return f
}

// stop kills the command, where it has not ended.
func (f *follower) stop() {
	_ = f.cmd.Process.Kill()
	for range f.lines {
	}
	_ = f.cmd.Wait() // killed, or waited for before
}

// next returns the next line that holds part.
func (f *follower) next(part string) string {
	f.t.Helper()
	late := time.After(20 * time.Second)
	var others []string
	for {
		select {
		case line, open := <-f.lines:
			if strings.Contains(line, part) && open {
				return line
			}
			if !open {
				f.t.Fatalf("%s: it ended without %q: %q", f.cmd, part, others)
			}
			others = append(others, line)
		case <-late:
			f.t.Fatalf("%s: no %q within 20 s: %q", f.cmd, part, others)
		}
	}
}

// ends waits for the command's own end.
func (f *follower) ends() {
	f.t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case _, open := <-f.lines:
			if !open {
				return
			}
		case <-late:
			f.t.Fatalf("%s: still there after 20 s", f.cmd)
		}
	}
}

// The end of the input reaches the container, and its output comes back after it.
func TestStandardStreams(t *testing.T) {
	r := plainForm(t, settings{})
	piped := func(stdin string, c command) command { c.stdin = stdin; return c }
	for _, c := range []struct {
		name   string
		run    command
		stdout string
		stderr string
		code   int
	}{
		{"run -i", piped("hi\n", r.create("run", "alice", "--rm", "-i", image, "cat")), "hi\n", "", 0},
		{"run -i, output after the end of input", piped("a\nb\n", r.create("run", "alice", "--rm", "-i", image, "sh", "-c", "wc -l; echo late >&2; exit 3")), "2\n", "late\n", 3},
		{"run", r.create("run", "", "--rm", image, "sh", "-c", "echo out; echo err >&2"), "out\n", "err\n", 0},
	} {
		o := c.run.run()
		equal(t, c.name+": stdout", o.stdout, c.stdout)
		equal(t, c.name+": stderr", o.stderr, c.stderr)
		equal(t, c.name+": exit code", o.code, c.code)
	}
	session := r.session("alice")
	o := piped("one\ntwo\n", r.docker("exec", "-i", session, "sh", "-c", "cat; echo end; exit 4")).run()
	equal(t, "exec -i: stdout", o.stdout, "one\ntwo\nend\n")
	equal(t, "exec -i: exit code", o.code, 4)
	// Far more than any buffer on the way holds.
	big := strings.Repeat("0123456789abcde\n", 200_000)
	o = piped(big, r.docker("exec", "-i", session, "cat")).run()
	if o.stdout != big {
		t.Errorf("exec -i cat of %d bytes: got %d other bytes back", len(big), len(o.stdout))
	}
	equal(t, "big output", len(r.docker("exec", session, "sh", "-c", "yes valise | head -c 20000000").run().stdout), 20_000_000)
}

func TestAttach(t *testing.T) {
	r := plainForm(t, settings{})
	id := r.create("run", "alice", "-d", "-i", image, "sh", "-c", "while read -r l; do echo got $l; done; echo bye").must()
	a := r.docker("attach", id).follow()
	for _, word := range []string{"first", "second"} {
		fmt.Fprintln(a.stdin, word)
		a.next("got " + word)
	}
	again := r.docker("attach", "--no-stdin", id).follow()
	eventually(t, "a second client sees the output too", 20*time.Second, func() error {
		fmt.Fprintln(a.stdin, "third")
		if len(again.lines) == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	r.docker("kill", id).must()
	a.ends()
	again.ends()

	id = r.create("create", "alice", "-i", image, "sh", "-c", "cat; echo bye; exit 5").must()
	once := r.docker("start", "-ai", id)
	once.stdin = "in\n"
	o := once.run()
	equal(t, "start -ai", o.stdout, "in\nbye\n")
	equal(t, "its exit code", o.code, 5)
}

// Logs, events and statistics arrive when they happen, not when a buffer is full.
func TestLiveStreams(t *testing.T) {
	r := plainForm(t, settings{})
	events := r.docker("events", "--format", "{{.Action}}", "--filter", "type=container", "--filter", "label=rig="+r.name).follow()
	// There is no sign that the daemon has begun; so something happens until it is seen.
	eventually(t, "the first event", 20*time.Second, func() error {
		r.docker("rm", r.create("create", "", image).must()).must()
		if len(events.lines) == 0 {
			return fmt.Errorf("none")
		}
		return nil
	})
	id := r.create("run", "alice", "-d", image, "sh", "-c", "mkfifo /tmp/f; exec 3<>/tmp/f; echo up; while read -r l <&3; do echo $l; done").must()
	events.next("start")
	logs := r.docker("logs", "-f", id).follow()
	logs.next("up")
	r.in(id, "echo now >/tmp/f")
	logs.next("now")

	stats := r.docker("stats", "--format", "{{.Container}} {{.PIDs}}", id).follow()
	stats.next(id[:12])
	stats.next(id[:12])
	contains(t, "stats --no-stream", r.docker("stats", "--no-stream", "--format", "{{.ID}} {{.PIDs}}", id).must(), id[:12])
	contains(t, "top", r.docker("top", id).must(), "sh -c mkfifo")

	r.docker("kill", id).must()
	events.next("die")
	logs.ends()
}

func TestCopy(t *testing.T) {
	bothForms(t, settings{}, func(t *testing.T, r *rig) {
		session := r.session("alice")
		from := filepath.Join(r.dir, "from")
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<17) // 2 MiB
		write(t, from, string(data))
		r.docker("cp", from, session+":"+home+"/file").must()
		equal(t, "in the profile", read(t, r.path("desktop/alice/file")) == string(data), true)
		to := filepath.Join(r.dir, "to")
		r.docker("cp", session+":"+home+"/file", to).must()
		equal(t, "back on the host", read(t, to) == string(data), true)
		r.docker("cp", session+":"+home+"/missing", to).refused("missing")

		c := r.docker("cp", "-", session+":/tmp")
		c.stdin = r.direct("cp", session+":/etc/passwd", "-").run().stdout
		c.must()
		contains(t, "a tar archive through standard input", r.in(session, "cat /tmp/passwd"), "kasm-user")
	})
}

// Attach without an Upgrade header is answered by a raw stream.
func TestRawAttach(t *testing.T) {
	r := plainForm(t, settings{})
	id := r.create("run", "alice", "-d", "-t", image, "sh", "-c", "echo hello; sleep 1000").must()
	eventually(t, "output", 20*time.Second, func() error { return wantText(strings.TrimSpace(r.docker("logs", id).run().stdout), "hello") })
	a := r.api("POST", "/v1.41/containers/"+id+"/attach?logs=1&stdout=1", nil)
	equal(t, "status", a.status, 200)
	equal(t, "output", a.body, "hello\r\n")
	var exec struct {
		ID string `json:"Id"`
	}
	x := r.api("POST", "/v1.41/containers/"+id+"/exec", body{"AttachStdout": true, "Tty": true, "Cmd": []string{"echo", "again"}})
	if err := json.Unmarshal([]byte(x.body), &exec); err != nil {
		t.Fatal(err, x)
	}
	a = r.api("POST", "/v1.41/exec/"+exec.ID+"/start", body{"Detach": false, "Tty": true})
	equal(t, "exec's output", a.body, "again\r\n")
	r.api("POST", "/v1.41/exec/nowhere/start", body{}).refused(t, "exec of none", 404, "nowhere")
	direct, err := request(r.engine.host, "POST", "/v1.41/containers/nowhere/attach?stdout=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "attach to none", r.api("POST", "/v1.41/containers/nowhere/attach?stdout=1", nil), direct)
}
