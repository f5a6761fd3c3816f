package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"valise/migrate"
	"valise/store"
	"valise/store/s3"
	"valise/store/storetest/server"
)

var _ migrate.Source = (*s3.Plain)(nil)

const (
	bucket = "bucket"
	uid    = 1234
	gid    = 4321
)

// readOnly is a policy that has all that a migration needs.
const readOnly = `{"Version": "2012-10-17", "Statement": [
	{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/*"},
	{"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetBucketLocation"], "Resource": "arn:aws:s3:::bucket"}]}`

// gate is a way to a server without TLS that tells what passed.
type gate struct {
	endpoint string

	mu       sync.Mutex
	requests map[string]int // by method
}

func newGate(t *testing.T, s *server.Server) *gate {
	g := &gate{requests: map[string]int{}}
	g.endpoint = s.Forward(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		g.mu.Lock()
		g.requests[r.Method]++
		g.mu.Unlock()
		next.ServeHTTP(w, r)
	})
	return g
}

func (g *gate) seen() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.requests)
}

func source(t *testing.T, s *server.Server, c server.Credentials, endpoint, prefix string) *s3.Plain {
	t.Helper()
	config := s3.Config{
		Location:    s3.Location{Bucket: bucket, Endpoint: endpoint, Prefix: prefix},
		AccessKeyID: c.AccessKey, SecretAccessKey: c.SecretKey, SessionToken: c.SessionToken,
	}
	if strings.HasPrefix(endpoint, "https:") {
		config.CAFile = s.CAFile
	}
	b, err := s3.New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b.Plain()
}

func fetch(t *testing.T, from migrate.Source) (string, migrate.Result) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "staging")
	r, err := migrate.Fetch(t.Context(), migrate.Config{Source: from, Name: "test", Dir: dir, UID: uid, GID: gid})
	if err != nil {
		t.Fatal(err)
	}
	return dir, r
}

func client(s *server.Server, endpoint string) *sdk.Client {
	return sdk.New(sdk.Options{
		BaseEndpoint: &endpoint, UsePathStyle: true, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
	})
}

func put(t *testing.T, c *sdk.Client, key, body, kind string, user map[string]string) {
	t.Helper()
	in := &sdk.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: strings.NewReader(body), Metadata: user}
	if kind != "" {
		in.ContentType = &kind
	}
	if _, err := c.PutObject(t.Context(), in); err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
}

