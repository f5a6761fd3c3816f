package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"valise/store"
)

// Get implements store.Bucket.
func (b *Bucket) Get(ctx context.Context, key store.Key) ([]byte, error) {
	return b.get(ctx, key, nil)
}

func (b *Bucket) get(ctx context.Context, key store.Key, own *customerKey) ([]byte, error) {
	var body []byte
	err := b.do(ctx, "get", key, func(region func(*s3.Options)) error {
		in := &s3.GetObjectInput{Bucket: &b.bucket, Key: b.key(key)}
		in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = own.headers()
		_, err := b.client.GetObject(ctx, in, region, receive(func(out *s3.GetObjectOutput, _ int) (err error) {
			if !own.took(out.SSECustomerAlgorithm, out.SSECustomerKeyMD5) {
				return &ignored{"has the object without it"}
			}
			body, err = readObject(out, body)
			return err
		}))
		return err
	})
	if err != nil {
		return nil, err
	}
	return body, nil
}

// readObject reads the whole of it into buf if that is large enough.
func readObject(out *s3.GetObjectOutput, buf []byte) ([]byte, error) {
	if out.ContentLength == nil || *out.ContentLength < 0 {
		return nil, &wrongAnswer{"the store does not announce the object's length"}
	}
	n := *out.ContentLength
	if n > store.MaxObject {
		return nil, &wrongAnswer{fmt.Sprintf("the object has %d bytes, more than one may have", n)}
	}
	if int64(cap(buf)) < n || buf == nil {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	return buf, fill(out.Body, buf)
}

// GetRange implements store.Bucket.
func (b *Bucket) GetRange(ctx context.Context, key store.Key, offset int64, p []byte) error {
	return b.getRange(ctx, key, offset, p, nil)
}

func (b *Bucket) getRange(ctx context.Context, key store.Key, offset int64, p []byte, own *customerKey) error {
	if offset < 0 {
		return fmt.Errorf("get %s: offset %d", key, offset)
	}
	if len(p) == 0 {
		return ctx.Err()
	}
	last := offset + int64(len(p)) - 1
	return b.do(ctx, "get", key, func(region func(*s3.Options)) error {
		in := &s3.GetObjectInput{
			Bucket: &b.bucket, Key: b.key(key), Range: aws.String(fmt.Sprintf("bytes=%d-%d", offset, last)),
		}
		in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = own.headers()
		_, err := b.client.GetObject(ctx, in, region, unchecked, receive(func(out *s3.GetObjectOutput, status int) error {
			if !own.took(out.SSECustomerAlgorithm, out.SSECustomerKeyMD5) {
				return &ignored{"has the object without it"}
			}
			var first, end int64
			switch n, err := fmt.Sscanf(aws.ToString(out.ContentRange), "bytes %d-%d/", &first, &end); {
			case status != http.StatusPartialContent:
				return &wrongAnswer{fmt.Sprintf("%s answers a range with status %d", b.where, status)}
			case n != 2 && err != nil || first != offset || end > last || aws.ToInt64(out.ContentLength) != end-first+1:
				return &wrongAnswer{fmt.Sprintf("%s answers bytes %d-%d with %q and length %d", b.where,
					offset, last, aws.ToString(out.ContentRange), aws.ToInt64(out.ContentLength))}
			case end < last:
				return &wrongAnswer{fmt.Sprintf("the object ends at byte %d, before the range's end at %d", end+1, last+1)}
			}
			return fill(out.Body, p)
		}))
		return err
	})
}

// unchecked: a range has no checksum of its own, and some stores send the object's.
func unchecked(o *s3.Options) {
	o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
}

// fill reads exactly len(p) bytes and the end after them, where the SDK compares the
// checksum.
func fill(r io.Reader, p []byte) error {
	if _, err := io.ReadFull(r, p); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return &cutShort{err}
	}
	var one [1]byte
	switch n, err := r.Read(one[:]); {
	case n > 0:
		return &cutShort{errors.New("there is more of it than announced")}
	case err != nil && err != io.EOF:
		return &cutShort{err}
	}
	return nil
}

// receive has read take the body within the attempt, so that a body that fails is
// asked for again like a request that does.
func receive(read func(out *s3.GetObjectOutput, status int) error) func(*s3.Options) {
	step := middleware.FinalizeMiddlewareFunc("ReceiveBody", func(
		ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
	) (middleware.FinalizeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleFinalize(ctx, in)
		if err != nil {
			return out, metadata, err
		}
		got, ok := out.Result.(*s3.GetObjectOutput)
		if !ok {
			return out, metadata, fmt.Errorf("the answer to a GetObject is a %T", out.Result)
		}
		defer got.Body.Close()
		status := 0
		if raw, ok := awsmiddleware.GetRawResponse(metadata).(*smithyhttp.Response); ok {
			status = raw.StatusCode
		}
		if err = read(got, status); err != nil && ctx.Err() != nil {
			err = &aws.RequestCanceledError{Err: ctx.Err()}
		}
		return out, metadata, err
	})
	return func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Finalize.Insert(step, "Retry", middleware.After)
		})
	}
}
