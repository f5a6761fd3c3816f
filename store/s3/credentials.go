package s3

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"
)

// betweenRenewals is how long credentials that a store refuses are at least kept: a
// store that refuses all must not make each request ask for others.
const betweenRenewals = 10 * time.Second

// source marks its errors, which the SDK puts under those of the request.
type source struct {
	next aws.CredentialsProvider
	kind error // of its errors, unless they say it
}

func (s source) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := s.next.Retrieve(ctx)
	var none *noCredentials
	if err != nil && !errors.As(err, &none) {
		err = &noCredentials{kind: s.kind, cause: err}
	}
	return c, err
}

// renewer gets other credentials when the store does not take those it has any more,
// whatever their own time says.
type renewer struct {
	source
	mu   sync.Mutex
	last time.Time // when it did
}

// others tells whether Retrieve gives, now, others than the refused ones. An error says
// why there are none.
func (r *renewer) others(ctx context.Context, refused string) (bool, error) {
	cache, ok := r.next.(interface{ Invalidate() })
	if !ok {
		return false, nil
	}
	c, err := r.Retrieve(ctx)
	if err != nil || c.AccessKeyID != refused {
		return err == nil, err // another request's refusal came first
	}
	r.mu.Lock()
	if now := time.Now(); now.Sub(r.last) >= betweenRenewals {
		r.last = now
		cache.Invalidate()
	}
	r.mu.Unlock()
	c, err = r.Retrieve(ctx)
	return err == nil && c.AccessKeyID != refused, err
}

// isEnded: the store takes these credentials no more, if it ever did. One that drops
// them at their end, as MinIO, does not know the access key then.
func isEnded(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode() {
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "InvalidTokenId", "InvalidAccessKeyId":
		return true
	}
	return false
}