// What rclone 1.76 was seen to write, by `rclone copy --metadata --links
// --s3-directory-markers` (metadata/), `rclone copy --links` (plain/) and `rclone mount
// --metadata --links` (mount/). rclone_test.go compares with the program itself.
func TestObjectsOfRclone(t *testing.T) {
	s := server.MinIO(t)
	s.Bucket(t, bucket)
	g := newGate(t, s)
	c := client(s, g.endpoint)
	full := func(mode, mtime string, more ...string) map[string]string {
		out := map[string]string{
			"atime": "2026-11-23T06:54:05.720185256Z", "btime": "2026-11-23T06:53:36.21986673Z",
			"gid": "1001", "uid": "1000", "mode": mode, "mtime": mtime,
		}
		for i := 0; i < len(more); i += 2 {
			out[more[i]] = more[i+1]
		}
		return out
	}
	time0 := map[string]string{"mtime": "981173106.123456789"}
	put(t, c, "home/metadata/", "", "application/octet-stream", time0)
	put(t, c, "home/metadata/d/", "", "application/octet-stream", time0)
	put(t, c, "home/metadata/d/f", "hi\n", "application/octet-stream", full("100755", "981173106.123456789", "foo", "bar", "xdg.origin.url", "=?UTF-8?b?aHR0cDovL3gveT/DvA==?="))
	put(t, c, "home/metadata/d/l.rclonelink", "../nowhere", "application/octet-stream", full("120777", "1009843200"))
	put(t, c, "home/metadata/sp ace/ü#?%+&.txt", "x\n", "text/plain; charset=utf-8", full("100640", "1795416816.228183895"))
	put(t, c, "home/metadata/new\nline\rand\x01", "x", "application/octet-stream", full("100644", "-304819200"))
	put(t, c, "home/plain/f", "hi\n", "", time0)
	put(t, c, "home/plain/l.rclonelink", "f", "", map[string]string{"mtime": "1009843200"})
	put(t, c, "home/mount/f", "hi\n", "", full("100600", "978307200"))
	put(t, c, "home/mount/l.rclonelink", "f", "", full("100600", "1795417185.562674259"))

	dir, r := fetch(t, source(t, s, s.User(t, readOnly), s.Endpoint, "home/"))
	at := func(seconds, nanos int64) time.Time { return time.Unix(seconds, nanos).UTC() }
	const owner = "1234:4321"
	want := map[string]migrate.File{
		"metadata":                    {Mode: "40755", Owner: owner, Mtime: at(981173106, 123456789)},
		"metadata/d":                  {Mode: "40755", Owner: owner, Mtime: at(981173106, 123456789)},
		"metadata/d/f":                {Mode: "100755", Owner: owner, Mtime: at(981173106, 123456789), Content: "hi\n", Xattrs: map[string]string{"user.foo": "bar", "user.xdg.origin.url": "http://x/y?ü"}},
		"metadata/d/l":                {Mode: "120777", Owner: owner, Mtime: at(1009843200, 0), Content: "../nowhere"},
		"metadata/sp ace":             {Mode: "40755", Owner: owner, Mtime: at(1795416816, 228183895)},
		"metadata/sp ace/ü#?%+&.txt":  {Mode: "100640", Owner: owner, Mtime: at(1795416816, 228183895), Content: "x\n"},
		"metadata/new\nline\rand\x01": {Mode: "100644", Owner: owner, Mtime: at(-304819200, 0), Content: "x"},
		"plain":                       {Mode: "40755", Owner: owner, Mtime: at(1009843200, 0)},
		"plain/f":                     {Mode: "100644", Owner: owner, Mtime: at(981173106, 123456789), Content: "hi\n"},
		"plain/l":                     {Mode: "120777", Owner: owner, Mtime: at(1009843200, 0), Content: "f"},
		"mount":                       {Mode: "40755", Owner: owner, Mtime: at(1795417185, 562674259)},
		"mount/f":                     {Mode: "100600", Owner: owner, Mtime: at(978307200, 0), Content: "hi\n"},
		"mount/l":                     {Mode: "120777", Owner: owner, Mtime: at(1795417185, 562674259), Content: "f"},
	}
	if diff := cmp.Diff(want, migrate.Look(t, dir)); diff != "" || len(r.Skipped) > 0 || len(r.Notes) > 0 {
		t.Errorf("skipped %v, notes %q (-want +got):\n%s", r.Skipped, r.Notes, diff)
	}
}

