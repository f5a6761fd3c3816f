package server

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

func clientOf(s *Server, endpoint string, c Credentials) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: &endpoint, UsePathStyle: true, Region: region, HTTPClient: s.client, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(c.AccessKey, c.SecretKey, c.SessionToken),
	})
}

func TestUserMayDoWhatThePolicySays(t *testing.T) {
	s := MinIO(t)
	s.Bucket(t, "mine")
	s.Bucket(t, "other")
	c := clientOf(s, s.Endpoint, s.User(t, Policy("mine", "alice/")))
	put := func(bucket, key string) error {
		_, err := c.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: &bucket, Key: &key, Body: strings.NewReader("x"),
		})
		return err
	}
	list := func(prefix string) error {
		_, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("mine"), Prefix: &prefix})
		return err
	}
	_, create := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("new")})
	_, locate := c.GetBucketLocation(t.Context(), &s3.GetBucketLocationInput{Bucket: aws.String("mine")})
	for what, got := range map[string]struct {
		err     error
		allowed bool
	}{
		"put":                   {put("mine", "alice/k"), true},
		"list":                  {list("alice/"), true},
		"locate":                {locate, true},
		"put beside the prefix": {put("mine", "alice2/k"), false},
		"put elsewhere":         {put("other", "alice/k"), false},
		"list all":              {list(""), false},
		"create a bucket":       {create, false},
	} {
		if got.allowed && got.err != nil {
			t.Errorf("%s: got %v", what, got.err)
		}
		if !got.allowed && (got.err == nil || !strings.Contains(got.err.Error(), "AccessDenied")) {
			t.Errorf("%s: got %v, want AccessDenied", what, got.err)
		}
	}
}

func TestProxy(t *testing.T) {
	s := VersityGW(t)
	p := Proxy(t, s.Endpoint)
	ask := func(endpoint string) (time.Duration, error) {
		began := time.Now()
		resp, err := s.client.Get(endpoint + "/health")
		if err == nil {
			err = resp.Body.Close()
		}
		return time.Since(began), err
	}
	if _, err := ask(p.Endpoint); err != nil {
		t.Fatal(err)
	}
	p.Latency(t, 200*time.Millisecond, 0)
	if took, err := ask(p.Endpoint); err != nil || took < 200*time.Millisecond {
		t.Errorf("latency: got %s, %v", took, err)
	}
	p.Clean(t)
	for name, set := range map[string]func(testing.TB){
		"down":  p.Down,
		"reset": p.Reset,
		"cut":   func(t testing.TB) { p.CutAfter(t, 10) },
	} {
		set(t)
		s.client.Transport.(*http.Transport).CloseIdleConnections()
		if _, err := ask(p.Endpoint); err == nil {
			t.Errorf("%s: got no error", name)
		}
		p.Clean(t)
	}
	p.Down(t)
	p.Up(t)
	if _, err := ask(p.Endpoint); err != nil {
		t.Errorf("up again: got %v", err)
	}
}

// helper makes the test binary start a server, tell its pid and wait to be killed.
const helper = "VALISE_TEST_SERVER_HELPER"

func TestServerEndsWithItsParent(t *testing.T) {
	if os.Getenv(helper) != "" {
		p := run(t, exec.Command("sleep", "600"))
		fmt.Printf("\npid %d\n", p.cmd.Process.Pid)
		<-p.done
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), helper+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		if n, found := strings.CutPrefix(lines.Text(), "pid "); found {
			pid, _ = strconv.Atoi(n)
		}
	}
	if pid == 0 {
		t.Fatal("the helper told no pid")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for deadline := time.Now().Add(10 * time.Second); alive(pid); {
		if time.Now().After(deadline) {
			t.Fatalf("process %d is there still", pid)
		}
		time.Sleep(time.Millisecond)
	}
}

// alive: there is such a process, and it is no zombie that its new parent has yet to
// wait for.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

func TestForwardKeepsSignatures(t *testing.T) {
	s := MinIO(t)
	s.Bucket(t, "bucket")
	var seen atomic.Int64
	endpoint := s.Forward(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if seen.Add(1); r.URL.Path == "/bucket/refused" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		next.ServeHTTP(w, r)
	})
	c := clientOf(s, endpoint, s.Credentials)
	for key, want := range map[string]string{"a b/ü": "", "refused": "418"} {
		_, err := c.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: aws.String("bucket"), Key: &key, Body: strings.NewReader("x"),
		})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", key, err, want)
		}
	}
	if seen.Load() != 2 {
		t.Errorf("got %d requests, want 2", seen.Load())
	}
}

func TestMetadataIsIMDSv2Only(t *testing.T) {
	i := Metadata(t, func() (Credentials, time.Time) {
		return Credentials{AccessKey: "key", SecretKey: "secret", SessionToken: "session"}, time.Unix(1e9, 0)
	})
	ask := func(method, path string, header ...string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, i.Endpoint+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for h := range slices.Chunk(header, 2) {
			req.Header.Set(h[0], h[1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	if status, _ := ask("GET", rolesPath); status != http.StatusUnauthorized {
		t.Errorf("IMDSv1: got %d", status)
	}
	if status, _ := ask("PUT", tokenPath); status != http.StatusBadRequest {
		t.Errorf("a token of no time: got %d", status)
	}
	_, short := ask("PUT", tokenPath, tokenTTL, "1")
	_, name := ask("PUT", tokenPath, tokenTTL, "60")
	if status, role := ask("GET", rolesPath, token, name); status != 200 || role != roleName {
		t.Errorf("got %d %q", status, role)
	}
	if status, got := ask("GET", rolesPath+roleName, token, name); status != 200 ||
		!strings.Contains(got, `"Token":"session"`) || !strings.Contains(got, `"Expiration":"2001-09-09T01:46:40Z"`) {
		t.Errorf("got %d %s", status, got)
	}
	time.Sleep(1100 * time.Millisecond)
	if status, _ := ask("GET", rolesPath, token, short); status != http.StatusUnauthorized {
		t.Errorf("an old token: got %d", status)
	}
	if got, want := i.Asked(), (Asked{Tokens: 2, Credentials: 1, Refused: 2}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
