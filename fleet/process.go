package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
)

// started is a process that was just started, and what it says of itself.
type started struct {
	cmd  *exec.Cmd
	said chan string   // of systemd's notification protocol, a datagram each
	done chan struct{} // closed when it has ended
}

// start starts the process of a profile and waits until it says that it is ready. Where
// it does not become so in time, it is ended.
func (f *Fleet) start(ctx context.Context, s Settings) error {
	p, stop, err := f.run("mount", "--settings", s.Path())
	if err != nil {
		return err
	}
	defer stop()
	reason := ""
	for {
		select {
		case text := <-p.said:
			for line := range strings.Lines(text) {
				word, value, _ := strings.Cut(strings.TrimSpace(line), "=")
				switch {
				case word == "READY" && value == "1":
					return nil
				case word == "STATUS":
					reason = value
				}
			}
		case <-p.done:
			reason = last(p.said, reason)
			if reason == "" {
				reason = "the process that serves it ended: " + p.cmd.ProcessState.String()
			}
			return errors.New(reason)
		case <-ctx.Done():
			_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
			select {
			case <-p.done:
			case <-time.After(endTime):
			}
			if reason = last(p.said, reason); reason != "" {
				return fmt.Errorf("%s: %w", reason, ctx.Err())
			}
			return fmt.Errorf("mount %s: it takes too long: %w", s.URL, ctx.Err())
		}
	}
}

// endTime is how long a process that is told to end may take to say why it was not ready.
const endTime = 2 * time.Second

// last returns the reason in what was said last, or the one before.
func last(said <-chan string, reason string) string {
	for {
		select {
		case text := <-said:
			if _, value, ok := strings.Cut(text, "STATUS="); ok {
				reason, _, _ = strings.Cut(value, "\n")
			}
		default:
			return reason
		}
	}
}

// run starts the program in a session of its own, so that nothing that ends this process
// ends it. Until stop is called, what it says by systemd's notification protocol
// (sd_notify(3)) is in said.
func (f *Fleet) run(args ...string) (p *started, stop func(), err error) {
	dir, err := os.MkdirTemp("", "valise-notify-")
	if err != nil {
		return nil, nil, err
	}
	address := &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"}
	socket, err := net.ListenUnixgram("unixgram", address)
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	stop = func() {
		socket.Close()
		os.RemoveAll(dir)
	}
	cmd := exec.Command(f.cfg.Program, args...)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+address.Name)
	cmd.Stderr, cmd.Stdout = os.Stderr, os.Stderr
	if f.cfg.logSocket() != "" {
		crash, err := f.cfg.crashLog()
		if err != nil {
			stop()
			return nil, nil, err
		}
		defer crash.Close()
		cmd.Stderr, cmd.Stdout = crash, crash
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		stop()
		return nil, nil, fmt.Errorf("start %s: %w", f.cfg.Program, err)
	}
	p = &started{cmd: cmd, said: make(chan string, 64), done: make(chan struct{})}
	heard := make(chan struct{}) // closed when all that it said is in said
	go func() {
		_ = cmd.Wait() // its state is looked at
		// What it said stands before this in the socket.
		if err := send(address, endOfWords); err == nil {
			<-heard
		}
		close(p.done)
	}()
	go func() {
		defer close(heard)
		buf := make([]byte, 64<<10)
		for {
			n, err := socket.Read(buf)
			if err != nil || string(buf[:n]) == endOfWords {
				return // stopped, or it has ended
			}
			select {
			case p.said <- string(buf[:n]):
			default: // nobody listens
			}
		}
	}()
	return p, stop, nil
}

// endOfWords is nothing of sd_notify(3).
const endOfWords = "\x00"

func send(to *net.UnixAddr, text string) error {
	c, err := net.DialUnix("unixgram", nil, to)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte(text))
	return err
}

func isMountpoint(path string) (bool, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(path))
	if err != nil {
		return false, fmt.Errorf("read the mount table: %w", err)
	}
	return len(mounts) > 0, nil
}
