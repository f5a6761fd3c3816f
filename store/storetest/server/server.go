package server

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// Credentials are what a request is signed with.
type Credentials struct {
	AccessKey, SecretKey string
	SessionToken         string // "" for those of a Server
}

// Server is a running S3 server. Its own Credentials may do anything.
type Server struct {
	Credentials
	Endpoint string // such as https://127.0.0.1:4711
	CAFile   string // the PEM file of its certificate's authority
	Dir      string // has its data

	client *http.Client
}

const region = "us-east-1"

// MinIO starts a MinIO server on one directory.
func MinIO(t testing.TB) *Server {
	t.Helper()
	program, cert, data := binary(t, "minio"), newCertificate(t), t.TempDir()
	return newServer(t, cert, data, func(address string, c Credentials) (*exec.Cmd, string) {
		cmd := exec.Command(program, "server", "--quiet", "--address", address,
			"--certs-dir", filepath.Dir(cert.cert), data)
		cmd.Env = append(os.Environ(), "HOME="+data, "MINIO_BROWSER=off", "MINIO_UPDATE=off",
			"MINIO_ROOT_USER="+c.AccessKey, "MINIO_ROOT_PASSWORD="+c.SecretKey)
		return cmd, "/minio/health/ready"
	})
}

// VersityGW starts a gateway that keeps objects as files of a directory.
func VersityGW(t testing.TB) *Server {
	t.Helper()
	program, cert, data := binary(t, "versitygw"), newCertificate(t), t.TempDir()
	return newServer(t, cert, data, func(address string, c Credentials) (*exec.Cmd, string) {
		cmd := exec.Command(program, "--port", address, "--region", region, "--keep-alive", "--quiet",
			"--cert", cert.cert, "--key", cert.key, "--health", "/health", "posix", data)
		cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+c.AccessKey, "ROOT_SECRET_KEY="+c.SecretKey)
		return cmd, "/health"
	})
}

func newServer(t testing.TB, cert certificate, data string, command func(string, Credentials) (*exec.Cmd, string)) *Server {
	t.Helper()
	s := &Server{
		Credentials: Credentials{AccessKey: "root-of-the-test", SecretKey: "secret-of-the-test"},
		CAFile:      cert.authority,
		Dir:         data,
		client:      cert.client,
	}
	s.Endpoint = "https://" + start(t, s.client, func(address string) (*exec.Cmd, string) {
		cmd, health := command(address, s.Credentials)
		return cmd, "https://" + address + health
	})
	return s
}

// Bucket makes a bucket.
func (s *Server) Bucket(t testing.TB, name string) {
	t.Helper()
	client := s.api()
	patiently(t, func() error {
		_, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name})
		return err
	})
}

// patiently does what needs all of MinIO, which says that it is ready before it is.
func patiently(t testing.TB, do func() error) {
	t.Helper()
	for {
		err := do()
		if err == nil {
			return
		}
		if !strings.Contains(strings.ToLower(err.Error()), "server not initialized") {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// User returns credentials that may do what the policy (JSON) says and nothing else.
// Only MinIO has them.
func (s *Server) User(t testing.TB, policy string) Credentials {
	t.Helper()
	client := sts.New(sts.Options{
		BaseEndpoint: &s.Endpoint, Region: region, HTTPClient: s.client,
		Credentials: credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
	})
	var out *sts.AssumeRoleOutput
	patiently(t, func() (err error) {
		out, err = client.AssumeRole(t.Context(), &sts.AssumeRoleInput{
			Policy: &policy, RoleArn: aws.String("arn:xxx:xxx:xxx:xxxx"), RoleSessionName: aws.String("valise"),
		})
		return err
	})
	c := out.Credentials
	return Credentials{AccessKey: *c.AccessKeyId, SecretKey: *c.SecretAccessKey, SessionToken: *c.SessionToken}
}

// Policy is the least that valise needs: its own prefix of a bucket, such as
// "alice/", and "" for all of it.
func Policy(bucket, prefix string) string {
	return fmt.Sprintf(`{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
      "Resource": "arn:aws:s3:::%[1]s/%[2]s*"
    },
    {
      "Effect": "Allow",
      "Action": "s3:ListBucket",
      "Resource": "arn:aws:s3:::%[1]s",
      "Condition": {"StringLike": {"s3:prefix": "%[2]s*"}}
    },
    {
      "Effect": "Allow",
      "Action": "s3:GetBucketLocation",
      "Resource": "arn:aws:s3:::%[1]s"
    }
  ]
}`, bucket, prefix)
}
