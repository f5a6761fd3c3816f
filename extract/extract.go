package extract

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"valise/tree"
)

// ErrNotEmpty marks a directory that has files already, and Config.Overwrite is not set.
var ErrNotEmpty = errors.New("the directory is not empty")

// Source gives out blocks.
type Source interface {
	// Block returns the verified plain bytes of b, which lies in a pack of packSize
	// bytes. They are shared: nobody may change them. It is called by many at once and
	// returns soon after ctx is done.
	Block(ctx context.Context, b tree.Blob, packSize uint32) ([]byte, error)
}

// Config is what to extract from and how.
type Config struct {
	Tree   *tree.Tree // a whole one
	Source Source

	// Overwrite lets ToDir write into a directory that is not empty: a file in the way
	// of one of the snapshot's is replaced, also one in the way of a directory, such as a
	// symbolic link. Directories are kept, with what else is in them, and get the
	// snapshot's attributes. Only an empty one gives way to a file.
	Overwrite bool

	// Log gets a debug line for each file of a note; nil: none.
	Log *slog.Logger
	// Progress is called often, by one goroutine at a time; nil: never.
	Progress func(Progress)
}

// Progress is how far an extraction is.
type Progress struct {
	Files, Bytes     int64 // as Result counts them
	OfFiles, OfBytes int64
}

// Result is what was written, up to the error if there was one.
type Result struct {
	Files int64 // of any type but directories, each once however many names it has
	Dirs  int64 // without the extracted one itself
	Bytes int64 // of regular files, with holes

	// Notes are sentences about what was left out of files that were written.
	Notes []string
}

// read returns a block of the tree.
func (c *Config) read(ctx context.Context, b tree.Blob) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	raw, err := c.Source.Block(ctx, b, c.Tree.PackSize(b.Pack))
	if err == nil && len(raw) != int(b.Raw) {
		err = fmt.Errorf("block %s: got %d bytes, want %d", b.Hash, len(raw), b.Raw)
	}
	return raw, err
}
