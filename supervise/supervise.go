package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// resumeEnv tells a worker that the first message on its socket is what the worker
// before it handed over.
const resumeEnv = "VALISE_RESUME"

// maxMessage is more than the kernel's first request has, maxFiles more than are handed
// over with it.
const (
	maxMessage = 4096
	maxFiles   = 4
)

// endMessage tells a worker to end.
const endMessage = "end"

// A worker that dies so often in such a time is not started again.
const (
	maxDeaths  = 5
	deathsTime = time.Minute
)

// Config says what to run.
type Config struct {
	// Command returns the worker's command. Its ExtraFiles, Env and SysProcAttr are set
	// by Run; with Env nil the worker has this process's environment.
	Command func() *exec.Cmd
	Log     *slog.Logger
}

// ErrGaveUp says that the worker died again and again.
var ErrGaveUp = errors.New("the process that serves the mount dies again and again")

// Run runs a worker, and others after it, until one ends by itself, and returns its
// exit code. When ctx ends, the worker is told so, see Worker.Context.
func Run(ctx context.Context, cfg Config) (exitCode int, err error) {
	var kept handed
	defer kept.close()
	var deaths []time.Time
	for {
		cmd, err := runWorker(ctx, cfg, &kept)
		if err != nil {
			return 1, err
		}
		state := cmd.ProcessState
		if !crashed(state) || kept.get() == nil {
			if state.ExitCode() >= 0 {
				return state.ExitCode(), nil
			}
			return 1, fmt.Errorf("the process that serves the mount: %s", state)
		}
		now := time.Now()
		deaths = append(deaths, now)
		if n := len(deaths) - maxDeaths; n >= 0 && now.Sub(deaths[n]) < deathsTime {
			return 1, fmt.Errorf("%w: %s", ErrGaveUp, state)
		}
		cfg.Log.Error("the process that serves the mount has died; another one goes on", "pid", cmd.Process.Pid, "state", state.String())
	}
}

// crashed reports whether a process ended by a signal or a panic of Go's, which is
// exit code 2.
func crashed(state *os.ProcessState) bool {
	status, ok := state.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() || state.ExitCode() == 2
}

// runWorker runs one worker to its end.
func runWorker(ctx context.Context, cfg Config, kept *handed) (*exec.Cmd, error) {
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, err
	}
	defer ours.Close()
	cmd := cfg.Command()
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	if device := kept.get(); device != nil {
		cmd.Env = append(cmd.Env, resumeEnv+"=1")
		if err := send(ours, device.init, device.files...); err != nil {
			return nil, errors.Join(err, theirs.Close())
		}
	}
	cmd.ExtraFiles = []*os.File{theirs}
	// A terminal's Ctrl-C is for the supervisor, which passes it on.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := errors.Join(cmd.Start(), theirs.Close()); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	var receiving sync.WaitGroup
	receiving.Go(func() {
		for {
			init, files, err := receive(ours)
			if err != nil {
				return // the worker has ended
			}
			kept.set(&device{files: files, init: init})
		}
	})
	// A message waits until the worker reads it; a signal would kill one that has yet to
	// say how it takes it.
	told := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { defer close(told); _ = send(ours, []byte(endMessage)) })
	err = cmd.Wait()
	if !stop() {
		<-told
	}
	receiving.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	return cmd, nil
}

// device is a FUSE connection: descriptors of it and of what else must stay open with
// it, and the kernel's first request.
type device struct {
	files []*os.File
	init  []byte
}

func (d *device) close() {
	for _, f := range d.files {
		f.Close()
	}
}

// handed holds what a worker handed over.
type handed struct {
	mu     sync.Mutex // mu guards device
	device *device
}

func (h *handed) get() *device {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.device
}

func (h *handed) set(d *device) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.device != nil {
		h.device.close()
	}
	h.device = d
}

func (h *handed) close() {
	if d := h.get(); d != nil {
		d.close()
	}
}

// socketpair keeps messages apart, and tells its end: SOCK_SEQPACKET.
func socketpair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "supervisor"), os.NewFile(uintptr(fds[1]), "worker"), nil
}

func send(socket *os.File, data []byte, files ...*os.File) error {
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	return unix.Sendmsg(int(socket.Fd()), data, rights, nil, unix.MSG_NOSIGNAL)
}

// receive waits for a message; io.EOF says that the other end is closed.
func receive(socket *os.File) (data []byte, files []*os.File, err error) {
	data, control := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*maxFiles))
	var n, controlLen, flags int
	for {
		n, controlLen, flags, _, err = unix.Recvmsg(int(socket.Fd()), data, control, unix.MSG_CMSG_CLOEXEC)
		if err == nil {
			break
		}
		// ECONNRESET: the other end is closed, with a message of ours unread. It is said
		// once, and before the messages that came.
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNRESET) {
			return nil, nil, err
		}
	}
	if n == 0 {
		return nil, nil, io.EOF // no message of ours is empty
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		return nil, nil, errors.New("more is handed over than there is room for")
	}
	messages, err := unix.ParseSocketControlMessage(control[:controlLen])
	if err != nil {
		return nil, nil, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return nil, nil, err
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "handed over"))
		}
	}
	return data[:n], files, nil
}
