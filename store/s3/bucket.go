package s3

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"valise/store"
)

// deletions is how many objects a Delete removes at once. It does so one by one: the
// bulk request's checksum is where stores differ most.
const deletions = 16

// Bucket is the part of an S3 bucket below a prefix.
type Bucket struct {
	party
	client      *s3.Client
	http        *http.Client
	credentials *renewer
	log         *slog.Logger
	endpoint    string
	prefix      string
	checksum    bool // requests carry one
	fixed       bool // the endpoint is of one region
	region      atomic.Pointer[string]
}

var _ store.Bucket = (*Bucket)(nil)

// New returns the Bucket of c. It sends a request only to find out the region of an
// AWS bucket, if nothing else tells it.
func New(ctx context.Context, c Config) (*Bucket, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	ac, err := c.load(ctx)
	if err != nil {
		return nil, err
	}
	base, ok := ac.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		return nil, fmt.Errorf("the SDK's HTTP client is a %T", ac.HTTPClient)
	}
	client, err := c.httpClient(base)
	if err != nil {
		return nil, err
	}
	kind := store.ErrDenied
	if c.AccessKeyID == IAM {
		kind = store.ErrUnavailable // it is a service that is away or has no role yet
	}
	if c.Role != nil {
		if ac.Credentials, err = c.assume(ac, client); err != nil {
			return nil, err
		}
	}
	from := &renewer{source: source{ac.Credentials, kind}}
	ac.Credentials = from
	ac.HTTPClient = client
	b := &Bucket{
		party: party{
			where:  cmp.Or(strings.TrimPrefix(c.Location.Endpoint, "https://"), "AWS S3"),
			bucket: c.Location.Bucket,
		},
		client:      s3.NewFromConfig(ac, c.options),
		http:        client,
		credentials: from,
		log:         c.Log,
		endpoint:    c.Location.Endpoint,
		prefix:      c.Location.Prefix,
	}
	b.checksum = b.client.Options().RequestChecksumCalculation != aws.RequestChecksumCalculationWhenRequired
	if err := b.findRegion(ctx, ac.Region); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// Close frees the idle connections. Calls under way go on.
func (b *Bucket) Close() { b.http.CloseIdleConnections() }

// do makes a request in the bucket's region, and once more if the answer says that it
// is in another, or that the credentials have ended and there are others.
func (b *Bucket) do(ctx context.Context, op string, key store.Key, call func(region func(*s3.Options)) error) error {
	region, used := *b.region.Load(), ""
	in := func(o *s3.Options) {
		o.Region = region
		o.Credentials = aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
			c, err := b.credentials.Retrieve(ctx)
			used = c.AccessKeyID
			return c, err
		})
	}
	err := call(in)
	if isEnded(err) {
		others, none := b.credentials.others(ctx, used)
		if none != nil {
			err = none
		} else if others {
			err = call(in)
		}
	}
	if err == nil {
		return nil
	}
	to, wrong := b.move(err, region)
	if wrong != nil {
		return fmt.Errorf("%s %s: %w", op, key, wrong)
	}
	if to != region {
		region = to
		if err = call(in); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s %s: %w", op, key, b.explain(ctx, err))
}

func (b *Bucket) key(k store.Key) *string { return aws.String(b.prefix + string(k)) }

// anew is the condition of a Create.
var anew = aws.String("*")

// Put implements store.Bucket. It refuses what Get would.
func (b *Bucket) Put(ctx context.Context, key store.Key, body []byte) error {
	return b.put(ctx, "put", key, body, nil, nil)
}

// Create implements store.Bucket. It refuses what Get would.
func (b *Bucket) Create(ctx context.Context, key store.Key, body []byte) error {
	return b.put(ctx, "create", key, body, anew, nil)
}

