package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"valise/store"
)

// assumedRole answers an AssumeRole with credentials of that access key.
func assumedRole(w http.ResponseWriter, key string, ends time.Time) {
	fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>`+
		`<AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken>`+
		`<Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`,
		key, testSecret, testToken, ends.UTC().Format(time.RFC3339))
}

func refuseRole(w http.ResponseWriter, status int, code, message string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error></ErrorResponse>`, code, message)
}

func isAssumeRole(r request) bool { return r.method == http.MethodPost && r.path == "/" }

// signer is the access key of a request.
func (r request) signer() string {
	_, scope, _ := strings.Cut(r.header.Get("Authorization"), "Credential=")
	key, _, _ := strings.Cut(scope, "/")
	return key
}

// withRole is a fake's configuration with a role, whose STS is the fake too.
func withRole(t *testing.T, f *fake) Config {
	c := f.config(t)
	c.Role = &Role{ARN: testRole, Endpoint: f.URL}
	return c
}

func TestAssumeRole(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		if isAssumeRole(r) {
			assumedRole(w, "ROLE", time.Now().Add(time.Hour))
			return
		}
		emptyList(w)
	})
	c := withRole(t, f)
	c.Role.Duration = 90 * time.Minute
	c.Location.Prefix = "alice smith/"
	t.Setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1") // the configuration alone counts
	t.Setenv("AWS_USE_FIPS_ENDPOINT", "true")
	b := open(t, c)
	if f.count() != 0 {
		t.Errorf("got %d requests before one is needed", f.count())
	}
	for range 3 {
		if _, err := b.List(t.Context(), "", "", 1); err != nil {
			t.Fatal(err)
		}
	}
	all := f.requests()
	if len(all) != 4 || all[0].signer() != testKey || all[0].header.Get("X-Amz-Security-Token") != testToken {
		t.Fatalf("got %d requests, the first one by %s", len(all), all[0].signer())
	}
	form, err := url.ParseQuery(all[0].body)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := sessionPolicy(c.Location, "aws")
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"Action": {"AssumeRole"}, "Version": {"2011-06-15"}, "RoleArn": {testRole}, "DurationSeconds": {"5400"},
		"RoleSessionName": {sessionName(c.Location)}, "Policy": {policy},
	}
	if diff := cmp.Diff(want, form); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, r := range all[1:] {
		if r.signer() != "ROLE" {
			t.Errorf("got a request of %s", r.signer())
		}
	}
}

