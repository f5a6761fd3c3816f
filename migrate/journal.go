package migrate

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"valise/durable"
)

// record is a line of the journal: an object that is in the directory and on the disk.
type record struct {
	entry
	Kind       kind        `json:"t"`
	Attributes *attributes `json:"a,omitempty"` // of a directory, set at the end
	Notes      []string    `json:"n,omitempty"`
}

// readJournal calls each for the records of the journal at path, if there is one. Only
// its end may be broken, by a kill, and is left out.
func readJournal(path string, each func(record) error) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewReaderSize(file, 1<<16)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var r record
		if json.Unmarshal(line, &r) != nil {
			return nil
		}
		if err := each(r); err != nil {
			return err
		}
	}
}

// journal takes the records of what is complete, and writes them when it is on the disk.
type journal struct {
	root int // the staging directory
	file *os.File

	mu      sync.Mutex
	pending []record

	writing sync.Mutex
}

// newJournal replaces the journal at path by the records that keep writes.
func newJournal(path string, root int, keep func(write func(record) error) error) (*journal, error) {
	err := durable.WriteFrom(path, func(w io.Writer) error {
		out := bufio.NewWriterSize(w, 1<<16)
		encoder := json.NewEncoder(out)
		if err := keep(func(r record) error { return encoder.Encode(r) }); err != nil {
			return err
		}
		return out.Flush()
	})
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	return &journal{root: root, file: file}, nil
}

func (j *journal) add(r record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pending = append(j.pending, r)
}

// flush makes durable what was added before.
func (j *journal) flush() error {
	j.writing.Lock()
	defer j.writing.Unlock()
	j.mu.Lock()
	pending := j.pending
	j.pending = nil
	j.mu.Unlock()
	if len(pending) == 0 {
		return nil
	}
	if err := retry(func() error { return unix.Syncfs(j.root) }); err != nil {
		return err
	}
	var lines []byte
	for _, r := range pending {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		lines = append(append(lines, line...), '\n')
	}
	if _, err := j.file.Write(lines); err != nil {
		return err
	}
	return j.file.Sync()
}

func (j *journal) close() error { return j.file.Close() }