// Objects without metadata, as goofys and the AWS CLI leave them, of names and sizes of
// all kinds, on both servers; and nothing is sent that writes.
func TestPlainObjects(t *testing.T) {
	for name, start := range map[string]func(testing.TB) *server.Server{"MinIO": server.MinIO, "VersityGW": server.VersityGW} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			s.Bucket(t, bucket)
			c := client(s, newGate(t, s).endpoint)
			want := map[string]string{}
			for _, rel := range []string{"a+b", "a b", "a%20b", "a%2Bb", "ü/日本", "d/#?&=;:@$,'()*!~", "d/\\\"<>", "\t", ".hidden/.x"} {
				want[rel] = "in " + rel
			}
			for i := range 1100 { // more than a page
				want[fmt.Sprintf("many/%04d", i)] = ""
			}
			want["large"] = strings.Repeat("0123456789abcdef", 300_000)
			for rel, body := range want {
				put(t, c, "the home/"+rel, body, "", nil)
			}
			put(t, c, "the home/empty dir/", "", "", nil)
			put(t, c, "the home2/x", "not this", "", nil)

			g, who := newGate(t, s), s.Credentials
			if name == "MinIO" {
				who = s.User(t, readOnly)
			}
			dir, r := fetch(t, source(t, s, who, g.endpoint, "the home/"))
			got := map[string]string{}
			for path, f := range migrate.Look(t, dir) {
				if f.Owner != "1234:4321" || f.Mode != "100644" && f.Mode != "40755" || time.Since(f.Mtime).Abs() > time.Hour {
					t.Errorf("%s: got %+v", path, f)
				}
				if f.Mode == "100644" {
					got[path] = f.Content
				}
			}
			if diff := cmp.Diff(want, got); diff != "" || len(r.Skipped) > 0 || r.Dirs != 1 {
				t.Errorf("%d dirs, skipped %v (-want +got):\n%.2000s", r.Dirs, r.Skipped, diff)
			}
			if st, err := os.Stat(filepath.Join(dir, "empty dir")); err != nil || !st.IsDir() {
				t.Errorf("got %v, want a directory", err)
			}
			for method := range g.seen() {
				if method != http.MethodGet && method != http.MethodHead {
					t.Errorf("a %s was sent", method)
				}
			}
		})
	}
}

func TestPlainOpen(t *testing.T) {
	for name, start := range map[string]func(testing.TB) *server.Server{"MinIO": server.MinIO, "VersityGW": server.VersityGW} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			s.Bucket(t, bucket)
			c := client(s, newGate(t, s).endpoint)
			put(t, c, "p/k", "0123456789", "", map[string]string{"Mode": "33188"})
			p := source(t, s, s.Credentials, s.Endpoint, "p/")
			page, more, err := p.List(t.Context(), "")
			if err != nil || more || len(page) != 1 {
				t.Fatalf("got %v, %t, %v", page, more, err)
			}
			for _, offset := range []int64{0, 4, 9} {
				body, meta, err := p.Open(t.Context(), "k", page[0].ETag, offset)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(body)
				if err := errors.Join(err, body.Close()); err != nil {
					t.Error(err)
				}
				if string(got) != "0123456789"[offset:] || meta.Size != 10 || meta.User["mode"] != "33188" {
					t.Errorf("from %d: got %q, %+v", offset, got, meta)
				}
			}
			if _, _, err := p.Open(t.Context(), "k", `"d41d8cd98f00b204e9800998ecf8427e"`, 0); !errors.Is(err, store.ErrNotExist) {
				t.Errorf("another ETag: got %v, want ErrNotExist", err)
			}
			if _, _, err := p.Open(t.Context(), "none", "", 0); !errors.Is(err, store.ErrNotExist) {
				t.Errorf("no object: got %v, want ErrNotExist", err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, _, err := p.Open(ctx, "k", "", 0); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want Canceled", err)
			}
		})
	}
}

func TestConnectionsThatBreak(t *testing.T) {
	s := server.MinIO(t)
	s.Bucket(t, bucket)
	c := client(s, newGate(t, s).endpoint)
	large := strings.Repeat("0123456789abcdef", 300_000)
	put(t, c, "p/large", large, "", nil)
	for i := range 50 {
		put(t, c, fmt.Sprintf("p/%d", i), fmt.Sprint(i), "", nil)
	}
	path := server.Proxy(t, s.Endpoint)
	path.CutAfter(t, 1_000_000) // of each connection
	dir, r := fetch(t, source(t, s, s.Credentials, path.Endpoint, "p/"))
	got := migrate.Look(t, dir)
	if got["large"].Content != large || len(got) != 51 || r.Files != 51 || len(r.Skipped) > 0 {
		t.Errorf("got %d files, %d bytes of the large one, %+v", len(got), len(got["large"].Content), r)
	}
}