func TestRegionalSTSOfAWS(t *testing.T) {
	for name, c := range map[string]struct{ arn, region, want string }{
		"configured": {testRole, "eu-west-1", "sts.eu-west-1.amazonaws.com/ eu-west-1"},
		"GovCloud":   {"arn:aws-us-gov:iam::1:role/r", "us-gov-west-1", "sts.us-gov-west-1.amazonaws.com/ us-gov-west-1"},
		"China":      {"arn:aws-cn:iam::1:role/r", "cn-north-1", "sts.cn-north-1.amazonaws.com.cn/ cn-north-1"},
		"asked":      {testRole, "", "sts.us-east-1.amazonaws.com/ us-east-1"},
	} {
		t.Run(name, func(t *testing.T) {
			f, config := amazonConfig(t, func(w http.ResponseWriter, r request, n int) {
				if strings.HasPrefix(r.host, "sts.") {
					assumedRole(w, "ROLE", time.Now().Add(time.Hour))
					return
				}
				located("eu-north-1")(w, r, n)
			})
			config.Region, config.Role = c.region, &Role{ARN: c.arn}
			config.MaxAttempts = 1
			b, err := New(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			_, _ = b.credentials.Retrieve(t.Context())
			if got := f.where()[0]; got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestSTSThatFails(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r request, n int) { emptyList(w) })
	for name, test := range map[string]struct {
		answer answer
		kind   error
		want   string
		asked  int
	}{
		"denied": {func(w http.ResponseWriter, r request, n int) {
			refuseRole(w, 403, "AccessDenied", "User: u is not authorized to perform: sts:AssumeRole")
		}, store.ErrDenied, "status 403 AccessDenied: User: u is not authorized to perform: sts:AssumeRole", 1},
		"duration": {func(w http.ResponseWriter, r request, n int) {
			refuseRole(w, 400, "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
		}, nil, "MaxSessionDuration", 1},
		"broken": {func(w http.ResponseWriter, r request, n int) {
			refuseRole(w, 500, "InternalFailure", "Sorry.")
		}, store.ErrUnavailable, "500 InternalFailure: Sorry. (3 attempts)", 3},
		"no STS": {func(w http.ResponseWriter, r request, n int) {
			w.WriteHeader(404)
			fmt.Fprint(w, "<html>")
		}, nil, "status 404", 1},
		"incomplete": {func(w http.ResponseWriter, r request, n int) {
			assumedRole(w, "", time.Now().Add(time.Hour))
		}, nil, "answers without whole credentials", 1},
		"ended": {func(w http.ResponseWriter, r request, n int) {
			assumedRole(w, "ROLE", time.Now())
		}, nil, "credentials that end at once", 1},
	} {
		sts := newFake(t, test.answer)
		c := f.config(t)
		c.Role = &Role{ARN: testRole, Endpoint: sts.URL}
		_, err := open(t, c).List(t.Context(), "", "", 1)
		wantKind(t, name, err, test.kind, test.want)
		wantKind(t, name, err, test.kind, "no credentials: assume role "+testRole+": STS at "+sts.URL)
		if sts.count() != test.asked {
			t.Errorf("%s: the STS was asked %d times, want %d", name, sts.count(), test.asked)
		}
	}

	away := newFake(t, nil)
	away.Close()
	c := f.config(t)
	c.Role = &Role{ARN: testRole, Endpoint: away.URL}
	b := open(t, c)
	for range 2 {
		_, err := b.List(t.Context(), "", "", 1)
		wantKind(t, "away", err, store.ErrUnavailable, "STS at "+away.URL+": ")
		wantKind(t, "away", err, store.ErrUnavailable, "connection refused (3 attempts)")
	}

	c.AccessKeyID, c.SecretAccessKey, c.SessionToken = "", "", ""
	_, err := open(t, c).List(t.Context(), "", "", 1)
	wantKind(t, "no credentials for it", err, store.ErrDenied, "no credentials: assume role")
	if f.count() != 0 {
		t.Errorf("got %d requests without credentials", f.count())
	}
}

func TestSTSThatHangs(t *testing.T) {
	release := make(chan struct{})
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		<-release
		assumedRole(w, "ROLE", time.Now().Add(time.Hour))
	})
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := open(t, withRole(t, f)).Put(ctx, "k", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// TestCredentialsThatEndEarly: the store does not take what the STS gave, though by its
// time it should.
func TestCredentialsThatEndEarly(t *testing.T) {
	for code, status := range map[string]int{"ExpiredToken": 400, "InvalidAccessKeyId": 403, "InvalidTokenId": 403} {
		t.Run(code, func(t *testing.T) {
			var roles, refused atomic.Int64
			ended := sync.Map{}
			f := newFake(t, func(w http.ResponseWriter, r request, n int) {
				_, gone := ended.Load(r.signer())
				switch {
				case isAssumeRole(r):
					assumedRole(w, fmt.Sprint("ROLE-", roles.Add(1)), time.Now().Add(time.Hour))
				case gone:
					refused.Add(1)
					refuse(w, status, code, "It ended.", "")
				default:
					if r.body != "body" {
						t.Errorf("got body %q", r.body)
					}
				}
			})
			b := open(t, withRole(t, f))
			put := func() error { return b.Put(t.Context(), "k", []byte("body")) }
			if err := put(); err != nil {
				t.Fatal(err)
			}
			ended.Store("ROLE-1", nil)
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					if err := put(); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if roles.Load() != 2 {
				t.Errorf("got %d roles assumed, want 2", roles.Load())
			}

			// A store that takes none: an error, and no flood.
			for i := range 10 {
				ended.Store(fmt.Sprint("ROLE-", i+1), nil)
			}
			refused.Store(0)
			for range 10 {
				wantKind(t, "all refused", put(), store.ErrDenied, "It ended.")
			}
			if roles.Load() > 3 || refused.Load() > 11 {
				t.Errorf("got %d roles assumed and %d requests", roles.Load(), refused.Load())
			}
		})
	}
}

func TestSTSIsAwayWhenCredentialsEndEarly(t *testing.T) {
	var broken atomic.Bool
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		switch {
		case isAssumeRole(r) && broken.Load():
			refuseRole(w, 500, "InternalFailure", "Sorry.")
		case isAssumeRole(r):
			assumedRole(w, "ROLE", time.Now().Add(time.Hour))
		case broken.Load():
			refuse(w, 400, "ExpiredToken", "It ended.", "")
		}
	})
	b := open(t, withRole(t, f))
	if err := b.Put(t.Context(), "k", nil); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	wantKind(t, "put", b.Put(t.Context(), "k", nil), store.ErrUnavailable, "STS at "+f.URL)
	broken.Store(false)
	if err := b.Put(t.Context(), "k", nil); err != nil {
		t.Error(err)
	}
}

// TestStaticCredentialsAreNotRenewed: there are no others.
func TestStaticCredentialsAreNotRenewed(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		refuse(w, 403, "InvalidAccessKeyId", "It does not exist.", "")
	})
	wantKind(t, "put", f.open(t).Put(t.Context(), "k", nil), store.ErrDenied, "InvalidAccessKeyId")
	if f.count() != 1 {
		t.Errorf("got %d requests, want one", f.count())
	}
}
