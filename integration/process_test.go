//go:build integration

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	hangup    = syscall.SIGHUP
	terminate = syscall.SIGTERM
	kill      = syscall.SIGKILL
)

// process is a program of ours that runs beside the test.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	log  journal
}

// journal is what a process says, readable while it speaks.
type journal struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

// start runs valise with these arguments.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startCommand(t, exec.Command(binary(t), args...))
}

// startActivated runs valise with a listening socket, as systemd would.
func startActivated(t *testing.T, socket *os.File, args ...string) *process {
	t.Helper()
	line := append([]string{"-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"`, binary(t)}, args...)
	cmd := exec.Command("sh", line...)
	cmd.ExtraFiles = []*os.File{socket}
	return startCommand(t, cmd)
}

func startCommand(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	// A test process that is killed runs no clean-up.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: kill}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // its state tells
		close(p.done)
	}()
	return p
}

func (p *process) output() string { return p.log.String() }

func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) } // it may be gone

// stop ends the process by a signal and waits for its end.
func (p *process) stop(t *testing.T, s syscall.Signal) {
	t.Helper()
	p.signal(s)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		p.signal(kill) // for which it need not wait: a thread in a dead file system outlives it
		t.Errorf("%s: still there 20 s after %s", p.cmd, s)
	}
}

// awaits waits until the process has said something.
func (p *process) awaits(t *testing.T, words string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s says %q", p.cmd.Args[1], words), 20*time.Second, func() error {
		if strings.Contains(p.output(), words) {
			return nil
		}
		if !p.running() {
			t.Fatalf("%s ended without saying %q: %s\n%s", p.cmd, words, p.cmd.ProcessState, p.output())
		}
		return errors.New("silent")
	})
}

// startProxy starts the rig's proxy and waits until it listens.
func (r *rig) startProxy() {
	r.t.Helper()
	r.serving = start(r.t, "proxy", "--config", r.configFile())
	r.serving.awaits(r.t, "msg=listening address="+strings.TrimPrefix(r.proxy, "unix://"))
}

// stopProxy ends the proxy, which has to end well.
func (r *rig) stopProxy() {
	if !r.serving.running() {
		return
	}
	r.serving.stop(r.t, terminate)
	if state := r.serving.cmd.ProcessState; !r.serving.running() && !state.Success() {
		r.t.Errorf("proxy: %s after SIGTERM\n%s", state, r.serving.output())
	}
	absent(r.t, strings.TrimPrefix(r.proxy, "unix://"))
}

// threads counts the threads of a process.
func threads(t *testing.T, pid int) int {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(tasks)
}
