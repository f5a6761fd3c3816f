package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"time"
)

// Config says which profile to open, and how.
type Config struct {
	Bucket Bucket
	Log    *slog.Logger

	// SingleHost allows a store that does not honour If-None-Match: the operator
	// promises that one host alone writes.
	SingleHost bool

	Encryption Encryption

	// Ahead has what Acquire and Head ask first asked for while the profile is being
	// opened, by OpenOrCreate. It is for those who call them next.
	Ahead bool
	// Known is what this host remembers of the profile, which Ahead makes use of; nil is
	// nothing.
	Known *Known

	// Now is a clock that goes on while the machine is suspended; New takes one.
	Now func() time.Duration
}

// Repo is an open profile.
type Repo struct {
	plain  Bucket // for valise.json
	bucket Bucket // for everything else

	encryption Encryption
	sealer     *sealer // nil unless the profile is encrypted by the client

	log     *slog.Logger
	now     func() time.Duration
	coder   *Coder
	profile profile
	present present
	newest  newest
	clock   storeClock
	known   *Known
	ahead   *ahead // nil without Config.Ahead
}

// profile is the body of valise.json.
type profile struct {
	ID         string    `json:"id"`
	BlockSize  int       `json:"block_size"`
	Created    time.Time `json:"created"`
	SingleHost bool      `json:"single_host,omitempty"`

	// Conditional: the store was seen to honour If-None-Match.
	Conditional bool `json:"conditional,omitempty"`

	Encryption *wrapped `json:"encryption,omitempty"`
}

// seal is the object of the profile. Programs that know of no encryption refuse one that
// is encrypted, by its format.
func (p profile) seal() ([]byte, error) {
	if p.Encryption != nil {
		return seal(formatEncrypted, p)
	}
	return seal(formatProfile, p)
}

func (p *profile) unseal(data []byte) error {
	err := unseal(keyProfile, formatProfile, data, p)
	if err != nil && unseal(keyProfile, formatEncrypted, data, p) == nil {
		return nil
	}
	return err
}

// Exists reports whether there is a profile in the bucket.
func Exists(ctx context.Context, b Bucket) (bool, error) {
	page, err := b.List(ctx, keyProfile, "", 1)
	return err == nil && len(page.Objects) > 0 && page.Objects[0].Key == keyProfile, err
}

// Errors of Open.
var (
	// ErrNoProfile says that there is nothing of valise at the prefix.
	ErrNoProfile = errors.New("there is no profile")
	// ErrNotConditional says that the store ignores If-None-Match.
	ErrNotConditional = errors.New("the store does not honour If-None-Match: * (conditional writes), which keep two hosts from " +
		"overwriting each other; set single_host = true if one host alone will ever write")
)

// Open returns the profile in the bucket, or ErrNoProfile. A profile of a newer
// format is an error that says so.
func Open(ctx context.Context, cfg Config) (*Repo, error) {
	r, err := newRepo(cfg)
	if err != nil {
		return nil, err
	}
	if err := r.open(ctx); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Repo) open(ctx context.Context) error {
	for slow := (retry{}); ; {
		data, err := r.plain.Get(ctx, keyProfile)
		if err == nil {
			return r.read(data)
		}
		if err := r.absent(ctx, err); err != nil {
			return err
		}
		// Another host has just made it.
		if err := slow.wait(ctx, fmt.Sprintf("open profile: %s is there and not found", keyProfile)); err != nil {
			return err
		}
	}
}

// OpenOrCreate returns the profile in the bucket; where there is none, it makes an
// empty one, if nothing else lies there. Unless Config.SingleHost is set, it makes
// sure once in the profile's life that the store honours If-None-Match.
func OpenOrCreate(ctx context.Context, cfg Config) (*Repo, error) {
	r, err := newRepo(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Ahead {
		r.lookAhead(ctx)
	}
	if err := r.openOrCreate(ctx, cfg); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Repo) openOrCreate(ctx context.Context, cfg Config) error {
	err := r.open(ctx)
	if errors.Is(err, ErrNoProfile) {
		if err = create(ctx, cfg); err == nil {
			err = r.open(ctx)
		}
	}
	if err != nil || cfg.SingleHost || r.profile.Conditional {
		return err
	}
	if err := r.probe(ctx); err != nil {
		return fmt.Errorf("probe the store: %w", err)
	}
	return nil
}

func newRepo(cfg Config) (*Repo, error) {
	coder, err := NewCoder(runtime.GOMAXPROCS(0))
	if err != nil {
		return nil, err
	}
	r := &Repo{plain: cfg.Bucket, bucket: cfg.Bucket, encryption: cfg.Encryption, known: cfg.Known, log: cfg.Log, now: cfg.Now, coder: coder}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = bootTime
	}
	return r, nil
}

// absent says what it means that a Get of valise.json failed: ErrNoProfile if there is
// none, nil if it was not found and is there. A listing decides: a store may answer
// 403 or 404 for other reasons.
func (r *Repo) absent(ctx context.Context, err error) error {
	if !errors.Is(err, ErrNotExist) && !errors.Is(err, ErrDenied) {
		return fmt.Errorf("open profile: %w", err)
	}
	page, listErr := r.bucket.List(ctx, keyProfile, "", 1)
	switch {
	case listErr != nil:
		return fmt.Errorf("open profile: %w", errors.Join(err, listErr))
	case len(page.Objects) == 0 || page.Objects[0].Key != keyProfile:
		return ErrNoProfile
	case errors.Is(err, ErrDenied):
		return fmt.Errorf("open profile: %s is there and cannot be read: %w", keyProfile, err)
	}
	return nil
}

