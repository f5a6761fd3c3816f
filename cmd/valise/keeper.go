package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"valise/endpoint"
)

// The first process of the managed plugin is a keeper: it holds the socket, starts the
// driver and starts another one when that dies, for Docker takes the whole plugin down
// with its first process.

// keptEnv tells the driver that its socket is its descriptor 3. Its value is the process
// that started the keeper, Docker's, which is in the host's namespaces.
const keptEnv = "VALISE_KEPT"

// A driver that dies at once is started again after a wait that grows.
const (
	restartWait    = 100 * time.Millisecond
	maxRestartWait = 10 * time.Second
)

// keep runs drivers, one after the other, until ctx ends.
func keep(ctx context.Context) error {
	l, err := endpoint.Endpoint{Address: "unix://" + managedSocket, Mode: 0o600}.Listen()
	if err != nil {
		return err
	}
	defer l.Close()
	socket, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for wait := restartWait; ctx.Err() == nil; wait = min(2*wait, maxRestartWait) {
		started := time.Now()
		cmd := exec.Command(self, os.Args[1:]...)
		cmd.Env = append(os.Environ(), keptEnv+"="+strconv.Itoa(os.Getppid()))
		cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdout, os.Stderr, []*os.File{socket}
		if err := cmd.Start(); err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) }) // it may have ended
		err := cmd.Wait()
		stop()
		if ctx.Err() != nil {
			return err
		}
		if time.Since(started) > maxRestartWait {
			wait = restartWait
		}
		fmt.Fprintf(os.Stderr, "valise: the volume driver has died (%v); another one is started\n", cmd.ProcessState)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

// keptSocket is the socket that the keeper holds, nil without one.
func keptSocket() (net.Listener, error) {
	if os.Getenv(keptEnv) == "" {
		return nil, nil
	}
	f := os.NewFile(3, managedSocket)
	defer f.Close()
	return net.FileListener(f)
}

// hostProcess is a process in the host's namespaces.
func hostProcess() int {
	pid, err := strconv.Atoi(os.Getenv(keptEnv))
	if err != nil {
		return os.Getppid() // there is no keeper
	}
	return pid
}

// hostName is the host's own name, of which the plugin has none.
func hostName() (string, error) {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/uts", hostProcess()))
	if err != nil {
		return "", fmt.Errorf("read the host's name: %w", err)
	}
	defer ns.Close()
	type result struct {
		name string
		err  error
	}
	found := make(chan result)
	go func() {
		runtime.LockOSThread() // and never let go: the thread ends in another namespace
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWUTS); err != nil {
			found <- result{err: fmt.Errorf("read the host's name: setns: %w", err)}
			return
		}
		name, err := os.Hostname()
		found <- result{name, err}
	}()
	r := <-found
	return r.name, r.err
}
