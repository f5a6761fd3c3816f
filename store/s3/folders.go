package s3

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"

	"valise/store"
)

// foldersAtOnce is how many folders are looked into at a time.
const foldersAtOnce = 16

// Folders returns the names of what looks like directories directly below prefix, which is
// counted from the bucket's top and is empty or ends with a slash. In each lies an object
// at least: MinIO also lists folders whose objects are all deleted, for ever, if it left
// something of its own there.
func (b *Bucket) Folders(ctx context.Context, prefix string) ([]string, error) {
	names, err := b.listed(ctx, prefix)
	if err != nil {
		return nil, err
	}
	empty := make([]bool, len(names))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(foldersAtOnce)
	for i, name := range names {
		group.Go(func() error {
			below := prefix + name + "/"
			out, err := b.page(groupCtx, store.Key(below), &s3.ListObjectsV2Input{Bucket: &b.bucket, Prefix: &below, MaxKeys: aws.Int32(1)})
			empty[i] = err == nil && len(out.Contents) == 0
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var folders []string
	for i, name := range names {
		if !empty[i] {
			folders = append(folders, name)
		}
	}
	return folders, nil
}

// listed returns what the store says there is below prefix, up to the next slash.
func (b *Bucket) listed(ctx context.Context, prefix string) ([]string, error) {
	in := &s3.ListObjectsV2Input{Bucket: &b.bucket, Prefix: &prefix, Delimiter: aws.String("/")}
	var names []string
	for {
		out, err := b.page(ctx, store.Key(prefix), in)
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
