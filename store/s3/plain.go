package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"valise/store"
)

// Plain reads objects below the prefix that are not valise's: of any key, size and
// metadata. It is a migrate.Source, and only lists and gets.
type Plain struct{ bucket *Bucket }

// Plain returns the reader of what lies below the prefix.
func (b *Bucket) Plain() *Plain { return &Plain{b} }

// PlainObject is an entry of a listing of Plain, as package migrate has it.
type PlainObject = struct {
	Key      string
	ETag     string
	Size     int64
	Modified time.Time
}

// PlainMeta is what an object says of itself, as package migrate has it.
type PlainMeta = struct {
	Size        int64
	ContentType string
	User        map[string]string
}

// List returns up to 1000 objects whose keys sort after `after`, "" for the start, and
// whether there are more. It refuses an answer that is not in order.
func (p *Plain) List(ctx context.Context, after string) (page []PlainObject, more bool, err error) {
	b := p.bucket
	// Encoded, for XML does not have all the characters that a key may have.
	in := &s3.ListObjectsV2Input{Bucket: &b.bucket, Prefix: &b.prefix, EncodingType: types.EncodingTypeUrl}
	if after != "" {
		in.StartAfter = b.key(store.Key(after))
	}
	var out *s3.ListObjectsV2Output
	err = b.do(ctx, "list", "", func(region func(*s3.Options)) (err error) {
		out, err = b.client.ListObjectsV2(ctx, in, region)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	last := after
	for i, o := range out.Contents {
		full := aws.ToString(o.Key)
		if out.EncodingType == types.EncodingTypeUrl {
			if full, err = url.QueryUnescape(full); err != nil {
				return nil, false, fmt.Errorf("list: %s answers with key %q: %w", b.where, aws.ToString(o.Key), err)
			}
		}
		key, below := strings.CutPrefix(full, b.prefix)
		if !below || key <= last && (i > 0 || after != "") {
			return nil, false, fmt.Errorf("list: %s answers with key %q, which is not below the prefix or not after %q", b.where, full, last)
		}
		last = key
		page = append(page, PlainObject{Key: key, ETag: aws.ToString(o.ETag), Size: aws.ToInt64(o.Size), Modified: aws.ToTime(o.LastModified).UTC()})
	}
	return page, aws.ToBool(out.IsTruncated), nil
}

// Open reads the object from offset on. It is store.ErrNotExist if there is none or,
// where etag is not empty, one with another ETag. Only the beginning of the answer is
// asked for again if it does not come; its body ends with an error if nothing moves for
// a while.
func (p *Plain) Open(ctx context.Context, key, etag string, offset int64) (io.ReadCloser, PlainMeta, error) {
	b := p.bucket
	in := &s3.GetObjectInput{Bucket: &b.bucket, Key: b.key(store.Key(key))}
	if etag != "" {
		in.IfMatch = &etag
	}
	options := []func(*s3.Options){}
	if offset > 0 {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", offset))
		options = append(options, unchecked)
	}
	var out *s3.GetObjectOutput
	err := b.do(ctx, "get", store.Key(key), func(region func(*s3.Options)) (err error) {
		out, err = b.client.GetObject(ctx, in, append(options, region)...)
		return err
	})
	if errors.Is(err, store.ErrExist) { // that is what a failed condition is elsewhere
		return nil, PlainMeta{}, fmt.Errorf("get %s: it has changed: %w", key, store.ErrNotExist)
	}
	if err != nil {
		return nil, PlainMeta{}, err
	}
	size, err := sizeFrom(out, offset)
	if err == nil && etag != "" && bareETag(aws.ToString(out.ETag)) != bareETag(etag) {
		err = fmt.Errorf("it has changed: %w", store.ErrNotExist) // for stores without If-Match
	}
	if err != nil {
		return nil, PlainMeta{}, errors.Join(fmt.Errorf("get %s: %s: %w", key, b.where, err), out.Body.Close())
	}
	return out.Body, PlainMeta{Size: size, ContentType: aws.ToString(out.ContentType), User: out.Metadata}, nil
}

// sizeFrom returns the size of the whole object, of which the answer begins at offset.
func sizeFrom(out *s3.GetObjectOutput, offset int64) (int64, error) {
	if out.ContentLength == nil || *out.ContentLength < 0 {
		return 0, &wrongAnswer{"the store does not announce the object's length"}
	}
	if offset == 0 {
		return *out.ContentLength, nil
	}
	var first, last, size int64
	_, err := fmt.Sscanf(aws.ToString(out.ContentRange), "bytes %d-%d/%d", &first, &last, &size)
	if err != nil || first != offset || last != size-1 || *out.ContentLength != size-offset {
		return 0, &wrongAnswer{fmt.Sprintf("it answers bytes %d- with %q and length %d", offset, aws.ToString(out.ContentRange), *out.ContentLength)}
	}
	return size, nil
}

// bareETag is an ETag without its quotes: some stores leave them out in listings.
func bareETag(etag string) string { return strings.Trim(strings.TrimPrefix(etag, "W/"), `"`) }
