package store

import (
	"context"
	"errors"
	"time"
)

// Key is the name of an object below the profile's prefix, such as "packs/4f…".
// It never begins with a slash.
type Key string

// Errors that a Bucket returns, to be tested with errors.Is. Anything else (a
// refused credential, an answer cut short, a store that is away) is none of them.
var (
	// ErrNotExist is the answer of Get and GetRange for a key that the store says is
	// not there. It is no proof: a store answers 403 instead where listing is not
	// allowed, and some answer 404 for a moment after a write. List decides.
	ErrNotExist = errors.New("object does not exist")
	// ErrExist is the answer of Create for a key that is taken.
	ErrExist = errors.New("object exists")
	// ErrDenied is the answer for credentials that are wrong, expired or lack the right.
	ErrDenied = errors.New("access denied")
	// ErrUnavailable is the answer after the last retry of what may succeed later:
	// no connection, a time-out, 5xx, slow down, an answer cut short.
	ErrUnavailable = errors.New("store is not available")
)

// Object is one entry of a Listing.
type Object struct {
	Key      Key
	Size     int64     // bytes
	Modified time.Time // by the store's clock, to the second
}

// Listing is one page of keys.
type Listing struct {
	Objects []Object
	More    bool      // there are keys after the last
	Now     time.Time // the store's clock when it answered, to the second
}

// Bucket is the part of an S3 bucket below one profile's prefix, and all that the
// format asks of a store. Every method may be called by many goroutines at once,
// retries what is worth it (with backoff and jitter) until ctx ends or its retries
// are used up, and wraps errors with the operation and the key. A body is never kept
// or changed after the call. storetest.Run holds an implementation to this contract.
type Bucket interface {
	// Put stores body under key, in place of what is there. It is all or nothing.
	Put(ctx context.Context, key Key, body []byte) error

	// Create stores body under key if there is no such object (If-None-Match: *),
	// else it returns ErrExist. Of any number of racing Creates of one key exactly
	// one takes effect. ErrExist may be the echo of the caller's own request whose
	// answer was lost: whoever needs to know writes a nonce and reads it back.
	Create(ctx context.Context, key Key, body []byte) error

	// Get returns the whole object, or ErrNotExist. An answer shorter than announced
	// is an error. Objects larger than MaxObject are refused.
	Get(ctx context.Context, key Key) ([]byte, error)

	// GetRange fills p with the bytes from offset on, or returns an error: an object
	// that ends earlier is one too.
	GetRange(ctx context.Context, key Key, offset int64, p []byte) error

	// List returns up to limit keys that begin with prefix and sort after `after`
	// (byte order, exclusive, "" for the start), in order. limit is 1 to 1000.
	List(ctx context.Context, prefix, after Key, limit int) (Listing, error)

	// Delete removes the objects; one that is not there is no error.
	Delete(ctx context.Context, keys ...Key) error
}

// MaxObject is the size no object exceeds, in bytes: the format's packs and index
// parts are smaller, so nothing needs a multipart upload.
const MaxObject = 32 << 20
