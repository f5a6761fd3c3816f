package supervise

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Worker is the worker's end.
type Worker struct {
	socket *os.File
	device *os.File
	init   []byte
}

// Inherited returns the worker's end in a process that Run started. It must be called
// once.
func Inherited() (*Worker, error) {
	const socket = 3 // the first of ExtraFiles
	unix.CloseOnExec(socket)
	w := &Worker{socket: os.NewFile(socket, "supervisor")}
	if os.Getenv(resumeEnv) == "" {
		return w, nil
	}
	var err error
	if w.device, w.init, err = receive(w.socket); err != nil {
		return nil, fmt.Errorf("take over from the process before: %w", err)
	}
	return w, nil
}

// Device is what the worker before handed over, or nil in the first one.
func (w *Worker) Device() (device *os.File, init []byte) { return w.device, w.init }

// Keep hands a FUSE connection to the supervisor, in place of what it has. The
// descriptor stays the caller's.
func (w *Worker) Keep(device *os.File, init []byte) error {
	if err := send(w.socket, device, init); err != nil {
		return fmt.Errorf("hand the FUSE device over: %w", err)
	}
	return nil
}
