package s3

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"valise/store"
	"valise/store/storetest"
	"valise/store/storetest/server"
)

// freshIn returns buckets at new prefixes of the same bucket.
func freshIn(s *server.Server, c server.Credentials, bucket string) func(t *testing.T) store.Bucket {
	var n atomic.Int64
	return func(t *testing.T) store.Bucket {
		return open(t, configOf(s, c, Location{bucket, s.Endpoint, fmt.Sprintf("test %d/", n.Add(1))}))
	}
}

func configOf(s *server.Server, c server.Credentials, l Location) Config {
	return Config{
		Location:    l,
		AccessKeyID: c.AccessKey, SecretAccessKey: c.SecretKey, SessionToken: c.SessionToken,
		CAFile: s.CAFile,
	}
}

func open(t *testing.T, c Config) *Bucket {
	t.Helper()
	c.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	b, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func TestMinIOKeepsTheContract(t *testing.T) {
	s := server.MinIO(t)
	s.Bucket(t, "bucket")
	storetest.Run(t, freshIn(s, s.User(t, server.Policy("bucket", "")), "bucket"))
}

func TestVersityGWKeepsTheContract(t *testing.T) {
	s := server.VersityGW(t)
	s.Bucket(t, "bucket")
	storetest.Run(t, freshIn(s, s.Credentials, "bucket"))
}

func TestProfilesOfOneBucketAreApart(t *testing.T) {
	s := server.MinIO(t)
	s.Bucket(t, "bucket")
	alice := s.User(t, server.Policy("bucket", "alice/"))
	mine := open(t, configOf(s, alice, Location{"bucket", s.Endpoint, "alice/"}))
	if err := mine.Create(t.Context(), "k", []byte("hers")); err != nil {
		t.Fatal(err)
	}
	if got, err := mine.Get(t.Context(), "k"); err != nil || string(got) != "hers" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, prefix := range []string{"alice2/", "alic/", "bob/"} {
		l := Location{"bucket", s.Endpoint, prefix}
		theirs := open(t, configOf(s, s.Credentials, l))
		if err := theirs.Put(t.Context(), "k", []byte("theirs")); err != nil {
			t.Fatal(err)
		}
		asAlice := open(t, configOf(s, alice, l))
		_, getErr := asAlice.Get(t.Context(), "k")
		_, listErr := asAlice.List(t.Context(), "", "", 10)
		for op, err := range map[string]error{
			"get": getErr, "list": listErr,
			"put": asAlice.Put(t.Context(), "k", nil), "delete": asAlice.Delete(t.Context(), "k"),
		} {
			wantKind(t, prefix+" "+op, err, store.ErrDenied, "AccessDenied")
		}
	}
	if l, err := mine.List(t.Context(), "", "", 10); err != nil || len(l.Objects) != 1 {
		t.Errorf("list: got %+v, %v, want the one key", l, err)
	}
}

// TestRefusalsOfRealServers: what their errors look like differs from AWS.
func TestRefusalsOfRealServers(t *testing.T) {
	for name, s := range map[string]*server.Server{"MinIO": server.MinIO(t), "VersityGW": server.VersityGW(t)} {
		t.Run(name, func(t *testing.T) {
			s.Bucket(t, "bucket")
			l := Location{"bucket", s.Endpoint, "p/"}
			wrong := s.Credentials
			wrong.SecretKey = testSecret
			_, err := open(t, configOf(s, wrong, l)).Get(t.Context(), "k")
			wantKind(t, "wrong secret", err, store.ErrDenied, "SignatureDoesNotMatch")

			wrong.AccessKey = "nobody"
			_, err = open(t, configOf(s, wrong, l)).List(t.Context(), "", "", 1)
			wantKind(t, "unknown key", err, store.ErrDenied, "status 40")

			l.Bucket = "missing"
			b := open(t, configOf(s, s.Credentials, l))
			_, getErr := b.Get(t.Context(), "k")
			_, listErr := b.List(t.Context(), "", "", 1)
			for op, err := range map[string]error{"get": getErr, "list": listErr, "put": b.Put(t.Context(), "k", nil)} {
				wantKind(t, op, err, nil, `there is no bucket "missing"`)
			}

			l.Bucket = "bucket"
			c := configOf(s, s.Credentials, l)
			c.Region = "eu-west-1"
			if err := open(t, c).Put(t.Context(), "k", []byte("x")); err != nil {
				t.Errorf("signed for another region: got %v", err)
			}
		})
	}
}

func TestBadNetwork(t *testing.T) {
	s := server.MinIO(t)
	s.Bucket(t, "bucket")
	p := server.Proxy(t, s.Endpoint)
	c := configOf(s, s.Credentials, Location{"bucket", p.Endpoint, "p/"})
	c.MaxAttempts, c.Backoff, c.Stall = 3, time.Millisecond, time.Second
	b := open(t, c)
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	if err := b.Put(t.Context(), "there", body); err != nil {
		t.Fatal(err)
	}
	get := func() error {
		_, err := b.Get(t.Context(), "there")
		return err
	}
	put := func() error { return b.Put(t.Context(), "new", body) }
	for name, test := range map[string]struct {
		set  func(testing.TB)
		call func() error
	}{
		"answers cut":  {func(t testing.TB) { p.CutAfter(t, 1<<19) }, get},
		"requests cut": {func(t testing.TB) { p.CutRequestsAfter(t, 1<<19) }, put},
		"reset":        {p.Reset, get},
		"silence":      {p.Silence, get},
		"down":         {p.Down, put},
	} {
		b.Close() // old connections know nothing of a cut
		test.set(t)
		if err := test.call(); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: got %v, want %v", name, err, store.ErrUnavailable)
		}
		p.Clean(t)
		if got, err := b.Get(t.Context(), "there"); err != nil || !bytes.Equal(got, body) {
			t.Errorf("after %s: got %d bytes, %v", name, len(got), err)
		}
		if _, err := b.Get(t.Context(), "new"); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("after %s: got %v, want that nothing was put", name, err)
		}
	}
}

func TestStoreThatComesBack(t *testing.T) {
	s := server.VersityGW(t)
	s.Bucket(t, "bucket")
	p := server.Proxy(t, s.Endpoint)
	c := configOf(s, s.Credentials, Location{"bucket", p.Endpoint, "p/"})
	c.MaxAttempts, c.Backoff = 100, 50*time.Millisecond
	b := open(t, c)
	p.Down(t)
	done := make(chan error)
	go func() { done <- b.Create(t.Context(), "k", []byte("x")) }()
	select {
	case err := <-done:
		t.Fatalf("got %v from a store that is down", err)
	case <-time.After(200 * time.Millisecond):
	}
	p.Up(t)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
