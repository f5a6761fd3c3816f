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

	// Now is a clock that goes on while the machine is suspended; New takes one.
	Now func() time.Duration
}

// Repo is an open profile.
type Repo struct {
	bucket  Bucket
	log     *slog.Logger
	now     func() time.Duration
	coder   *Coder
	profile profile
}

// profile is the body of valise.json.
type profile struct {
	ID         string    `json:"id"`
	BlockSize  int       `json:"block_size"`
	Created    time.Time `json:"created"`
	SingleHost bool      `json:"single_host,omitempty"`
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
	data, err := cfg.Bucket.Get(ctx, keyProfile)
	if err != nil {
		return nil, r.absent(ctx, err)
	}
	return r, r.read(data)
}

// OpenOrCreate returns the profile in the bucket; where there is none, it makes an
// empty one, if nothing else lies there, and probes the store.
func OpenOrCreate(ctx context.Context, cfg Config) (*Repo, error) {
	r, err := Open(ctx, cfg)
	if !errors.Is(err, ErrNoProfile) {
		return r, err
	}
	if r, err = newRepo(cfg); err != nil {
		return nil, err
	}
	others, err := cfg.Bucket.List(ctx, "", "", 1)
	if err != nil {
		return nil, err
	}
	if len(others.Objects) > 0 {
		// Another host may just have made it.
		if r, err := Open(ctx, cfg); !errors.Is(err, ErrNoProfile) {
			return r, err
		}
		return nil, fmt.Errorf("create profile: the prefix holds other objects (%s …): give each profile a prefix of its own", others.Objects[0].Key)
	}
	return r, r.create(ctx, cfg.SingleHost)
}

func newRepo(cfg Config) (*Repo, error) {
	coder, err := NewCoder(runtime.GOMAXPROCS(0))
	if err != nil {
		return nil, err
	}
	r := &Repo{bucket: cfg.Bucket, log: cfg.Log, now: cfg.Now, coder: coder}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = bootTime
	}
	return r, nil
}

// absent tells whether a Get of valise.json failed because there is none. A listing
// decides: a store may answer 403 or 404 for other reasons.
func (r *Repo) absent(ctx context.Context, err error) error {
	if !errors.Is(err, ErrNotExist) && !errors.Is(err, ErrDenied) {
		return fmt.Errorf("open profile: %w", err)
	}
	page, listErr := r.bucket.List(ctx, keyProfile, "", 1)
	switch {
	case listErr != nil:
		return fmt.Errorf("open profile: %w", errors.Join(err, listErr))
	case len(page.Objects) > 0 && page.Objects[0].Key == keyProfile:
		return fmt.Errorf("open profile: %s is there and cannot be read: %w", keyProfile, err)
	}
	return ErrNoProfile
}

func (r *Repo) read(data []byte) error {
	if err := unseal(keyProfile, formatProfile, data, &r.profile); err != nil {
		return fmt.Errorf("open profile: %w", err)
	}
	if r.profile.BlockSize != BlockSize {
		return fmt.Errorf("open profile: %w: block size %d, want %d", ErrCorrupt, r.profile.BlockSize, BlockSize)
	}
	return nil
}

// create writes valise.json. Writing it twice is the probe for conditional writes.
func (r *Repo) create(ctx context.Context, singleHost bool) error {
	p := profile{ID: NewID(), BlockSize: BlockSize, Created: time.Now().UTC().Truncate(time.Second), SingleHost: singleHost}
	body, err := seal(formatProfile, p)
	if err != nil {
		return err
	}
	err = r.bucket.Create(ctx, keyProfile, body)
	if err == nil {
		err = r.bucket.Create(ctx, keyProfile, body)
		if err == nil && !singleHost {
			return fmt.Errorf("create profile: %w", errors.Join(ErrNotConditional, r.bucket.Delete(ctx, keyProfile)))
		}
	}
	if err != nil && !errors.Is(err, ErrExist) {
		return fmt.Errorf("create profile: %w", err)
	}
	data, err := r.bucket.Get(ctx, keyProfile)
	if err != nil {
		return fmt.Errorf("create profile: read it back: %w", err)
	}
	return r.read(data)
}

// Close frees what the Repo holds in memory.
func (r *Repo) Close() { r.coder.Close() }

// ID is the profile's own random name.
func (r *Repo) ID() string { return r.profile.ID }

// Coder is the profile's coder of blocks.
func (r *Repo) Coder() *Coder { return r.coder }

// Bucket is where the profile lies.
func (r *Repo) Bucket() Bucket { return r.bucket }

// list returns all keys with the prefix.
func (r *Repo) list(ctx context.Context, prefix Key) ([]Object, error) {
	var out []Object
	after := Key("")
	for {
		page, err := r.bucket.List(ctx, prefix, after, 1000)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", prefix, err)
		}
		out = append(out, page.Objects...)
		if !page.More || len(page.Objects) == 0 {
			return slices.Clip(out), nil
		}
		after = page.Objects[len(page.Objects)-1].Key
	}
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
