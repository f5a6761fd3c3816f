package s3

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"

	"valise/store"
)

// encrypted is a Bucket whose objects the store encrypts with a key of the customer's,
// which each request about their content brings along and the store forgets (SSE-C).
type encrypted struct {
	*Bucket
	own *customerKey
}

var _ store.Bucket = (*encrypted)(nil)

// WithCustomerKey returns a Bucket at the same place, through the same connections, that
// has the store encrypt and decrypt objects with key. Objects that b put are none that
// it reads, nor the other way round; both list and delete all. A store that does not
// take the key gives store.ErrSSECRefused, and so does one that is reached without TLS,
// to which no key is sent.
func (b *Bucket) WithCustomerKey(key [32]byte) store.Bucket {
	sum := md5.Sum(key[:])
	return &encrypted{b, &customerKey{
		key: base64.StdEncoding.EncodeToString(key[:]),
		sum: base64.StdEncoding.EncodeToString(sum[:]),
	}}
}

// customerKey is never printed, and package fmt reads it nowhere: it is behind pointers.
type customerKey struct {
	key, sum string // as the headers have them
}

const customerAlgorithm = "AES256"

// headers are the key's; those of no key are none.
func (k *customerKey) headers() (algorithm, key, sum *string) {
	if k == nil {
		return nil, nil, nil
	}
	return aws.String(customerAlgorithm), &k.key, &k.sum
}

// took: the answer says that the key was used. There are stores that do not know the
// headers and store what was to be encrypted as it is.
func (k *customerKey) took(algorithm, sum *string) bool {
	return k == nil || aws.ToString(algorithm) == customerAlgorithm && aws.ToString(sum) == k.sum
}

// ignored is the answer of a store that knows nothing of customer keys.
type ignored struct{ did string }

func (e *ignored) Error() string        { return "ignores the key and " + e.did }
func (e *ignored) RetryableError() bool { return false }

// Put implements store.Bucket.
func (e *encrypted) Put(ctx context.Context, key store.Key, body []byte) error {
	return e.with("put", key, func() error { return e.put(ctx, "put", key, body, nil, e.own) })
}

// Create implements store.Bucket.
func (e *encrypted) Create(ctx context.Context, key store.Key, body []byte) error {
	return e.with("create", key, func() error { return e.put(ctx, "create", key, body, anew, e.own) })
}

// Get implements store.Bucket.
func (e *encrypted) Get(ctx context.Context, key store.Key) (body []byte, err error) {
	err = e.with("get", key, func() (err error) {
		body, err = e.get(ctx, key, e.own)
		return err
	})
	return body, err
}

// GetRange implements store.Bucket.
func (e *encrypted) GetRange(ctx context.Context, key store.Key, offset int64, p []byte) error {
	return e.with("get", key, func() error { return e.getRange(ctx, key, offset, p, e.own) })
}

// Format implements fmt.Formatter: nothing of a key.
func (e *encrypted) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "%s/%s with a customer key", e.Bucket.bucket, e.prefix)
}

// with makes a request with the key, and says what it is about a key that it failed.
func (e *encrypted) with(op string, key store.Key, call func() error) error {
	if strings.HasPrefix(e.endpoint, "http://") {
		return fmt.Errorf("%s %s: %w", op, key, &failure{kind: store.ErrSSECRefused,
			text: e.where + " has no TLS, without which a key would go in the clear: it takes an endpoint without http://"})
	}
	err := call()
	if err == nil {
		return nil
	}
	kinds, about := e.about(op == "get", err)
	text := strings.ReplaceAll(err.Error(), e.own.key, "(the customer key)")
	if about != "" {
		text += ": " + about
	}
	if text == err.Error() && len(kinds) == 0 {
		return err
	}
	return &keyFailure{text: text, kinds: kinds, cause: err}
}

// about is what err has to do with the key, "" for nothing.
func (e *encrypted) about(get bool, err error) (kinds []error, text string) {
	var api smithy.APIError
	var none *noCredentials
	status := statusOf(err)
	if errors.As(err, &none) || status < 400 {
		return nil, ""
	}
	code, message := "", ""
	if errors.As(err, &api) {
		code, message = api.ErrorCode(), strings.ToLower(api.ErrorMessage())
	}
	says := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(message, w) })
	}
	denied := status == http.StatusForbidden && (code == "AccessDenied" || code == "" || code == "Forbidden")
	misuse := status == http.StatusBadRequest && (code == "InvalidRequest" || code == "InvalidArgument")
	switch {
	case misuse && says("this object", "stored using", "did not match"): // some look at it for a Create too
		return []error{store.ErrDenied}, "the customer key does not fit this object"
	case status == http.StatusNotImplemented,
		misuse && says("encrypt", "sse-c"),
		!get && denied && says("sse-c", "customer-provided", "customer provided"):
		return []error{store.ErrSSECRefused}, store.ErrSSECRefused.Error()
	case !denied || says("not authorized to perform") && says("policy"): // it says which right
		return nil, ""
	case get:
		return nil, "the customer key does not fit this object, or the credentials lack the right"
	}
	// AWS says no more than this of a bucket that blocks them, as new ones do.
	return []error{store.ErrSSECRefused}, "the credentials lack the right, or the bucket blocks " +
		"customer-provided keys (its BlockedEncryptionTypes has SSE-C)"
}

// keyFailure is an error of a request with a customer key, which its text does not have.
type keyFailure struct {
	text  string
	kinds []error // beside those of cause
	cause error
}

func (f *keyFailure) Error() string   { return f.text }
func (f *keyFailure) Unwrap() []error { return append([]error{f.cause}, f.kinds...) }
