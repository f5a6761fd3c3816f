package s3

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"valise/store"
)

// where says to which host and path, signed for which region, requests went.
func (f *fake) where() []string {
	var out []string
	for _, r := range f.requests() {
		out = append(out, r.host+r.path+" "+r.region())
	}
	return out
}

func located(in string) answer {
	return func(w http.ResponseWriter, r request, n int) {
		if r.query == "location=" || r.query == "location" {
			fmt.Fprintf(w, `<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">%s</LocationConstraint>`, in)
			return
		}
		emptyList(w)
	}
}

func TestRegionsOfAWS(t *testing.T) {
	const ask = "s3.us-east-1.amazonaws.com/bucket us-east-1"
	for name, test := range map[string]struct {
		endpoint, region, env, located string
		want                           []string
	}{
		"asked":        {"", "", "", "eu-north-1", []string{ask, "bucket.s3.eu-north-1.amazonaws.com/ eu-north-1"}},
		"asked, first": {"https://s3.amazonaws.com", "", "", "", []string{ask, "bucket.s3.us-east-1.amazonaws.com/ us-east-1"}},
		"asked, old":   {"", "", "", "EU", []string{ask, "bucket.s3.eu-west-1.amazonaws.com/ eu-west-1"}},
		"configured":   {"", "eu-west-1", "eu-north-1", "", []string{"bucket.s3.eu-west-1.amazonaws.com/ eu-west-1"}},
		"environment":  {"", "", "eu-north-1", "", []string{"bucket.s3.eu-north-1.amazonaws.com/ eu-north-1"}},
		"of the host":  {"https://s3.eu-west-1.amazonaws.com", "us-east-1", "", "", []string{"bucket.s3.eu-west-1.amazonaws.com/ eu-west-1"}},
		"FIPS":         {"https://s3-fips.us-gov-west-1.amazonaws.com", "", "", "", []string{"bucket.s3-fips.us-gov-west-1.amazonaws.com/ us-gov-west-1"}},
		"VPC endpoint": {"https://bucket.vpce-1a2b-3c.s3.us-west-2.vpce.amazonaws.com", "", "", "", []string{"bucket.bucket.vpce-1a2b-3c.s3.us-west-2.vpce.amazonaws.com/ us-west-2"}},
		"accelerated":  {"https://s3-accelerate.amazonaws.com", "", "", "eu-north-1", []string{ask, "bucket.s3-accelerate.amazonaws.com/ eu-north-1"}},
	} {
		t.Run(name, func(t *testing.T) {
			f, c := amazonConfig(t, located(test.located))
			c.Location.Endpoint, c.Region = test.endpoint, test.region
			if test.env != "" {
				t.Setenv("AWS_REGION", test.env)
			}
			t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1") // the URL alone counts
			if _, err := open(t, c).List(t.Context(), "", "", 1); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, f.where()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestRegionWithoutTheRightToAsk: the redirect of the first request tells it.
func TestRegionWithoutTheRightToAsk(t *testing.T) {
	f, c := amazonConfig(t, func(w http.ResponseWriter, r request, n int) {
		switch {
		case r.host == "s3.us-east-1.amazonaws.com":
			refuse(w, 403, "AccessDenied", "Access Denied", "")
		case r.region() != "eu-north-1":
			w.Header().Set(regionHeader, "eu-north-1")
			refuse(w, 301, "PermanentRedirect", "The bucket is elsewhere.", "")
		default:
			emptyList(w)
		}
	})
	b := open(t, c)
	for range 2 {
		if _, err := b.List(t.Context(), "", "", 1); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"s3.us-east-1.amazonaws.com/bucket us-east-1", "bucket.s3.us-east-1.amazonaws.com/ us-east-1",
		"bucket.s3.eu-north-1.amazonaws.com/ eu-north-1", "bucket.s3.eu-north-1.amazonaws.com/ eu-north-1",
	}
	if diff := cmp.Diff(want, f.where()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestNewTellsThatThereIsNoBucket(t *testing.T) {
	_, c := amazonConfig(t, func(w http.ResponseWriter, r request, n int) {
		refuse(w, 404, "NoSuchBucket", "The specified bucket does not exist", "")
	})
	_, err := New(t.Context(), c)
	wantKind(t, "new", err, nil, `there is no bucket "bucket"`)
}

func TestEndpointOfAnotherRegion(t *testing.T) {
	f, c := amazonConfig(t, func(w http.ResponseWriter, r request, n int) {
		w.Header().Set(regionHeader, "eu-north-1")
		refuse(w, 301, "PermanentRedirect", "The bucket is elsewhere.", "")
	})
	c.Location.Endpoint = "https://s3.eu-west-1.amazonaws.com"
	_, err := open(t, c).Get(t.Context(), "k")
	wantKind(t, "get", err, nil, `bucket "bucket" is in region eu-north-1: the URL's endpoint must be that region's`)
	if f.count() != 1 {
		t.Errorf("got %d requests, want one", f.count())
	}
}

// TestCustomStoreOfAnotherRegion is what MinIO and Garage answer to us-east-1.
func TestCustomStoreOfAnotherRegion(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		if r.region() != "garage" {
			refuse(w, 400, "AuthorizationHeaderMalformed", "The authorization header is malformed", "<Region>garage</Region>")
			return
		}
		if r.body != "body" {
			t.Errorf("request %d has body %q", n, r.body)
		}
	})
	b := f.open(t)
	for range 2 {
		if err := b.Put(t.Context(), "k", []byte("body")); err != nil {
			t.Fatal(err)
		}
	}
	if f.count() != 3 {
		t.Errorf("got %v, want that the region is remembered", f.where())
	}
}

func TestStoreThatSendsInCircles(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		other := map[string]string{"one": "two"}[r.region()]
		if other == "" {
			other = "one"
		}
		refuse(w, 400, "AuthorizationHeaderMalformed", "No.", "<Region>"+other+"</Region>")
	})
	_, err := f.open(t).Get(t.Context(), "k")
	wantKind(t, "get", err, nil, "the region or the endpoint is not the bucket's")
	if f.count() != 2 {
		t.Errorf("got %d requests, want 2", f.count())
	}
}

func TestDeniedIsNotARegion(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		refuse(w, 403, "AccessDenied", "No.", "<Region>garage</Region>")
	})
	_, err := f.open(t).Get(t.Context(), "k")
	wantKind(t, "get", err, store.ErrDenied, "AccessDenied")
	if f.count() != 1 {
		t.Errorf("got %d requests, want one", f.count())
	}
}
