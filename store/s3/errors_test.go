package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/smithy-go"

	"valise/store"
)

var kinds = []error{store.ErrNotExist, store.ErrExist, store.ErrDenied, store.ErrUnavailable}

// wantKind checks that err is of that kind alone (nil is none of them), says want and
// no secret.
func wantKind(t *testing.T, what string, err, kind error, want string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: got no error", what)
		return
	}
	for _, k := range kinds {
		if errors.Is(err, k) != (k == kind) {
			t.Errorf("%s: got %v, want it to be %v alone", what, err, kind)
		}
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("%s: got %v, want %q in it", what, err, want)
	}
	for _, secret := range []string{testSecret, testToken, "Signature="} {
		if strings.Contains(fmt.Sprintf("%v %+v", err, err), secret) {
			t.Errorf("%s: the error has a secret: %v", what, err)
		}
	}
}

func TestAnswersThatAreErrors(t *testing.T) {
	for _, c := range []struct {
		status        int
		code, message string
		kind          error
		want          string
	}{
		{404, "NoSuchKey", "The specified key does not exist.", store.ErrNotExist, "get dir/k: object does not exist"},
		{404, "NoSuchBucket", "The specified bucket does not exist", nil, `there is no bucket "bucket"`},
		{404, "NoSuchUpload", "what?", nil, "what?"},
		{403, "AccessDenied", "Access Denied", store.ErrDenied, "403 AccessDenied: Access Denied"},
		{403, "SignatureDoesNotMatch", "Check your key.", store.ErrDenied, "Check your key."},
		{403, "InvalidAccessKeyId", "It does not exist.", store.ErrDenied, "InvalidAccessKeyId"},
		{403, "AllAccessDisabled", "Off.", store.ErrDenied, "AllAccessDisabled"},
		{400, "ExpiredToken", "The provided token has expired.", store.ErrDenied, "has expired"},
		{403, "RequestTimeTooSkewed", "The difference is too large.", nil, "clock is wrong"},
		{412, "PreconditionFailed", "No.", store.ErrExist, "object exists"},
		{409, "ConditionalRequestConflict", "Retry.", store.ErrUnavailable, "3 attempts"},
		{429, "TooMany", "Later.", store.ErrUnavailable, "Later."},
		{400, "RequestTimeout", "Your socket.", store.ErrUnavailable, "RequestTimeout"},
		{501, "NotImplemented", "A header.", nil, "NotImplemented: A header."},
		{503, "ServiceUnavailable", "Later.", store.ErrUnavailable, "ServiceUnavailable"},
		{416, "InvalidRange", "Not satisfiable.", nil, "ends before the range"},
		{400, "InvalidArgument", "What?", nil, "InvalidArgument: What?"},
		{301, "PermanentRedirect", "Elsewhere.", nil, "the region or the endpoint is not the bucket's"},
	} {
		f := newFake(t, func(w http.ResponseWriter, r request, n int) {
			refuse(w, c.status, c.code, c.message, "")
		})
		_, err := f.open(t).Get(t.Context(), "dir/k")
		wantKind(t, c.code, err, c.kind, c.want)
		var api smithy.APIError
		if !errors.As(err, &api) || api.ErrorCode() != c.code {
			t.Errorf("%s: got %v, want the SDK's error behind it", c.code, err)
		}
	}
}

// TestAnswersOfProxies are those of what stands between, which do not speak S3.
func TestAnswersOfProxies(t *testing.T) {
	for status, kind := range map[int]error{
		401: store.ErrDenied, 403: store.ErrDenied, 404: nil, 400: nil, 502: store.ErrUnavailable, 504: store.ErrUnavailable,
	} {
		for _, body := range []string{"", "<html><body>Sorry<br></body></html>", "plain"} {
			f := newFake(t, func(w http.ResponseWriter, r request, n int) {
				w.WriteHeader(status)
				_, _ = w.Write([]byte(body))
			})
			b := f.open(t)
			_, err := b.Get(t.Context(), "k")
			wantKind(t, fmt.Sprintf("get, %d %q", status, body), err, kind, strconv.Itoa(status))
			_, err = b.List(t.Context(), "", "", 1)
			wantKind(t, fmt.Sprintf("list, %d %q", status, body), err, kind, strconv.Itoa(status))
		}
	}
}

func TestAnswersThatAreNotWhatWasAskedFor(t *testing.T) {
	const body = "0123456789"
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		want   string
	}{
		"the whole object": {func(w http.ResponseWriter) {
			_, _ = w.Write([]byte(body))
		}, "answers a range with status 200"},
		"another range": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 0-3/10")
			w.WriteHeader(206)
			_, _ = w.Write([]byte(body[:4]))
		}, `"bytes 0-3/10"`},
		"no range": {func(w http.ResponseWriter) {
			w.WriteHeader(206)
			_, _ = w.Write([]byte(body[2:6]))
		}, "answers bytes 2-5"},
		"a length that is not the range's": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 2-5/10")
			w.WriteHeader(206)
			_, _ = w.Write([]byte(body[2:5]))
		}, "length 3"},
		"a longer range": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 2-6/10")
			w.WriteHeader(206)
			_, _ = w.Write([]byte(body[2:7]))
		}, "length 5"},
		"a shorter range": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 2-3/4")
			w.WriteHeader(206)
			_, _ = w.Write([]byte(body[2:4]))
		}, "the object ends at byte 4"},
	} {
		f := newFake(t, func(w http.ResponseWriter, r request, n int) { c.answer(w) })
		err := f.open(t).GetRange(t.Context(), "k", 2, make([]byte, 4))
		wantKind(t, name, err, nil, c.want)
		if f.count() != 1 {
			t.Errorf("%s: got %d requests, want one", name, f.count())
		}
	}
}

