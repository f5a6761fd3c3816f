package migrate

import (
	"errors"
	"log/slog"
)

var (
	// ErrNotEmpty marks a directory with files that no earlier Fetch has put there.
	ErrNotEmpty = errors.New("the staging directory is not empty: name a new one")
	// ErrOther marks a directory that was begun for something else.
	ErrOther = errors.New("the staging directory was begun for something else")
	// ErrLocked says that another process fetches into the same directory.
	ErrLocked = errors.New("another migration works in the staging directory")
	// ErrProfile says that the objects are a profile's already.
	ErrProfile = errors.New("these objects are a valise profile, not plain files: mount it, or name the prefix that has the files")
	// ErrChanging says that the objects did not stay as they were for long enough.
	ErrChanging = errors.New("the objects keep changing: stop what writes below the prefix, then run it again")
)

// Config is what to fetch and to where. Source, Name and Dir must be set.
type Config struct {
	Source Source
	// Name tells the source from others, such as its URL: a staging directory goes on
	// with the one that it was begun with.
	Name string

	// Dir is the staging directory. Its last part is made if it is missing.
	Dir string
	// UID and GID own all that is fetched.
	UID, GID int

	// Filter reports what is left out; nil: nothing. It is asked about the path of each
	// object, and has to know itself what lies in a directory that it leaves out.
	Filter func(path string, dir bool) bool

	// Log gets a debug line for each object that is skipped, and more; nil: none.
	Log *slog.Logger
	// Progress is called often, by one goroutine at a time; nil: never.
	Progress func(Progress)
}

// Progress is how far a Fetch is. What an earlier one has done counts.
type Progress struct {
	Listed             int64 // objects of the listing under way
	Objects, Bytes     int64
	OfObjects, OfBytes int64 // of the last whole listing, 0 before it
}

// Result is what the directory holds.
type Result struct {
	Files int64 // regular ones
	Links int64 // symbolic ones
	Fifos int64
	Dirs  int64 // with an object of their own
	Bytes int64 // of regular files

	// Fetched objects and bytes are those of this Fetch, not of one that it continues.
	Fetched, FetchedBytes int64

	Filtered    int64     // objects that the filter left out
	Skipped     []Skipped // objects that are no file here, maxSkipped at most
	MoreSkipped int64     // and how many more

	// Notes are sentences about what was left out of files that were written.
	Notes []string
}

// Skipped is an object that is not in the directory.
type Skipped struct{ Key, Reason string }

// maxSkipped objects are told by name.
const maxSkipped = 10_000

// skips collects them.
type skips struct {
	list []Skipped
	more int64
}

func (s *skips) add(key, reason string) {
	if len(s.list) < maxSkipped {
		s.list = append(s.list, Skipped{key, reason})
	} else {
		s.more++
	}
}
