package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
)

// IAM as Config.AccessKeyID takes the credentials of the EC2 instance's role.
const IAM = "{IAM}"

// Config says where a Bucket is and how to reach it. Only Location must be set.
type Config struct {
	Location Location

	// Region is that of an AWS bucket whose endpoint does not name one; if both are
	// empty it is AWS_REGION, the shared config file's, or what the bucket says. On
	// other stores it is what requests are signed for, us-east-1 by default.
	Region string

	// AccessKeyID and its secret; IAM for the instance's role by IMDSv2; empty for
	// what the environment, the shared files and the rest of the AWS chain give.
	AccessKeyID, SecretAccessKey, SessionToken string

	// Role is assumed for each Bucket, with a session policy that allows no more than
	// the Location's prefix; nil is none. It does not go with IAM.
	Role *Role

	// RequestChecksumCalculation and ResponseChecksumValidation are "when_supported"
	// or "when_required"; empty is what AWS_REQUEST_CHECKSUM_CALCULATION and
	// AWS_RESPONSE_CHECKSUM_VALIDATION say, else when_supported.
	RequestChecksumCalculation, ResponseChecksumValidation string

	// CAFile is a PEM file of the only authorities that the store's certificate may
	// be from; empty is AWS_CA_BUNDLE, else the host's.
	CAFile string

	// MaxAttempts is how often a request is sent at most; 0 is 6.
	MaxAttempts int
	// Backoff is the longest wait before the second attempt, doubled for each one
	// after it up to 10 s; 0 is 250 ms. The wait is a random part of it.
	Backoff time.Duration
	// Stall ends an attempt in which no byte moved for so long; 0 is 30 s.
	Stall time.Duration

	// Log gets retries at debug level, and at warn a Role whose credentials are not
	// renewed in time; nil is none.
	Log *slog.Logger

	dial func(ctx context.Context, network, address string) (net.Conn, error) // tests only
}

const maxBackoff = 10 * time.Second

func (c Config) withDefaults() (Config, error) {
	c.MaxAttempts = cmp.Or(c.MaxAttempts, 6)
	c.Backoff = cmp.Or(c.Backoff, 250*time.Millisecond)
	c.Stall = cmp.Or(c.Stall, 30*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	// Who makes a Location by hand is held to the same rules.
	if l, err := ParseURL(c.Location.String()); err != nil || l != c.Location {
		return c, cmp.Or(err, fmt.Errorf("location %s is not in its canonical form", c.Location))
	}
	secret := c.SecretAccessKey != ""
	switch {
	case c.AccessKeyID == IAM && (secret || c.SessionToken != ""):
		return c, errors.New("access key " + IAM + " goes without a secret")
	case c.AccessKeyID == "" && (secret || c.SessionToken != ""):
		return c, errors.New("there is a secret access key but no access key ID")
	case c.AccessKeyID != "" && c.AccessKeyID != IAM && !secret:
		return c, errors.New("there is an access key ID but no secret access key")
	case c.AccessKeyID == IAM && c.Role != nil:
		return c, errors.New("access key " + IAM + " is a role's already and goes without another: with it sts must be false")
	}
	if c.Role != nil {
		role, err := c.Role.withDefaults(c.Location)
		if err != nil {
			return c, err
		}
		c.Role = &role
	}
	return c, nil
}

// load gathers what the environment and the shared files say, and c above it.
func (c Config) load(ctx context.Context) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(awshttp.NewBuildableClient()),
		config.WithLogger(debugLogger{c.Log}),
	}
	if c.AccessKeyID != "" && c.AccessKeyID != IAM {
		options = append(options, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken)))
	}
	ac, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return ac, fmt.Errorf("load the AWS configuration: %w", err)
	}
	if c.AccessKeyID == IAM {
		role := ec2rolecreds.New(func(o *ec2rolecreds.Options) {
			o.Client = imds.NewFromConfig(ac, func(o *imds.Options) { o.EnableFallback = aws.FalseTernary })
		})
		// There are new ones five minutes before the last ones end.
		ac.Credentials = aws.NewCredentialsCache(role, func(o *aws.CredentialsCacheOptions) {
			o.ExpiryWindow, o.ExpiryWindowJitterFrac = 5*time.Minute, 0.5
		})
	}
	ac.Region = cmp.Or(c.Region, ac.Region)

	switch strings.ToLower(c.RequestChecksumCalculation) {
	case "":
	case "when_supported":
		ac.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenSupported
	case "when_required":
		ac.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	default:
		return ac, fmt.Errorf("request checksum calculation %q is neither when_supported nor when_required", c.RequestChecksumCalculation)
	}
	switch strings.ToLower(c.ResponseChecksumValidation) {
	case "":
	case "when_supported":
		ac.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenSupported
	case "when_required":
		ac.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	default:
		return ac, fmt.Errorf("response checksum validation %q is neither when_supported nor when_required", c.ResponseChecksumValidation)
	}
	return ac, nil
}

// options are those of the client for c, whose region the Bucket sets at each call.
func (c Config) options(o *s3.Options) {
	o.BaseEndpoint = nil // nothing but the URL says where the bucket is
	host, aws3 := amazonHost(c.Location.Endpoint)
	switch {
	case host.accelerate:
		o.UseAccelerate = true
		o.EndpointOptions.UseDualStackEndpoint = dualstack(host.dualstack)
	case aws3 && host.region == "":
	default:
		o.BaseEndpoint = aws.String(c.Location.Endpoint)
		o.EndpointOptions.UseDualStackEndpoint = aws.DualStackEndpointStateDisabled
		o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateDisabled
		o.UsePathStyle = !aws3
	}
	o.Retryer = c.retryer()
	o.RetryMaxAttempts = 0 // AWS_MAX_ATTEMPTS would wrap the Retryer
	o.ClientLogMode = aws.LogRetries
	o.DisableLogOutputChecksumValidationSkipped = true
	// Bodies are small, and waiting for the 100 costs each of them a round trip.
	o.ContinueHeaderThresholdBytes = -1
}

func dualstack(on bool) aws.DualStackEndpointState {
	if on {
		return aws.DualStackEndpointStateEnabled
	}
	return aws.DualStackEndpointStateDisabled
}

func (c Config) retryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = c.MaxAttempts
		o.RateLimiter = ratelimit.None
		o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(retryable)}, o.Retryables...)
		o.Backoff = retry.BackoffDelayerFunc(func(attempt int, err error) (time.Duration, error) {
			longest := min(c.Backoff<<min(attempt-1, 16), maxBackoff)
			return rand.N(longest) + 1, nil
		})
	})
}

// debugLogger is what the SDK logs to.
type debugLogger struct{ log *slog.Logger }

func (l debugLogger) Logf(_ logging.Classification, format string, v ...any) {
	l.log.Debug("s3 client", "message", fmt.Sprintf(format, v...))
}
