package storetest

import (
	"context"
	"slices"
	"sync"

	"valise/store"
)

// Method is one of a Bucket's.
type Method string

// The methods of store.Bucket.
const (
	Put      Method = "put"
	Create   Method = "create"
	Get      Method = "get"
	GetRange Method = "get range"
	List     Method = "list"
	Delete   Method = "delete"
)

// Request is a call of a Bucket.
type Request struct {
	Method Method
	Key    store.Key // of a List the prefix
	Bytes  int       // of the body sent or received
}

// Recorder passes calls on to a Bucket and remembers them in the order in which they
// ended, also those that ended with an error. A Delete is a request for each key.
type Recorder struct {
	next store.Bucket

	mu   sync.Mutex
	seen []Request
}

var _ store.Bucket = (*Recorder)(nil)

// NewRecorder returns a Recorder of what is asked of next.
func NewRecorder(next store.Bucket) *Recorder { return &Recorder{next: next} }

// Requests returns those since the last Reset.
func (r *Recorder) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen)
}

// Count is how many of the requests have one of the methods.
func (r *Recorder) Count(methods ...Method) int {
	n := 0
	for _, req := range r.Requests() {
		if slices.Contains(methods, req.Method) {
			n++
		}
	}
	return n
}

// Reset forgets the requests.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = nil
}

func (r *Recorder) note(requests ...Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, requests...)
}

// Put implements store.Bucket.
func (r *Recorder) Put(ctx context.Context, key store.Key, body []byte) error {
	err := r.next.Put(ctx, key, body)
	r.note(Request{Put, key, len(body)})
	return err
}

// Create implements store.Bucket.
func (r *Recorder) Create(ctx context.Context, key store.Key, body []byte) error {
	err := r.next.Create(ctx, key, body)
	r.note(Request{Create, key, len(body)})
	return err
}

// Get implements store.Bucket.
func (r *Recorder) Get(ctx context.Context, key store.Key) ([]byte, error) {
	body, err := r.next.Get(ctx, key)
	r.note(Request{Get, key, len(body)})
	return body, err
}

// GetRange implements store.Bucket.
func (r *Recorder) GetRange(ctx context.Context, key store.Key, offset int64, p []byte) error {
	err := r.next.GetRange(ctx, key, offset, p)
	received := len(p)
	if err != nil {
		received = 0
	}
	r.note(Request{GetRange, key, received})
	return err
}

// List implements store.Bucket.
func (r *Recorder) List(ctx context.Context, prefix, after store.Key, limit int) (store.Listing, error) {
	l, err := r.next.List(ctx, prefix, after, limit)
	r.note(Request{List, prefix, 0})
	return l, err
}

// Delete implements store.Bucket.
func (r *Recorder) Delete(ctx context.Context, keys ...store.Key) error {
	err := r.next.Delete(ctx, keys...)
	requests := make([]Request, len(keys))
	for i, key := range keys {
		requests[i] = Request{Delete, key, 0}
	}
	r.note(requests...)
	return err
}
