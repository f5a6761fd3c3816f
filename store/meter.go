package store

import (
	"context"
	"sync/atomic"
)

// Meter counts the requests to a Bucket, and the bytes of bodies; it is a Bucket.
type Meter struct {
	Bucket
	into                     *Meter // counts in place of this one; nil is this one
	requests, sent, received atomic.Int64
}

// Traffic is what a Meter counted. A request that the bucket tried again is one.
type Traffic struct {
	Requests int64 `json:"requests"`
	Sent     int64 `json:"sent"`
	Received int64 `json:"received"`
}

// Traffic returns the counters.
func (m *Meter) Traffic() Traffic {
	return Traffic{Requests: m.requests.Load(), Sent: m.sent.Load(), Received: m.received.Load()}
}

func (m *Meter) count(sent, received int) {
	if m.into != nil {
		m.into.count(sent, received)
		return
	}
	m.requests.Add(1)
	m.sent.Add(int64(sent))
	m.received.Add(int64(received))
}

// Put implements Bucket.
func (m *Meter) Put(ctx context.Context, key Key, body []byte) error {
	m.count(len(body), 0)
	return m.Bucket.Put(ctx, key, body)
}

// Create implements Bucket.
func (m *Meter) Create(ctx context.Context, key Key, body []byte) error {
	m.count(len(body), 0)
	return m.Bucket.Create(ctx, key, body)
}

// Get implements Bucket.
func (m *Meter) Get(ctx context.Context, key Key) ([]byte, error) {
	body, err := m.Bucket.Get(ctx, key)
	m.count(0, len(body))
	return body, err
}

// GetRange implements Bucket.
func (m *Meter) GetRange(ctx context.Context, key Key, offset int64, p []byte) error {
	m.count(0, len(p))
	return m.Bucket.GetRange(ctx, key, offset, p)
}

// List implements Bucket.
func (m *Meter) List(ctx context.Context, prefix, after Key, limit int) (Listing, error) {
	m.count(0, 0)
	return m.Bucket.List(ctx, prefix, after, limit)
}

// Delete implements Bucket.
func (m *Meter) Delete(ctx context.Context, keys ...Key) error {
	m.count(0, 0)
	return m.Bucket.Delete(ctx, keys...)
}
