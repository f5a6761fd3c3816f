package s3

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
)

// What AssumeRole takes.
const (
	minRole, maxRole = 15 * time.Minute, 12 * time.Hour
	maxRoleARN       = 2048
	maxPolicy        = 2048
)

// Role is what a Bucket's requests are made as: it is assumed at an STS, with a session
// policy that allows no more than the Location's prefix.
type Role struct {
	// ARN is the role's. Stores that have no roles, as MinIO, take any.
	ARN string
	// Endpoint is that of the STS, such as https://sts.example.org; http:// where
	// there is no TLS, and then the credentials come in the clear. "" is that of AWS,
	// in the bucket's region.
	Endpoint string
	// Duration is how long credentials last, 15m to 12h and no more than the role
	// allows; they are renewed in time. 0 is an hour.
	Duration time.Duration
}

// withDefaults checks r, and l for it.
func (r Role) withDefaults(l Location) (Role, error) {
	if r.Duration == 0 {
		r.Duration = time.Hour
	}
	if r.Duration < minRole || r.Duration > maxRole {
		return r, fmt.Errorf("role duration %s is not 15m to 12h", r.Duration)
	}
	if !arn.IsARN(r.ARN) || len(r.ARN) > maxRoleARN || strings.ContainsAny(r.ARN, " \t\r\n") {
		return r, fmt.Errorf("%q is no role's ARN, as arn:aws:iam::123456789012:role/valise is", r.ARN)
	}
	if r.Endpoint == "" {
		if _, aws3 := amazonHost(l.Endpoint); !aws3 {
			return r, fmt.Errorf("%s is not AWS, whose STS knows nothing of it: a role there needs the endpoint of the store's own STS", l.Endpoint)
		}
	} else {
		proto, host, found := strings.Cut(r.Endpoint, "://")
		if !found {
			return r, errors.New("the STS endpoint begins neither with https:// nor with http://")
		}
		var err error
		if r.Endpoint, err = endpoint(strings.ToLower(proto)+"://", strings.TrimSuffix(host, "/")); err != nil {
			return r, fmt.Errorf("STS endpoint: %w", err)
		}
	}
	_, err := sessionPolicy(l, r.partition())
	return r, err
}

// partition is AWS's part that the role is in, such as aws-cn; that of stores with
// ARNs of their own is aws all the same.
func (r Role) partition() string {
	a, err := arn.Parse(r.ARN)
	if err == nil && strings.HasPrefix(a.Partition, "aws-") {
		return a.Partition
	}
	return "aws"
}

// region is the one to sign requests to the STS for, which is AWS's own one's place
// too: of the endpoint's name, else the configured one, else the partition's first.
func (r Role) region(configured string) (string, error) {
	if u, err := url.Parse(r.Endpoint); err == nil {
		labels := strings.Split(u.Hostname(), ".")
		i := slices.IndexFunc(labels, func(s string) bool { return s == "sts" || s == "sts-fips" })
		if i >= 0 && i+1 < len(labels) && isRegion(labels[i+1]) {
			return labels[i+1], nil
		}
	}
	if configured != "" {
		return configured, nil
	}
	first := map[string]string{
		"aws": defaultRegion, "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1", "aws-eusc": "eusc-de-east-1",
	}[r.partition()]
	if first == "" {
		return "", fmt.Errorf("nothing tells the STS's region in partition %s: set the region", r.partition())
	}
	return first, nil
}

// sessionName tells in the store's logs whose requests these are. It has only what
// AssumeRole allows, so a digest keeps apart what that makes alike.
func sessionName(l Location) string {
	const shown = 40
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_+=,.@-", r) {
			return r
		}
		return '-'
	}, strings.TrimSuffix(l.Prefix, "/"))
	sum := sha256.Sum256([]byte(l.String()))
	return "valise-" + name[:min(shown, len(name))] + "-" + hex.EncodeToString(sum[:4])
}

type statement struct {
	Effect    string
	Action    []string
	Resource  string
	Condition map[string]map[string]string `json:",omitempty"`
}

// sessionPolicy allows what a Bucket at l does, below its prefix alone. A prefix that a
// policy would read as a pattern is refused: it would match its neighbours too.
func sessionPolicy(l Location, partition string) (string, error) {
	if i := strings.IndexAny(l.Bucket+"/"+l.Prefix, "*?${}"); i >= 0 {
		return "", fmt.Errorf("the prefix %q has a %q, which a policy reads as a pattern: with a role it has none of * ? $ { }",
			l.Prefix, (l.Bucket + "/" + l.Prefix)[i])
	}
	bucket := "arn:" + partition + ":s3:::" + l.Bucket
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	err := e.Encode(struct {
		Version   string
		Statement []statement
	}{"2012-10-17", []statement{
		{"Allow", []string{"s3:GetObject", "s3:PutObject", "s3:DeleteObject"}, bucket + "/" + l.Prefix + "*", nil},
		{"Allow", []string{"s3:ListBucket"}, bucket, map[string]map[string]string{"StringLike": {"s3:prefix": l.Prefix + "*"}}},
		{"Allow", []string{"s3:GetBucketLocation"}, bucket, nil},
	}})
	if err != nil {
		return "", err
	}
	policy := ascii(strings.TrimSuffix(text.String(), "\n"))
	if len(policy) > maxPolicy {
		return "", fmt.Errorf("the prefix is too long for a role: the session policy with it has %d characters, and %d is the most (ones beyond ASCII count 6 or 12)",
			len(policy), maxPolicy)
	}
	return policy, nil
}

// ascii escapes the rest, which AWS does not take as it is, for JSON.
func ascii(s string) string {
	var out strings.Builder
	for _, r := range s {
		if r < 0x80 {
			out.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&out, `\u%04x`, unit)
		}
	}
	return out.String()
}
