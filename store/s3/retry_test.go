package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"valise/store"
)

func TestBusyStoreIsAskedAgain(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		switch n {
		case 1:
			refuse(w, 503, "SlowDown", "Please reduce your request rate.", "")
		case 2:
			refuse(w, 500, "InternalError", "Try again.", "")
		default:
			if r.body != "body" {
				t.Errorf("attempt %d has body %q", n, r.body)
			}
		}
	})
	b := f.open(t)
	if err := b.Put(t.Context(), "k", []byte("body")); err != nil || f.count() != 3 {
		t.Errorf("got %v after %d requests, want success at the third", err, f.count())
	}
}

func TestAttemptsAreCounted(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		refuse(w, 503, "SlowDown", "Please reduce your request rate.", "")
	})
	c := f.config(t)
	t.Setenv("AWS_MAX_ATTEMPTS", "9")
	t.Setenv("AWS_RETRY_MODE", "adaptive")
	b := open(t, c)
	for i := range 300 { // more than a quota of retries would allow
		if err := b.Put(t.Context(), "k", nil); !errors.Is(err, store.ErrUnavailable) ||
			!strings.Contains(err.Error(), "SlowDown") || !strings.Contains(err.Error(), "3 attempts") {
			t.Fatalf("call %d: got %v", i, err)
		}
	}
	if f.count() != 900 {
		t.Errorf("got %d requests, want 3 for each of 300 calls", f.count())
	}
}

// TestLostAnswerOfACreate has the first request take effect and its answer lost, so
// that the second one finds its own object.
func TestLostAnswerOfACreate(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		if r.header.Get("If-None-Match") != "*" {
			t.Errorf("request %d is not conditional", n)
		}
		if n == 1 {
			panic(http.ErrAbortHandler)
		}
		refuse(w, 412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold", "")
	})
	if err := f.open(t).Create(t.Context(), "k", []byte("x")); !errors.Is(err, store.ErrExist) || f.count() != 2 {
		t.Errorf("got %v after %d requests, want %v after 2", err, f.count(), store.ErrExist)
	}
}

func TestConflictOfCreatesIsAskedAgain(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		if n < 3 {
			refuse(w, 409, "ConditionalRequestConflict", "Retry.", "")
		}
	})
	if err := f.open(t).Create(t.Context(), "k", nil); err != nil || f.count() != 3 {
		t.Errorf("got %v after %d requests", err, f.count())
	}
}

func TestShortBodies(t *testing.T) {
	const body = "0123456789"
	var bad int
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		sent := len(body)
		if bad > 0 {
			sent, bad = bad%4, bad-1
		}
		partial(w, r, body, sent)
	})
	b := f.open(t)
	p := make([]byte, 5)
	read := func() (string, error) {
		got, err := b.Get(t.Context(), "k")
		return string(got), err
	}
	readRange := func() (string, error) {
		err := b.GetRange(t.Context(), "k", 2, p)
		return string(p), err
	}
	for name, c := range map[string]struct {
		read func() (string, error)
		want string
	}{"get": {read, body}, "range": {readRange, body[2:7]}} {
		bad = 2
		if got, err := c.read(); err != nil || got != c.want {
			t.Errorf("%s: got %q, %v, want %q at the third attempt", name, got, err, c.want)
		}
		bad = 3
		if _, err := c.read(); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: got %v, want %v and %v", name, err, store.ErrUnavailable, io.ErrUnexpectedEOF)
		}
	}
	if f.count() != 12 {
		t.Errorf("got %d requests, want 12", f.count())
	}
}

func TestShortListing(t *testing.T) {
	const listing = "<ListBucketResult><Contents><Key>p/a</Key><Size>1</Size></Contents></ListBucketResult>"
	bad := 2
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		sent := len(listing)
		if bad > 0 {
			sent, bad = 30, bad-1
		}
		partial(w, r, listing, sent)
	})
	b := f.open(t)
	if l, err := b.List(t.Context(), "", "", 10); err != nil || len(l.Objects) != 1 || f.count() != 3 {
		t.Errorf("got %+v, %v after %d requests, want the third answer", l, err, f.count())
	}
	bad = 3
	if _, err := b.List(t.Context(), "", "", 10); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("got %v, want %v", err, store.ErrUnavailable)
	}
}

func TestWrongChecksumOfAnAnswer(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		if r.header.Get("X-Amz-Checksum-Mode") != "ENABLED" {
			t.Errorf("request %d asks for no checksum", n)
		}
		w.Header().Set("X-Amz-Checksum-Crc32", checksum([]byte("0123456789")))
		partial(w, r, []string{"", "012345678X", "0123456789"}[n], 10)
	})
	if got, err := f.open(t).Get(t.Context(), "k"); err != nil || string(got) != "0123456789" {
		t.Errorf("got %q, %v, want the body of the second attempt", got, err)
	}
}

func TestStalls(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		if strings.HasSuffix(r.path, "/body") {
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "01234")
			_ = http.NewResponseController(w).Flush()
		}
		<-release
	})
	c := f.config(t)
	c.Stall, c.MaxAttempts = 100*time.Millisecond, 2
	b := open(t, c)
	for i, key := range []store.Key{"head", "body"} {
		_, err := b.Get(t.Context(), key)
		if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "nothing moved for 100ms") {
			t.Errorf("%s: got %v, want %v", key, err, store.ErrUnavailable)
		}
		if want := 2 * (i + 1); f.count() != want {
			t.Errorf("%s: got %d requests, want %d", key, f.count(), want)
		}
	}
}

func TestASlowAnswerIsNotAStall(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		w.Header().Set("Content-Length", "15")
		for range 15 {
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(50 * time.Millisecond)
		}
	})
	c := f.config(t)
	c.Stall = 500 * time.Millisecond
	if got, err := open(t, c).Get(t.Context(), "k"); err != nil || len(got) != 15 || f.count() != 1 {
		t.Errorf("got %q, %v after %d requests", got, err, f.count())
	}
}

func TestContextEndsABackoffAndAHang(t *testing.T) {
	arrived := make(chan struct{}, 10)
	release := make(chan struct{})
	defer close(release)
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		arrived <- struct{}{}
		if strings.HasSuffix(r.path, "/hang") {
			<-release
		}
		refuse(w, 503, "SlowDown", "", "")
	})
	c := f.config(t)
	c.Backoff, c.MaxAttempts = time.Hour, 100
	b := open(t, c)
	for _, key := range []store.Key{"hang", "busy"} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-arrived
			cancel()
		}()
		if _, err := b.Get(ctx, key); !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: got %v, want %v", key, err, context.Canceled)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.Get(ctx, "hang"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
}

func TestDeleteStopsAtAnError(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		refuse(w, 403, "AccessDenied", "Access Denied", "")
	})
	var keys []store.Key
	for i := range 500 {
		keys = append(keys, store.Key(fmt.Sprint(i)))
	}
	if err := f.open(t).Delete(t.Context(), keys...); !errors.Is(err, store.ErrDenied) || f.count() > 4*deletions {
		t.Errorf("got %v after %d requests", err, f.count())
	}
}
