package server

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
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