func TestGetRefusesLargeObjects(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		w.Header().Set("Content-Length", strconv.Itoa(store.MaxObject+1))
		_ = http.NewResponseController(w).Flush()
	})
	_, err := f.open(t).Get(t.Context(), "k")
	wantKind(t, "get", err, nil, "more than one may have")
}

func TestGetRefusesAnObjectOfUnknownLength(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		_ = http.NewResponseController(w).Flush() // so the body is chunked
		_, _ = w.Write([]byte("body"))
	})
	_, err := f.open(t).Get(t.Context(), "k")
	wantKind(t, "get", err, nil, "does not announce")
}

func TestListingsThatCannotBe(t *testing.T) {
	entry := func(key string) string {
		return "<Contents><Key>" + key + "</Key><Size>1</Size><LastModified>2020-01-02T03:04:05.000Z</LastModified></Contents>"
	}
	for name, c := range map[string]struct{ body, want string }{
		"out of order":          {entry("p/b") + entry("p/a"), "not after"},
		"twice":                 {entry("p/b") + entry("p/b"), "not after"},
		"start-after ignored":   {entry("p/A"), "not after"},
		"not below the prefix":  {entry("q/b"), "not below"},
		"more, but nothing yet": {"<IsTruncated>true</IsTruncated>", "lists none"},
	} {
		f := newFake(t, func(w http.ResponseWriter, r request, n int) {
			fmt.Fprintf(w, "<ListBucketResult>%s</ListBucketResult>", c.body)
		})
		_, err := f.open(t).List(t.Context(), "", "A", 10)
		wantKind(t, name, err, nil, c.want)
	}
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		w.Header()["Date"] = nil
		emptyList(w)
	})
	_, err := f.open(t).List(t.Context(), "", "", 10)
	wantKind(t, "no date", err, nil, "does not tell the time")
}

func TestListTellsTheStoresTime(t *testing.T) {
	at := time.Date(2021, 2, 3, 4, 5, 6, 0, time.UTC)
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		w.Header().Set("Date", at.Format(http.TimeFormat))
		emptyList(w)
	})
	if l, err := f.open(t).List(t.Context(), "", "", 10); err != nil || !l.Now.Equal(at) {
		t.Errorf("got %s, %v, want %s", l.Now, err, at)
	}
}

// TestWrongClock has a store whose clock is 20 minutes ahead: the SDK signs for it.
func TestWrongClock(t *testing.T) {
	store := func() time.Time { return time.Now().Add(20 * time.Minute) }
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		w.Header().Set("Date", store().UTC().Format(http.TimeFormat))
		signed, err := time.Parse("20060102T150405Z", r.header.Get("X-Amz-Date"))
		if err != nil || store().Sub(signed) > 15*time.Minute {
			refuse(w, 403, "RequestTimeTooSkewed", "The difference is too large.", "")
			return
		}
		emptyList(w)
	})
	b := f.open(t)
	for range 2 {
		if _, err := b.List(t.Context(), "", "", 10); err != nil {
			t.Error(err)
		}
	}
	if f.count() != 3 {
		t.Errorf("got %d requests, want that only the first one is refused", f.count())
	}
}

func TestNoConnection(t *testing.T) {
	f := newFake(t, nil)
	f.Close()
	_, err := f.open(t).Get(t.Context(), "k")
	wantKind(t, "refused", err, store.ErrUnavailable, "connection refused (3 attempts)")
	var op *net.OpError
	if !errors.As(err, &op) {
		t.Errorf("got %v, want the connection's error behind it", err)
	}

	c := f.config(t)
	c.dial = func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.DNSError{Err: "no such host", Name: "host", IsNotFound: true}
	}
	_, err = open(t, c).Get(t.Context(), "k")
	wantKind(t, "no name", err, store.ErrUnavailable, "no such host")

	c.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		d := net.Dialer{Deadline: time.Unix(1, 0)}
		return d.DialContext(ctx, network, address)
	}
	_, err = open(t, c).Get(t.Context(), "k")
	wantKind(t, "no answer", err, store.ErrUnavailable, "i/o timeout")
	if errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, which is taken for the end of the context", err)
	}
}

func TestRetriesAreLoggedWithoutSecrets(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		refuse(w, 503, "SlowDown", "Later.", "")
	})
	var log bytes.Buffer
	c := f.config(t)
	c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Put(t.Context(), "k", nil); err == nil {
		t.Error("got no error")
	}
	if got := log.String(); !strings.Contains(got, "level=DEBUG") || !strings.Contains(got, "retrying") ||
		strings.Contains(got, testSecret) || strings.Contains(got, testToken) || strings.Contains(got, "Signature") {
		t.Errorf("got %s", got)
	}
}
