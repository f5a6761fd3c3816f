package s3

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"valise/store"
)

// Folders returns the names of what looks like directories directly below prefix, which is
// counted from the bucket's top and is empty or ends with a slash.
func (b *Bucket) Folders(ctx context.Context, prefix string) ([]string, error) {
	in := &s3.ListObjectsV2Input{Bucket: &b.bucket, Prefix: &prefix, Delimiter: aws.String("/")}
	var names []string
	for {
		var out *s3.ListObjectsV2Output
		err := b.do(ctx, "list", store.Key(prefix), func(region func(*s3.Options)) (err error) {
			out, err = b.client.ListObjectsV2(ctx, in, region)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, p := range out.CommonPrefixes {
			names = append(names, strings.TrimSuffix(strings.TrimPrefix(aws.ToString(p.Prefix), prefix), "/"))
		}
		if !aws.ToBool(out.IsTruncated) {
			return names, nil
		}
		in.ContinuationToken = out.NextContinuationToken
	}
}
