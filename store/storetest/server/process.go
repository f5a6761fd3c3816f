package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	readyWithin = 60 * time.Second
	endsWithin  = 5 * time.Second
)

// binary is the path of a program that scripts/s3.sh installed.
func binary(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("VALISE_S3_BIN")
	if dir == "" {
		dir = filepath.Join(moduleRoot(t), "build/s3/bin")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run scripts/s3.sh install", err)
	}
	return path
}

func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the working directory")
		}
		dir = up
	}
}

// freeAddress is one of the loopback interface where nothing listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// process is a program that runs until the test ends.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended

	mu     sync.Mutex
	output bytes.Buffer
}

// Write takes the program's output.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(b)
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

func run(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p, p
	// Of no terminal and no group that a Ctrl-C reaches first; gone with the test.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the thread that started the program ends,
		// so that thread must not be one that Go gives up.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stop(t) })
	return p
}

func (p *process) stop(t testing.TB) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(endsWithin):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	if t.Failed() {
		const most = 4000
		log := p.log()
		t.Logf("%s said:\n%s", filepath.Base(p.cmd.Path), log[max(0, len(log)-most):])
	}
}

// start runs what command makes for a free address until the test ends, and returns
// that address when the health URL answers with a status below 500.
func start(t testing.TB, client *http.Client, command func(address string) (cmd *exec.Cmd, health string)) string {
	t.Helper()
	// Another program may take the address before this one does.
	for try := 1; ; try++ {
		address := freeAddress(t)
		cmd, health := command(address)
		p := run(t, cmd)
		err := p.ready(t.Context(), client, health)
		if err == nil {
			return address
		}
		p.stop(t)
		if try == 3 {
			t.Fatalf("%s: %v\n%s", filepath.Base(cmd.Path), err, p.log())
		}
	}
}

func (p *process) ready(ctx context.Context, client *http.Client, health string) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, health, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode < 500 {
				return nil
			}
			err = errors.New(resp.Status)
		}
		select {
		case <-tick.C:
		case <-p.done:
			return errors.New("it ended")
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", err)
		}
	}
}
