package s3

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"valise/store"
	"valise/store/storetest"
	"valise/store/storetest/server"
)

// minioRole is one of MinIO, which has no roles: what may be done is the user's policy
// and the session's, and root's is everything.
func minioRole(endpoint string) *Role {
	return &Role{ARN: "arn:minio:iam:::role/any", Endpoint: endpoint}
}

func TestRoleKeepsTheContract(t *testing.T) {
	s := server.MinIO(t)
	s.Bucket(t, "bucket")
	var n atomic.Int64
	storetest.Run(t, func(t *testing.T) store.Bucket {
		c := configOf(s, s.Credentials, Location{"bucket", s.Endpoint, fmt.Sprintf("test %d ü\"/", n.Add(1))})
		c.Role = minioRole(s.Endpoint)
		return open(t, c)
	})
}

func TestRoleIsOfOnePrefix(t *testing.T) {
	s := server.MinIO(t)
	s.Bucket(t, "bucket")
	s.Bucket(t, "bucket2")
	root := func(bucket, prefix string) *Bucket {
		return open(t, configOf(s, s.Credentials, Location{bucket, s.Endpoint, prefix}))
	}
	c := configOf(s, s.Credentials, Location{"bucket", s.Endpoint, "alice/"})
	c.Role = minioRole(s.Endpoint)
	alice := open(t, c)
	if err := alice.Create(t.Context(), "dir/k", []byte("hers")); err != nil {
		t.Fatal(err)
	}
	if got, err := alice.Get(t.Context(), "dir/k"); err != nil || string(got) != "hers" {
		t.Errorf("got %q, %v", got, err)
	}
	if l, err := alice.List(t.Context(), "dir/", "", 10); err != nil || len(l.Objects) != 1 {
		t.Errorf("got %+v, %v", l, err)
	}
	if err := alice.Delete(t.Context(), "dir/k"); err != nil {
		t.Error(err)
	}
	for _, at := range [][2]string{
		{"bucket", "alice2/"}, {"bucket", "alic/"}, {"bucket", "bob/"}, {"bucket", "Alice/"}, {"bucket", "x/alice/"},
		{"bucket", ""}, {"bucket", "ali"}, {"bucket2", "alice/"},
	} {
		if at[1] != "" && at[1] != "ali" {
			if err := root(at[0], at[1]).Put(t.Context(), "k", []byte("theirs")); err != nil {
				t.Fatal(err)
			}
		}
		there := open(t, c)
		there.bucket, there.prefix = at[0], at[1]
		_, getErr := there.Get(t.Context(), "k")
		_, listErr := there.List(t.Context(), "", "", 10)
		for op, err := range map[string]error{
			"get": getErr, "range": there.GetRange(t.Context(), "k", 0, make([]byte, 1)), "list": listErr,
			"put": there.Put(t.Context(), "k", nil), "create": there.Create(t.Context(), "new", nil),
			"delete": there.Delete(t.Context(), "k"),
		} {
			wantKind(t, fmt.Sprint(at, op), err, store.ErrDenied, "AccessDenied")
		}
	}
}

// shortSTS is MinIO by a proxy that ends credentials early: it says so in the STS's
// answer, and refuses them from then on.
type shortSTS struct {
	life   time.Duration
	broken atomic.Bool // the STS answers 500

	mu      sync.Mutex
	ends    map[string]time.Time // by access key
	used    map[string]int
	failed  int // answers 500
	refused int // requests with credentials that have ended
}

var (
	keyInAnswer  = regexp.MustCompile(`<AccessKeyId>([^<]+)</AccessKeyId>`)
	endsInAnswer = regexp.MustCompile(`<Expiration>[^<]+</Expiration>`)
)

func (p *shortSTS) handle(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if r.Method == http.MethodPost && r.URL.Path == "/" {
		p.assume(w, r, next)
		return
	}
	key := request{header: r.Header}.signer()
	p.mu.Lock()
	p.used[key]++
	ended := time.Now().After(p.ends[key])
	if ended {
		p.refused++
	}
	p.mu.Unlock()
	if ended {
		_, _ = io.Copy(io.Discard, r.Body)
		refuse(w, 400, "ExpiredToken", "The provided token has expired.", "")
		return
	}
	next.ServeHTTP(w, r)
}

