package profile

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"valise/identity"
)

// Storage is where the profiles of a workspace lie on S3, and how they are kept there.
type Storage struct {
	Provider string            // its name in the configuration; "" is a plain s3:// path
	Bucket   string            // s3://BUCKET or s3://BUCKET@ENDPOINT
	Prefix   identity.Template // below the bucket, as an absolute path

	AccessKeyID         string // {IAM} is the instance's role; "" is what the AWS environment says
	SecretAccessKeyFile string
	Role                *Role // nil: the credentials are used as they are

	Encryption    string // of new profiles: none, client, sse-c
	MasterKeyFile string

	Filter       string // what is not saved
	SizeLimit    int64  // bytes, 0 = no limit
	EnforceLimit bool   // writes above it fail; else they are only not saved
	OnSecondHost string // fail, wait, readonly
	LogLevel     *slog.Level
}

// Role is assumed for each profile, for credentials that reach that profile alone.
type Role struct {
	ARN      string
	Endpoint string // of STS, "" is AWS's
	Duration time.Duration
}

// HasProfile reports whether the workspace's users have profiles at all.
func (w *Workspace) HasProfile() bool { return w.Storage != nil || !w.Path.IsZero() }

// Validate reports every fault that makes the storage unusable.
func (s *Storage) Validate() error {
	var errs []error
	if !s.Prefix.IsZero() && !s.Prefix.PerUser() {
		errs = append(errs, fmt.Errorf("profile prefix %q needs {username} or {user_id}: without one all users would share one home", s.Prefix))
	}
	if s.AccessKeyID == IAM && s.Role != nil {
		errs = append(errs, errors.New("the instance's role {IAM} can't be limited to a profile: sts must be false"))
	}
	return errors.Join(errs...)
}

// IAM as an access key id stands for the instance's role.
const IAM = "{IAM}"

// Characters that an S3 URL, or a policy for part of a bucket, gives a meaning of their
// own: a user named * would read the neighbours' profiles.
const (
	notInURL    = "?#"
	notInPolicy = "*?${}"
)

// URL is that of a user's profile.
func (s *Storage) URL(v identity.Tokens) (string, error) {
	for token, value := range map[string]string{"username": string(v.Username), "user_id": v.UserID, "image_id": v.ImageID} {
		if !strings.Contains(s.Prefix.String(), "{"+token+"}") {
			continue
		}
		if strings.ContainsAny(value, notInURL) {
			return "", fmt.Errorf("{%s} %q: a profile on S3 can't have any of %s in its name", token, value, notInURL)
		}
		if s.Role != nil && strings.ContainsAny(value, notInPolicy) {
			return "", fmt.Errorf("{%s} %q: with sts = true a name can't have any of %s, which would let it reach other users' profiles", token, value, notInPolicy)
		}
	}
	prefix, err := s.Prefix.Expand(v)
	if err != nil {
		return "", err
	}
	return s.Bucket + prefix + "/", nil
}

// String is the URL with its tokens.
func (s *Storage) String() string { return s.Bucket + s.Prefix.String() + "/" }

// Match reads the tokens back out of a profile's URL.
func (s *Storage) Match(url string) (identity.Tokens, bool) {
	rest, ok := strings.CutPrefix(strings.TrimSuffix(url, "/"), s.Bucket)
	if !ok {
		return identity.Tokens{}, false
	}
	return s.Prefix.Match(rest)
}
