package server

import (
	"bytes"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Put stores an object with metadata (x-amz-meta-…) of its own.
func (s *Server) Put(t testing.TB, bucket, key string, body []byte, meta map[string]string) {
	t.Helper()
	_, err := s.api().PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(body), Metadata: meta})
	if err != nil {
		t.Fatalf("put %s/%s: %v", bucket, key, err)
	}
}

// api is a client with the server's own credentials.
func (s *Server) api() *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: &s.Endpoint, UsePathStyle: true, Region: region, HTTPClient: s.client,
		Credentials: credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
	})
}
