package storetest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"valise/store"
)

// Memory is a store.Bucket in memory. Its zero value is an empty one.
type Memory struct {
	// Now is the store's clock; nil is time.Now. It is set before the first call.
	Now func() time.Time

	mu      sync.Mutex
	keys    []store.Key // sorted
	objects map[store.Key]object
}

// object keeps the key that it was stored with, nil for none, as SSE-C does.
type object struct {
	body     []byte
	modified time.Time
	own      *[32]byte
}

// keyedMemory is the Memory with a customer key.
type keyedMemory struct {
	*Memory
	own [32]byte
}

// WithCustomerKey implements store.CustomerKeyed.
func (m *Memory) WithCustomerKey(key [32]byte) store.Bucket { return &keyedMemory{m, key} }

// Put implements store.Bucket.
func (k *keyedMemory) Put(ctx context.Context, key store.Key, body []byte) error {
	return k.put(ctx, "put", key, body, false, &k.own)
}

// Create implements store.Bucket.
func (k *keyedMemory) Create(ctx context.Context, key store.Key, body []byte) error {
	return k.put(ctx, "create", key, body, true, &k.own)
}

// Get implements store.Bucket.
func (k *keyedMemory) Get(ctx context.Context, key store.Key) ([]byte, error) {
	return k.get(ctx, key, &k.own)
}

// GetRange implements store.Bucket.
func (k *keyedMemory) GetRange(ctx context.Context, key store.Key, offset int64, p []byte) error {
	return k.getRange(ctx, key, offset, p, &k.own)
}

var _ store.Bucket = (*Memory)(nil)

func (m *Memory) now() time.Time {
	now := time.Now
	if m.Now != nil {
		now = m.Now
	}
	return now().UTC().Truncate(time.Second)
}

// Put implements store.Bucket.
func (m *Memory) Put(ctx context.Context, key store.Key, body []byte) error {
	return m.put(ctx, "put", key, body, false, nil)
}

// Create implements store.Bucket.
func (m *Memory) Create(ctx context.Context, key store.Key, body []byte) error {
	return m.put(ctx, "create", key, body, true, nil)
}

func (m *Memory) put(ctx context.Context, op string, key store.Key, body []byte, fresh bool, own *[32]byte) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", op, key, err)
	}
	if len(body) > store.MaxObject {
		return fmt.Errorf("%s %s: %d bytes are more than an object may have", op, key, len(body))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at, taken := slices.BinarySearch(m.keys, key)
	if taken && fresh {
		return fmt.Errorf("%s %s: %w", op, key, store.ErrExist)
	}
	if !taken {
		m.keys = slices.Insert(m.keys, at, key)
	}
	if m.objects == nil {
		m.objects = map[store.Key]object{}
	}
	m.objects[key] = object{bytes.Clone(body), m.now(), own}
	return nil
}

// Get implements store.Bucket.
func (m *Memory) Get(ctx context.Context, key store.Key) ([]byte, error) { return m.get(ctx, key, nil) }

func (m *Memory) get(ctx context.Context, key store.Key, own *[32]byte) ([]byte, error) {
	body, err := m.body(ctx, key, own)
	if err != nil {
		return nil, err
	}
	return append([]byte{}, body...), nil
}

// GetRange implements store.Bucket.
func (m *Memory) GetRange(ctx context.Context, key store.Key, offset int64, p []byte) error {
	return m.getRange(ctx, key, offset, p, nil)
}

func (m *Memory) getRange(ctx context.Context, key store.Key, offset int64, p []byte, own *[32]byte) error {
	if offset < 0 {
		return fmt.Errorf("get %s: offset %d", key, offset)
	}
	if len(p) == 0 {
		return ctx.Err()
	}
	body, err := m.body(ctx, key, own)
	if err != nil {
		return err
	}
	if int64(len(body)) < offset+int64(len(p)) {
		return fmt.Errorf("get %s: the object ends at byte %d, before the range's end at %d",
			key, len(body), offset+int64(len(p)))
	}
	copy(p, body[offset:])
	return nil
}

// body is that of the object: it is replaced as a whole and never written to.
func (m *Memory) body(ctx context.Context, key store.Key, own *[32]byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[key]
	if !ok {
		return nil, fmt.Errorf("get %s: %w", key, store.ErrNotExist)
	}
	if (o.own == nil) != (own == nil) || own != nil && *own != *o.own {
		return nil, fmt.Errorf("get %s: the customer key does not fit: %w", key, store.ErrDenied)
	}
	return o.body, nil
}

// List implements store.Bucket.
func (m *Memory) List(ctx context.Context, prefix, after store.Key, limit int) (store.Listing, error) {
	if err := ctx.Err(); err != nil {
		return store.Listing{}, fmt.Errorf("list %s: %w", prefix, err)
	}
	if limit < 1 || limit > 1000 {
		return store.Listing{}, fmt.Errorf("list %s: limit %d is not 1 to 1000", prefix, limit)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	l := store.Listing{Now: m.now()}
	first, _ := slices.BinarySearch(m.keys, max(prefix, after))
	for _, key := range m.keys[first:] {
		if !strings.HasPrefix(string(key), string(prefix)) {
			break
		}
		if key == after {
			continue
		}
		if len(l.Objects) == limit {
			l.More = true
			break
		}
		o := m.objects[key]
		l.Objects = append(l.Objects, store.Object{Key: key, Size: int64(len(o.body)), Modified: o.modified})
	}
	return l, nil
}

// Delete implements store.Bucket.
func (m *Memory) Delete(ctx context.Context, keys ...store.Key) error {
	if err := ctx.Err(); err != nil && len(keys) > 0 {
		return fmt.Errorf("delete %s: %w", keys[0], err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range keys {
		if at, ok := slices.BinarySearch(m.keys, key); ok {
			m.keys = slices.Delete(m.keys, at, at+1)
			delete(m.objects, key)
		}
	}
	return nil
}
