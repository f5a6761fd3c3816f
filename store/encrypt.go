package store

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
)

// EncryptionMode is how the content of a profile is kept on the store.
type EncryptionMode string

// The modes of encryption.
const (
	EncryptNone   EncryptionMode = ""
	EncryptClient EncryptionMode = "client" // before it is uploaded
	EncryptSSEC   EncryptionMode = "sse-c"  // by the store, with the key that each request brings
)

// Encryption says how a profile that is new is encrypted, and has the keys for those that
// are.
type Encryption struct {
	Mode EncryptionMode
	Keys MasterKeys
}

// Errors of opening an encrypted profile.
var (
	// ErrNoKey says that the master key is not among those that are given.
	ErrNoKey = errors.New("its master key is missing")
	// ErrWrongKey says that the master key of the profile's name has other bytes.
	ErrWrongKey = errors.New("the master key does not open the profile")
)

// CustomerKeyed is a Bucket that can have the store encrypt with a key of the caller's
// (SSE-C).
type CustomerKeyed interface {
	// WithCustomerKey returns the Bucket whose objects are encrypted with key.
	WithCustomerKey(key [32]byte) Bucket
}

// wrapped is a profile's data key as it stands in valise.json.
type wrapped struct {
	Mode EncryptionMode `json:"mode"`
	Name string         `json:"master_key"`
	Key  []byte         `json:"data_key"` // a nonce and the sealed key
}

// wrap seals a data key with the master key. It belongs to one profile and mode.
func (m MasterKey) wrap(id string, mode EncryptionMode, key [keySize]byte) *wrapped {
	s := newSealer(m.key())
	return &wrapped{Mode: mode, Name: m.Name, Key: s.seal(wrapContext(id, mode), key[:])}
}

func wrapContext(id string, mode EncryptionMode) string {
	return "data key\n" + id + "\n" + string(mode)
}

// unwrap returns the data key of the profile id.
func (w *wrapped) unwrap(id string, keys MasterKeys) (key [keySize]byte, err error) {
	if w.Mode != EncryptClient && w.Mode != EncryptSSEC {
		return key, fmt.Errorf("its encryption is %.20q, which this version of valise does not know", w.Mode)
	}
	master, ok := keys.find(w.Name)
	switch {
	case len(keys) == 0:
		return key, fmt.Errorf("it is encrypted, and %w: name the file that has the key %q by master_key_file", ErrNoKey, w.Name)
	case !ok:
		return key, fmt.Errorf("it is encrypted, and %w: add the key %q to the master key file", ErrNoKey, w.Name)
	}
	raw, err := newSealer(master.key()).open(wrapContext(id, w.Mode), w.Key)
	if err != nil || len(raw) != keySize {
		return key, fmt.Errorf("%w: the key %q of the master key file is another one than that it was encrypted with, or valise.json was changed", ErrWrongKey, w.Name)
	}
	copy(key[:], raw)
	return key, nil
}

// sealer encrypts and authenticates with AES-256-GCM. What is sealed begins with its
// random nonce. A sealer that is nil leaves everything as it is.
//
// A key seals 2^32 messages at most (NIST SP 800-38D, 8.3): with a random nonce of 96 bits
// two are then alike with a probability of 2^-33. A profile would have to store 2^32
// blocks for that.
type sealer struct{ aead cipher.AEAD }

const (
	nonceSize  = 12
	sealedMore = nonceSize + 16 // by so much grows what is sealed
)

func newSealer(key [keySize]byte) *sealer {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has a good size
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return &sealer{aead}
}

// seal encrypts plain for one place: what was sealed for another does not open there.
func (s *sealer) seal(place string, plain []byte) []byte {
	if s == nil {
		return plain
	}
	out := make([]byte, nonceSize, sealedMore+len(plain))
	_, _ = rand.Read(out) // it never fails
	return s.aead.Seal(out, out, plain, []byte(place))
}

// open returns what was sealed for the place. Anything else is ErrCorrupt.
func (s *sealer) open(place string, sealed []byte) ([]byte, error) {
	if s == nil {
		return sealed, nil
	}
	if len(sealed) < sealedMore {
		return nil, fmt.Errorf("%w: it is too short to be encrypted", ErrCorrupt)
	}
	plain, err := s.aead.Open(nil, sealed[:nonceSize], sealed[nonceSize:], []byte(place))
	if err != nil {
		return nil, fmt.Errorf("%w: it was not encrypted with the profile's key for this place", ErrCorrupt)
	}
	return plain, nil
}

// subkey is the profile's key for one purpose.
func subkey(key [keySize]byte, id, purpose string) (out [keySize]byte) {
	raw, err := hkdf.Key(sha256.New, key[:], nil, "valise "+purpose+" "+id, keySize)
	if err != nil {
		panic(err) // the sizes are good
	}
	copy(out[:], raw)
	return out
}

