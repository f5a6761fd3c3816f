//go:build integration

package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

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

// process is a program that runs beside the test.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	log  journal
}

// start runs valise with these arguments.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(suite.binary, args...)
	cmd.Env = env
	return startCommand(t, cmd)
}

func startCommand(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.WaitDelay = time.Second // for one that leaves a child with its output
	// A test process that is killed runs no clean-up. The signal comes when the thread
	// that started the program ends.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // its state tells
			close(p.done)
		}
	}()
	must(t, <-started)
	return p
}

func (p *process) output() string { return p.log.String() }

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// code is the exit code of a process that has ended.
func (p *process) code() int { return p.cmd.ProcessState.ExitCode() }

// wait waits for its end and returns the exit code.
func (p *process) wait(t *testing.T, within time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(within):
		t.Fatalf("%s has not ended within %s:\n%s", p.cmd, within, tail(p.output()))
	}
	return p.code()
}

// kill ends it at once.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// worker is the process that serves the mount: the child of the one that was started.
func (m *mount) worker() int {
	m.t.Helper()
	pid := 0
	eventually(m.t, 10*time.Second, "process that serves the mount", func() bool {
		pid = childOf(m.cmd.Process.Pid)
		return pid != 0
	})
	return pid
}

// childOf is a living child of a process, or 0.
func childOf(parent int) int {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		fields := strings.Fields(rest)
		if fields[0] != "Z" && fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			return pid
		}
	}
	return 0
}

// killWorker kills the process that serves the mount; another one takes over.
func (m *mount) killWorker() {
	m.t.Helper()
	pid := m.worker()
	must(m.t, unix.Kill(pid, unix.SIGKILL))
	m.gone(pid)
}

// killSupervisor leaves the worker alone.
func (m *mount) killSupervisor() (worker int) {
	m.t.Helper()
	worker = m.worker()
	m.kill()
	return worker
}

// killAll is what a power cut does to the processes, though not to the disk. The mount
// stays behind without anyone who serves it.
func (m *mount) killAll() {
	m.t.Helper()
	pid := m.worker()
	m.signal(unix.SIGKILL)
	_ = unix.Kill(pid, unix.SIGKILL)
	<-m.done
	m.gone(pid)
}

// gone waits for the end of a process that is no child of ours. What it waits for itself
// may take a while on a busy disk; if it never ends, the test says what that is.
func (m *mount) gone(pid int) {
	m.t.Helper()
	for deadline := time.Now().Add(time.Minute); alive(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatalf("process %d has not ended within a minute:\n%s", pid, kernelStacks(pid))
		}
	}
}

// kernelStacks shows where in the kernel the threads of a process are.
func kernelStacks(pid int) string {
	var out strings.Builder
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, task := range tasks {
		status, _ := os.ReadFile(task + "/stat")
		stack, _ := os.ReadFile(task + "/stack")
		fmt.Fprintf(&out, "%s%s\n", status, stack)
	}
	return out.String()
}

// alive reports whether a thread of a process lives: the first one may be the first to
// end.
func alive(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	return slices.ContainsFunc(threads, func(name string) bool {
		data, err := os.ReadFile(name)
		_, state, _ := strings.Cut(string(data), ") ")
		return err == nil && !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
	})
}

// result is how a command ended.
type result struct {
	command        string
	code           int
	stdout, stderr string
}

// run runs valise to its end.
func run(t *testing.T, env []string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, suite.binary, args...)
	cmd.Env = env
	return runCommand(t, cmd)
}

func runCommand(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{filepath.Base(cmd.Path) + " " + strings.Join(cmd.Args[1:], " "), cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// wants compares the exit code, and wants each of said in the output.
func (r result) wants(t *testing.T, code int, said ...string) {
	t.Helper()
	if r.code != code {
		t.Fatalf("%s: got exit code %d, want %d:\n%s%s", r.command, r.code, code, tail(r.stdout), tail(r.stderr))
	}
	for _, s := range said {
		if !strings.Contains(r.stdout+r.stderr, s) {
			t.Errorf("%s: got %q, want it to say %q", r.command, r.stdout+r.stderr, s)
		}
	}
}
