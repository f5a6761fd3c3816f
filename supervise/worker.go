package supervise

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Worker is the worker's end.
type Worker struct {
	socket *os.File
	files  []*os.File
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
	if w.init, w.files, err = receive(w.socket); err != nil {
		return nil, fmt.Errorf("take over from the process before: %w", err)
	}
	return w, nil
}

// Context returns one that ends when the supervisor's does. It must be called once. The
// death of the supervisor does not end it.
func (w *Worker) Context(ctx context.Context) context.Context {
	ctx, end := context.WithCancel(ctx)
	go func() {
		if _, _, err := receive(w.socket); err == nil {
			end()
		}
	}()
	return ctx
}

// Kept is what the worker before handed over with Keep; nothing in the first one.
func (w *Worker) Kept() (init []byte, files []*os.File) { return w.init, w.files }

// Keep hands to the supervisor, in place of what it has, the kernel's first request and
// duplicates of descriptors: that of the FUSE connection, and what else must stay open
// over the death of this process, such as a lock.
func (w *Worker) Keep(init []byte, files ...*os.File) error {
	if len(init) > maxMessage || len(files) > maxFiles {
		return fmt.Errorf("hand the FUSE device over: a request of %d bytes and %d files are too much", len(init), len(files))
	}
	if err := send(w.socket, init, files...); err != nil {
		return fmt.Errorf("hand the FUSE device over: %w", err)
	}
	return nil
}