func (p *shortSTS) assume(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if p.broken.Load() {
		p.mu.Lock()
		p.failed++
		p.mu.Unlock()
		refuseRole(w, 500, "InternalFailure", "Sorry.")
		return
	}
	got := httptest.NewRecorder()
	next.ServeHTTP(got, r)
	body := got.Body.Bytes()
	if key := keyInAnswer.FindSubmatch(body); key != nil {
		ends := time.Now().Add(p.life)
		p.mu.Lock()
		p.ends[string(key[1])] = ends
		p.mu.Unlock()
		body = endsInAnswer.ReplaceAll(body, []byte("<Expiration>"+ends.UTC().Format(time.RFC3339Nano)+"</Expiration>"))
	}
	w.Header()["Date"] = got.Header()["Date"]
	w.WriteHeader(got.Code)
	_, _ = w.Write(body)
}

func TestBucketOutlivesItsCredentials(t *testing.T) {
	s := server.MinIO(t)
	s.Bucket(t, "bucket")
	before := runtime.NumGoroutine()
	t.Run("group", func(t *testing.T) {
		for name, test := range map[string]struct {
			life, run       time.Duration
			breaks, returns time.Duration
			renewals        int
		}{
			"steady": {3 * time.Second, 8 * time.Second, 0, 0, 3},
			// The first renewal, at 3 to 4.5 s, fails until the STS is back.
			"away": {6 * time.Second, 9 * time.Second, time.Second, 4800 * time.Millisecond, 1},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				outlive(t, s, name, test.life, test.run, test.breaks, test.returns, test.renewals)
			})
		}
	})
	// Forward's and the Bucket's connections take a moment to end.
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+5; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got %d goroutines, and %d before", runtime.NumGoroutine(), before)
		}
	}
}

func outlive(t *testing.T, s *server.Server, name string, life, run, breaks, returns time.Duration, renewals int) {
	p := &shortSTS{life: life, ends: map[string]time.Time{}, used: map[string]int{}}
	endpoint := s.Forward(t, p.handle)
	c := configOf(s, s.Credentials, Location{"bucket", endpoint, name + "/"})
	c.Role, c.Backoff, c.MaxAttempts = minioRole(endpoint), time.Millisecond, 2
	b := open(t, c)
	began := time.Now()
	if returns > 0 {
		time.AfterFunc(breaks, func() { p.broken.Store(true) })
		time.AfterFunc(returns, func() { p.broken.Store(false) })
	}
	var all sync.WaitGroup
	var requests atomic.Int64
	for worker := range 4 {
		all.Go(func() {
			for i := 0; time.Since(began) < run; i++ {
				key, body := store.Key(fmt.Sprint(worker)), fmt.Appendf(nil, "%d", i)
				err := b.Put(t.Context(), key, body)
				got, getErr := b.Get(t.Context(), key)
				_, listErr := b.List(t.Context(), "", "", 10)
				if err := errors.Join(err, getErr, listErr); err != nil || !bytes.Equal(got, body) {
					t.Errorf("after %s: got %q, %v", time.Since(began), got, err)
					return
				}
				requests.Add(3)
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	all.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	t.Logf("%d requests with %d credentials, %d refused, %d times away", requests.Load(), len(p.used), p.refused, p.failed)
	if len(p.used) < 1+renewals || p.refused > 0 {
		t.Errorf("got %d credentials used and %d requests refused", len(p.used), p.refused)
	}
	if (p.failed > 2) != (returns > 0) {
		t.Errorf("the STS failed %d times", p.failed)
	}
}

// TestMinIOForgetsCredentials: those of another server, or of one that lost its data,
// are not known, and there is no others to be had without asking.
func TestMinIOForgetsCredentials(t *testing.T) {
	s := server.MinIO(t)
	s.Bucket(t, "bucket")
	forge := true
	endpoint := s.Forward(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		got := httptest.NewRecorder()
		next.ServeHTTP(got, r)
		body := got.Body.String()
		if forge {
			body = strings.Replace(body, "</AccessKeyId>", "X</AccessKeyId>", 1)
			forge = false
		}
		w.Header()["Date"] = got.Header()["Date"]
		w.WriteHeader(got.Code)
		_, _ = io.WriteString(w, body)
	})
	c := configOf(s, s.Credentials, Location{"bucket", s.Endpoint, "p/"})
	c.Role = minioRole(endpoint)
	if err := open(t, c).Put(t.Context(), "k", []byte("x")); err != nil {
		t.Errorf("got %v, want that the role is assumed again", err)
	}
}