func (r *Repo) read(data []byte) error {
	if err := r.profile.unseal(data); err != nil {
		return fmt.Errorf("open profile: %w", err)
	}
	if r.profile.BlockSize != BlockSize {
		return fmt.Errorf("open profile: %w: block size %d, want %d", ErrCorrupt, r.profile.BlockSize, BlockSize)
	}
	if err := r.unlock(); err != nil {
		return fmt.Errorf("open profile: %w", err)
	}
	return nil
}

// create writes valise.json. That another host was faster is no error.
func create(ctx context.Context, cfg Config) error {
	others, err := cfg.Bucket.List(ctx, "", "", 2)
	if err != nil {
		return fmt.Errorf("create profile: %w", err)
	}
	others.Objects = slices.DeleteFunc(others.Objects, func(o Object) bool { return o.Key == keyProbe }) // of a crash
	if len(others.Objects) > 0 {
		// They are the profile's if another host has just made it.
		page, err := cfg.Bucket.List(ctx, keyProfile, "", 1)
		if err != nil {
			return fmt.Errorf("create profile: %w", err)
		}
		if len(page.Objects) > 0 && page.Objects[0].Key == keyProfile {
			return nil
		}
		return fmt.Errorf("create profile: the prefix holds other objects (%s …): give each profile a prefix of its own", others.Objects[0].Key)
	}
	p := profile{ID: NewID(), BlockSize: BlockSize, Created: time.Now().UTC().Truncate(time.Second), SingleHost: cfg.SingleHost}
	if err := p.encrypted(ctx, cfg); err != nil {
		return fmt.Errorf("create profile: %w", err)
	}
	body, err := p.seal()
	if err != nil {
		return err
	}
	if err := cfg.Bucket.Create(ctx, keyProfile, body); err != nil && !errors.Is(err, ErrExist) {
		return fmt.Errorf("create profile: %w", err)
	}
	return nil
}

// probe finds out whether the store honours If-None-Match, by creating what is there:
// at worst that writes the same bytes again. Hosts that do it at once write the same
// note of the answer.
func (r *Repo) probe(ctx context.Context) error {
	body, err := r.profile.seal()
	if err != nil {
		return err
	}
	switch err := r.plain.Create(ctx, keyProfile, body); {
	case err == nil:
		return ErrNotConditional
	case !errors.Is(err, ErrExist):
		return err
	}
	// Its key may have been wrapped anew meanwhile.
	if body, err = r.plain.Get(ctx, keyProfile); err != nil {
		return err
	}
	if err := r.profile.unseal(body); err != nil {
		return err
	}
	r.profile.Conditional = true
	if body, err = r.profile.seal(); err != nil {
		return err
	}
	return r.plain.Put(ctx, keyProfile, body)
}

// Close frees what the Repo holds in memory.
func (r *Repo) Close() { r.coder.Close() }

// ID is the profile's own random name.
func (r *Repo) ID() string { return r.profile.ID }

// Coder is the profile's coder of blocks.
func (r *Repo) Coder() *Coder { return r.coder }

// Bucket is where the profile's content lies: with SSE-C one that has its key.
func (r *Repo) Bucket() Bucket { return r.bucket }

// list returns all keys with the prefix.
func (r *Repo) list(ctx context.Context, prefix Key) ([]Object, error) {
	objects, _, err := r.listAt(ctx, prefix)
	return objects, err
}

// listAt returns all keys with the prefix and the store's time when it began to answer.
func (r *Repo) listAt(ctx context.Context, prefix Key) (out []Object, now time.Time, err error) {
	after := Key("")
	for {
		page, err := r.bucket.List(ctx, prefix, after, 1000)
		if err != nil {
			return nil, time.Time{}, fmt.Errorf("list %s: %w", prefix, err)
		}
		if after == "" {
			now = page.Now
		}
		out = append(out, page.Objects...)
		if !page.More || len(page.Objects) == 0 {
			return slices.Clip(out), now, nil
		}
		after = page.Objects[len(page.Objects)-1].Key
	}
}

// get reads an object that a listing has shown. It is ErrNotExist only if another one
// does not show it any more.
func (r *Repo) get(ctx context.Context, key Key) ([]byte, error) { return get(ctx, r.bucket, key) }

func get(ctx context.Context, b Bucket, key Key) ([]byte, error) {
	data, err := b.Get(ctx, key)
	if !errors.Is(err, ErrNotExist) {
		return data, err
	}
	page, listErr := b.List(ctx, key, "", 1)
	switch {
	case listErr != nil:
		return nil, listErr
	case len(page.Objects) > 0 && page.Objects[0].Key == key:
		return nil, fmt.Errorf("get %s: %w: it is listed and not found", key, ErrUnavailable)
	}
	return nil, err
}

// createOnce creates an object whose body holds a nonce. It tells its own echo (the
// answer to an earlier try was lost) from somebody else's object: ErrExist.
func (r *Repo) createOnce(ctx context.Context, key Key, body []byte) error {
	err := r.bucket.Create(ctx, key, body)
	if !errors.Is(err, ErrExist) && !errors.Is(err, ErrUnavailable) {
		return err
	}
	there, getErr := r.bucket.Get(ctx, key)
	switch {
	case getErr == nil && string(there) == string(body):
		return nil
	case getErr == nil:
		return ErrExist
	case errors.Is(err, ErrExist):
		return fmt.Errorf("%s exists and cannot be read: %w", key, getErr)
	}
	return err
}

// retry is the wait for a listing to show what is known to be there.
type retry struct{ last time.Duration }

// wait waits, longer each time. Once it has waited for long enough the error is
// ErrUnavailable and says why.
func (w *retry) wait(ctx context.Context, why string) error {
	if w.last > 2*time.Second {
		return fmt.Errorf("%s: %w", why, ErrUnavailable)
	}
	w.last = max(100*time.Millisecond, 2*w.last)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(w.last):
		return nil
	}
}
