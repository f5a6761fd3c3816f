package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"valise/store"
)

const defaultRegion = "us-east-1"

// findRegion is the region to sign for: of the endpoint's name, else the configured
// one, else for AWS what the bucket says.
func (b *Bucket) findRegion(ctx context.Context, configured string) error {
	host, aws3 := amazonHost(b.endpoint)
	region := cmp.Or(host.region, configured)
	if region == "" && aws3 {
		var err error
		if region, err = b.askRegion(ctx); err != nil {
			return fmt.Errorf("find the region of bucket %q: %w", b.bucket, err)
		}
	}
	b.fixed = host.region != ""
	region = cmp.Or(region, defaultRegion)
	b.region.Store(&region)
	return nil
}

// askRegion asks by path style in us-east-1, which answers for every region. Without
// the right to ask it is "": the redirect of the first request will tell.
func (b *Bucket) askRegion(ctx context.Context) (string, error) {
	out, err := b.client.GetBucketLocation(ctx, &s3.GetBucketLocationInput{Bucket: aws.String(b.bucket)},
		func(o *s3.Options) { o.Region, o.UsePathStyle, o.UseAccelerate = defaultRegion, true, false })
	if err != nil {
		if region := header(err, regionHeader); region != "" {
			return region, nil
		}
		if err = b.explain(ctx, err); errors.Is(err, store.ErrDenied) {
			return "", nil
		}
		return "", err
	}
	if out.LocationConstraint == "EU" { // the name of the first region there
		return "eu-west-1", nil
	}
	return string(out.LocationConstraint), nil
}

// move goes over to the region that the answer in err names, if there is one that
// another request should be signed for; else it returns from.
func (b *Bucket) move(err error, from string) (string, error) {
	var api smithy.APIError
	to := header(err, regionHeader)
	if to == "" || to == from || !errors.As(err, &api) ||
		statusOf(err)/100 != 3 && !isWrongRegion(api.ErrorCode()) {
		return from, nil
	}
	if b.fixed {
		return from, &failure{cause: err, text: fmt.Sprintf(
			"%s: bucket %q is in region %s: the URL's endpoint must be that region's", b.where, b.bucket, to)}
	}
	b.log.Debug("the bucket is in another region", "bucket", b.bucket, "region", to, "was", from)
	b.region.Store(&to)
	return to, nil
}