// unlock makes the repo read and write as its profile is encrypted.
func (r *Repo) unlock() error {
	w := r.profile.Encryption
	if w == nil {
		if r.encryption.Mode != EncryptNone {
			r.log.Warn("the profile was made without encryption and stays so", "profile", r.profile.ID)
		}
		return nil
	}
	key, err := w.unwrap(r.profile.ID, r.encryption.Keys)
	if err != nil {
		return err
	}
	if w.Mode == EncryptSSEC {
		keyed, err := withCustomerKey(r.plain, subkey(key, r.profile.ID, "sse-c"))
		r.bucket = bothBuckets{Bucket: keyed, plain: r.plain}
		return err
	}
	r.sealer = newSealer(subkey(key, r.profile.ID, "client"))
	r.coder.sealer = r.sealer
	return nil
}

// bothBuckets is the Bucket of a profile with SSE-C. Leases go without the key, as
// valise.json does: who purges a profile takes its lease and need not open it.
type bothBuckets struct {
	Bucket // with the customer key
	plain  Bucket
}

func (b bothBuckets) of(key Key) Bucket {
	if key == keyProfile || strings.HasPrefix(string(key), string(prefixLease)) {
		return b.plain
	}
	return b.Bucket
}

// Put implements Bucket.
func (b bothBuckets) Put(ctx context.Context, key Key, body []byte) error {
	return b.of(key).Put(ctx, key, body)
}

// Create implements Bucket.
func (b bothBuckets) Create(ctx context.Context, key Key, body []byte) error {
	return b.of(key).Create(ctx, key, body)
}

// Get implements Bucket.
func (b bothBuckets) Get(ctx context.Context, key Key) ([]byte, error) {
	return b.of(key).Get(ctx, key)
}

// GetRange implements Bucket.
func (b bothBuckets) GetRange(ctx context.Context, key Key, offset int64, p []byte) error {
	return b.of(key).GetRange(ctx, key, offset, p)
}

func withCustomerKey(b Bucket, key [keySize]byte) (Bucket, error) {
	if m, ok := b.(*Meter); ok {
		keyed, err := withCustomerKey(m.Bucket, key)
		return &Meter{Bucket: keyed, into: m}, err
	}
	k, ok := b.(CustomerKeyed)
	if !ok {
		return nil, fmt.Errorf("%w: use encryption = \"client\"", ErrSSECRefused)
	}
	return k.WithCustomerKey(key), nil
}

// encrypted gives a profile that is about to be made its data key, and makes sure that the
// store keeps what it has to.
func (p *profile) encrypted(ctx context.Context, cfg Config) error {
	e := cfg.Encryption
	if e.Mode == EncryptNone {
		return nil
	}
	if len(e.Keys) == 0 {
		return fmt.Errorf("encryption = %q: %w: name a file by master_key_file", e.Mode, ErrNoKey)
	}
	var key [keySize]byte
	_, _ = rand.Read(key[:]) // it never fails
	p.Encryption = e.Keys[0].wrap(p.ID, e.Mode, key)
	switch e.Mode {
	case EncryptClient:
		return nil
	case EncryptSSEC:
		return probeSSEC(ctx, cfg.Bucket, subkey(key, p.ID, "sse-c"))
	}
	return fmt.Errorf("encryption %q is none of client, sse-c", e.Mode)
}

// keyProbe is an object that is there for a moment, before a profile is made.
const keyProbe Key = "valise.probe"

// probeSSEC has the store keep and return an object with a customer key.
func probeSSEC(ctx context.Context, b Bucket, key [keySize]byte) error {
	keyed, err := withCustomerKey(b, key)
	if err != nil {
		return err
	}
	err = keyed.Put(ctx, keyProbe, []byte("probe"))
	var got []byte
	if err == nil {
		if got, err = keyed.Get(ctx, keyProbe); err == nil && string(got) != "probe" {
			err = ErrSSECRefused
		}
	}
	if errors.Is(err, ErrSSECRefused) {
		err = fmt.Errorf("%w: use encryption = \"client\"", err)
	}
	// A store that ignores the key has kept the object all the same.
	return errors.Join(err, b.Delete(ctx, keyProbe))
}

// Rekey wraps a profile's data key anew with the first of the master keys, and reports
// whether it was wrapped with another one. It rewrites valise.json and nothing else. The
// former key must stay in the file until Rekey has found nothing to do: a host that makes
// the first mount of a new profile in the same moment (see probe) may undo it.
func Rekey(ctx context.Context, cfg Config) (changed bool, err error) {
	r, err := Open(ctx, cfg)
	if err != nil {
		return false, err
	}
	defer r.Close()
	w := r.profile.Encryption
	if w == nil || w.Name == cfg.Encryption.Keys[0].Name {
		return false, nil
	}
	key, err := w.unwrap(r.profile.ID, cfg.Encryption.Keys)
	if err != nil {
		return false, err
	}
	r.profile.Encryption = cfg.Encryption.Keys[0].wrap(r.profile.ID, w.Mode, key)
	body, err := r.profile.seal()
	if err != nil {
		return false, err
	}
	if err := r.plain.Put(ctx, keyProfile, body); err != nil {
		return false, fmt.Errorf("rekey: %w", err)
	}
	return true, nil
}
