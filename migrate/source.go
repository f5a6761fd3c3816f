package migrate

import (
	"context"
	"io"
	"time"
)

// Source is the objects below a prefix. Its methods may be called by many goroutines at
// once and do their own retries.
type Source interface {
	// List returns a page of the objects that sort after the key `after` (byte order,
	// "" for the start), in order, and whether there are more.
	List(ctx context.Context, after string) (page []Object, more bool, err error)

	// Open reads the object from offset on, which is below its size or 0. It is
	// store.ErrNotExist if there is none or, where etag is not empty, one with another
	// ETag. An error while reading is the caller's to mend.
	Open(ctx context.Context, key, etag string, offset int64) (body io.ReadCloser, meta Meta, err error)
}

// Object is an entry of a listing. It is an alias, as Meta is, so that a store need not
// import this package to be a Source.
type Object = struct {
	Key      string // below the prefix; "" is an object of the prefix's own name
	ETag     string // as the store writes it
	Size     int64
	Modified time.Time
}

// Meta is what an object says of itself.
type Meta = struct {
	Size        int64 // of the whole object
	ContentType string
	User        map[string]string // x-amz-meta-…, by the lower-case rest of the name
}
