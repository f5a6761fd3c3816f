package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"valise/store"
)

// assume makes the credentials of c.Role out of those of ac.
func (c Config) assume(ac aws.Config, client *http.Client) (*session, error) {
	region, err := c.Role.region(ac.Region)
	if err != nil {
		return nil, err
	}
	policy, err := sessionPolicy(c.Location, c.Role.partition())
	if err != nil {
		return nil, err
	}
	ac.HTTPClient = client
	ac.Credentials = source{next: ac.Credentials, kind: store.ErrDenied}
	from := sts.NewFromConfig(ac, func(o *sts.Options) {
		o.Region = region
		o.BaseEndpoint = nil // nothing but the configuration says where the STS is
		if c.Role.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.Role.Endpoint)
			o.EndpointOptions.UseDualStackEndpoint = aws.DualStackEndpointStateDisabled
			o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateDisabled
		}
		o.Retryer = c.retryer()
		o.RetryMaxAttempts = 0
		o.ClientLogMode = aws.LogRetries
	})
	p := party{where: "STS at " + cmp.Or(c.Role.Endpoint, "AWS in "+region)}
	in := &sts.AssumeRoleInput{
		RoleArn:         aws.String(c.Role.ARN),
		RoleSessionName: aws.String(sessionName(c.Location)),
		DurationSeconds: aws.Int32(int32(c.Role.Duration / time.Second)),
		Policy:          &policy,
	}
	return &session{log: c.Log, assume: func(ctx context.Context) (aws.Credentials, time.Duration, error) {
		out, err := from.AssumeRole(ctx, in)
		if err != nil {
			return aws.Credentials{}, 0, c.Role.failed(p.explain(ctx, err))
		}
		got, life, err := read(out)
		if err != nil {
			return got, life, c.Role.failed(fmt.Errorf("%s %w", p.where, err))
		}
		return got, life, nil
	}}, nil
}

// failed names the role. The attempts were counted, so the request that needs the
// credentials makes no more of them.
func (r Role) failed(err error) error {
	var kind error
	var f *failure
	if errors.As(err, &f) {
		inner := *f
		kind, inner.kind = f.kind, nil
		err = &inner
	}
	return &noCredentials{kind: kind, cause: fmt.Errorf("assume role %s: %w", r.ARN, err), final: true}
}

// read is the credentials and how long they last. The STS's clock says both when it
// answered and when they end, so that this host's need not be right.
func read(out *sts.AssumeRoleOutput) (c aws.Credentials, life time.Duration, err error) {
	got := out.Credentials
	if got == nil || aws.ToString(got.AccessKeyId) == "" || aws.ToString(got.SecretAccessKey) == "" ||
		aws.ToString(got.SessionToken) == "" || got.Expiration == nil {
		return c, 0, errors.New("answers without whole credentials")
	}
	now, ok := awsmiddleware.GetServerTime(out.ResultMetadata)
	if !ok {
		now = time.Now()
	}
	// The time of an answer is cut to the second.
	if life = got.Expiration.Sub(now.Add(time.Second)); life <= 0 {
		return c, 0, fmt.Errorf("answers with credentials that end at once, at %s", got.Expiration.UTC().Format(time.RFC3339))
	}
	return aws.Credentials{
		AccessKeyID: *got.AccessKeyId, SecretAccessKey: *got.SecretAccessKey, SessionToken: *got.SessionToken,
		Source: "valise's role",
	}, life, nil
}

// session has the credentials of a role. It renews them in the background when most of
// their life is over, and as often as need be: nothing waits while they last. Nothing
// runs when nobody asks, and a renewal ends by itself.
type session struct {
	assume func(ctx context.Context) (c aws.Credentials, life time.Duration, err error)
	log    *slog.Logger

	mu      sync.Mutex
	have    aws.Credentials
	life    time.Duration
	ends    time.Time // of have
	renew   time.Time // when to ask for others
	renewal *renewal  // the one under way, nil if none is
}

// renewal ends with done closed and the rest set.
type renewal struct {
	done chan struct{}
	got  aws.Credentials
	err  error
}

// Retrieve implements aws.CredentialsProvider.
func (s *session) Retrieve(ctx context.Context) (aws.Credentials, error) {
	s.mu.Lock()
	now := time.Now()
	last, have := now.Before(s.ends), s.have
	if last && now.Before(s.renew) {
		s.mu.Unlock()
		return have, nil
	}
	if s.renewal == nil {
		s.renewal = &renewal{done: make(chan struct{})}
		go s.ask(s.renewal) // for all who wait, so it does not end with one of them
	}
	r := s.renewal
	s.mu.Unlock()
	if last {
		return have, nil
	}
	select {
	case <-r.done:
		return r.got, r.err
	case <-ctx.Done():
		return aws.Credentials{}, &aws.RequestCanceledError{Err: ctx.Err()}
	}
}

// Invalidate has the next Retrieve wait for other credentials.
func (s *session) Invalidate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends = time.Time{}
}

func (s *session) ask(r *renewal) {
	began := time.Now() // the credentials' life is counted from before the request
	got, life, err := s.assume(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	switch {
	case err == nil:
		s.have, s.life, s.ends = got, life, began.Add(life)
		// Mounts of one moment do not all ask at one moment again.
		s.renew = began.Add(part(life, 0.60, 0.75))
	case now.Before(s.ends):
		s.renew = now.Add(part(s.life, 0.01, 0.02))
		s.log.Warn("the role's credentials are not renewed: the last ones go on until they end",
			"end", s.ends.Round(time.Second), "again", s.renew.Sub(now), "error", err)
	}
	r.got, r.err = got, err
	s.renewal = nil
	close(r.done)
}

func part(d time.Duration, from, to float64) time.Duration {
	return time.Duration(float64(d) * (from + rand.Float64()*(to-from)))
}