func (b *Bucket) put(ctx context.Context, op string, key store.Key, body []byte, ifNoneMatch *string, own *customerKey) error {
	if len(body) > store.MaxObject {
		return fmt.Errorf("%s %s: %d bytes are more than an object may have", op, key, len(body))
	}
	return b.do(ctx, op, key, func(region func(*s3.Options)) error {
		in := &s3.PutObjectInput{
			Bucket: &b.bucket, Key: b.key(key), Body: bytes.NewReader(body),
			ContentLength: aws.Int64(int64(len(body))), IfNoneMatch: ifNoneMatch,
		}
		if b.checksum {
			// Given as a header: the SDK's own would be a trailer of an encoding
			// that not every store reads.
			in.ChecksumCRC32 = aws.String(checksum(body))
		}
		in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = own.headers()
		out, err := b.client.PutObject(ctx, in, region)
		if err == nil && !own.took(out.SSECustomerAlgorithm, out.SSECustomerKeyMD5) {
			err = &ignored{"stored the object without it"}
		}
		return err
	})
}

func checksum(body []byte) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(body)))
}

// Delete implements store.Bucket.
func (b *Bucket) Delete(ctx context.Context, keys ...store.Key) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var next atomic.Int64
	var workers sync.WaitGroup
	var once sync.Once
	var first error
	for range min(deletions, len(keys)) {
		workers.Go(func() {
			for i := next.Add(1); i <= int64(len(keys)); i = next.Add(1) {
				if err := b.delete(ctx, keys[i-1]); err != nil {
					once.Do(func() { first = err })
					stop() // the rest fails without a request
				}
			}
		})
	}
	workers.Wait()
	return first
}

func (b *Bucket) delete(ctx context.Context, key store.Key) error {
	err := b.do(ctx, "delete", key, func(region func(*s3.Options)) error {
		_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.bucket, Key: b.key(key)}, region)
		return err
	})
	if errors.Is(err, store.ErrNotExist) {
		return nil
	}
	return err
}

// List implements store.Bucket. It refuses an answer that is not in order.
func (b *Bucket) List(ctx context.Context, prefix, after store.Key, limit int) (store.Listing, error) {
	if limit < 1 || limit > 1000 {
		return store.Listing{}, fmt.Errorf("list %s: limit %d is not 1 to 1000", prefix, limit)
	}
	in := &s3.ListObjectsV2Input{Bucket: &b.bucket, Prefix: b.key(prefix), MaxKeys: aws.Int32(int32(limit))}
	if after != "" {
		in.StartAfter = b.key(after)
	}
	out, err := b.page(ctx, prefix, in)
	if err != nil {
		return store.Listing{}, err
	}
	l, err := b.listing(out, prefix, after)
	if err != nil {
		return store.Listing{}, fmt.Errorf("list %s: %w", prefix, err)
	}
	return l, nil
}

// page asks for a page of a listing; errors call it that of prefix.
func (b *Bucket) page(ctx context.Context, prefix store.Key, in *s3.ListObjectsV2Input) (out *s3.ListObjectsV2Output, err error) {
	err = b.do(ctx, "list", prefix, func(region func(*s3.Options)) (err error) {
		out, err = b.client.ListObjectsV2(ctx, in, region)
		return err
	})
	return out, err
}

func (b *Bucket) listing(out *s3.ListObjectsV2Output, prefix, after store.Key) (store.Listing, error) {
	l := store.Listing{More: aws.ToBool(out.IsTruncated), Objects: make([]store.Object, 0, len(out.Contents))}
	last := after
	for _, o := range out.Contents {
		name, below := strings.CutPrefix(aws.ToString(o.Key), b.prefix)
		key := store.Key(name)
		if !below || !strings.HasPrefix(name, string(prefix)) || (key <= last && last != "") {
			return l, fmt.Errorf("%s answers with key %q, which is not below the prefix or not after %q", b.where, aws.ToString(o.Key), last)
		}
		l.Objects = append(l.Objects, store.Object{
			Key: key, Size: aws.ToInt64(o.Size), Modified: aws.ToTime(o.LastModified).UTC(),
		})
		last = key
	}
	if l.More && len(l.Objects) == 0 {
		return l, fmt.Errorf("%s says that there are more keys, but lists none", b.where)
	}
	now, ok := awsmiddleware.GetServerTime(out.ResultMetadata)
	if !ok {
		return l, fmt.Errorf("%s does not tell the time (a Date header)", b.where)
	}
	l.Now = now.UTC()
	return l, nil
}
