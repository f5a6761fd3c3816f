package supervise

import (
	"context"
	"errors"
	"fmt"
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

// maxMessage is more than the kernel's first request has.
const maxMessage = 4096

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
// exit code. When ctx ends, the worker gets SIGTERM.
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
		if err := send(ours, device.file, device.init); err != nil {
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
			file, init, err := receive(ours)
			if err != nil {
				return // the worker has ended
			}
			kept.set(&device{file: file, init: init})
		}
	})
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	err = cmd.Wait()
	stop()
	receiving.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	return cmd, nil
}

// device is a FUSE connection: a descriptor of it and the kernel's first request.
type device struct {
	file *os.File
	init []byte
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
		h.device.file.Close()
	}
	h.device = d
}

func (h *handed) close() {
	if d := h.get(); d != nil {
		d.file.Close()
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

func send(socket, file *os.File, data []byte) error {
	return unix.Sendmsg(int(socket.Fd()), data, unix.UnixRights(int(file.Fd())), nil, unix.MSG_NOSIGNAL)
}

func receive(socket *os.File) (*os.File, []byte, error) {
	data, control := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4))
	var n, controlLen int
	for {
		var err error
		n, controlLen, _, _, err = unix.Recvmsg(int(socket.Fd()), data, control, unix.MSG_CMSG_CLOEXEC)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, nil, err
		}
	}
	messages, err := unix.ParseSocketControlMessage(control[:controlLen])
	if err != nil || len(messages) != 1 {
		return nil, nil, errors.Join(err, errors.New("no descriptor came"))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "/dev/fuse"), data[:n], nil
}
