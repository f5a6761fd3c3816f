package fleet

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Docker waits, when a managed plugin's first process has ended, until nobody holds the
// plugin's standard error any more. So processes that outlive it send their log to a socket
// of the driver's, a datagram for each record; what nobody takes goes to their own standard
// error, a file.

// logSocket is where the driver takes the log of its processes, "" if they write to its
// standard error.
func (c Config) logSocket() string {
	if len(c.Cgroups) == 0 {
		return ""
	}
	return filepath.Join(c.RunDir, "log")
}

// crashLog is the standard error of processes that have a log socket.
func (c Config) crashLog() (*os.File, error) {
	return os.OpenFile(filepath.Join(c.StateDir, "mounts.log"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
}

// maxRecord is the longest record that is passed on whole.
const maxRecord = 64 << 10

// Relay writes what processes log to this process's standard error, until it ends.
func (f *Fleet) Relay() error {
	path := f.cfg.logSocket()
	if path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	next := path + ".new"
	_ = os.Remove(next) // of a driver that died just here
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: next, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("take the log of mounts: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	go func() {
		buf := make([]byte, maxRecord)
		for {
			n, err := socket.Read(buf)
			if err != nil {
				f.cfg.Log.Error("the log of mounts has ended", "error", err)
				return
			}
			_, _ = os.Stderr.Write(buf[:n]) // there is nowhere to say that it failed
		}
	}()
	return nil
}

// LogWriter is where a process with these settings writes its log.
func (s Settings) LogWriter() *LogWriter { return &LogWriter{path: s.LogSocket} }

// LogWriter sends each Write to the driver, or to standard error.
type LogWriter struct{ path string }

// Write implements io.Writer. It never waits for the driver.
func (w *LogWriter) Write(record []byte) (int, error) {
	if w.path != "" && w.send(record) == nil {
		return len(record), nil
	}
	return os.Stderr.Write(record)
}

func (w *LogWriter) send(record []byte) error {
	socket, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: w.path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer socket.Close()
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Write(func(fd uintptr) bool {
		sent = unix.Send(int(fd), record, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		return true // full is as good as away
	}); err != nil {
		return err
	}
	return sent
}
