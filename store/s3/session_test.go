package s3

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// assumed is a session whose STS is a function of the test, which is told the number of
// its call.
func assumed(log *slog.Logger, answer func(n int) (time.Duration, error)) (*session, *int) {
	n := new(int)
	return &session{log: log, assume: func(ctx context.Context) (aws.Credentials, time.Duration, error) {
		*n++
		call := *n
		life, err := answer(call)
		if err != nil {
			return aws.Credentials{}, 0, err
		}
		return aws.Credentials{AccessKeyID: fmt.Sprint("key-", call)}, life, nil
	}}, n
}

func TestSessionRenewsInTimeAndNothingWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, calls := assumed(slog.New(slog.DiscardHandler), func(n int) (time.Duration, error) {
			if n > 1 {
				time.Sleep(10 * time.Second) // a slow STS
			}
			return time.Hour, nil
		})
		used := map[string]time.Duration{}
		began := time.Now()
		for time.Since(began) < 10*time.Hour {
			at := time.Now()
			c, err := s.Retrieve(t.Context())
			if err != nil || !time.Now().Equal(at) {
				t.Fatalf("after %s: got %v after %s", time.Since(began), err, time.Since(at))
			}
			used[c.AccessKeyID] += time.Second
			time.Sleep(time.Second)
		}
		// 36 to 45 minutes each.
		if len(used) < 13 || len(used) > 17 || *calls > len(used)+1 {
			t.Errorf("got %d credentials by %d calls in 10 hours", len(used), *calls)
		}
		for key, d := range used {
			if d > 46*time.Minute {
				t.Errorf("%s was used for %s", key, d)
			}
		}
		synctest.Wait() // and the bubble ends: no goroutine is left
	})
}

func TestSessionOutlivesAnSTSThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		began := time.Now()
		away := errors.New("it is away")
		s, calls := assumed(slog.New(slog.NewTextHandler(&log, nil)), func(n int) (time.Duration, error) {
			if d := time.Since(began); d > 30*time.Minute && d < 59*time.Minute || d > 3*time.Hour {
				return 0, away
			}
			return time.Hour, nil
		})
		last := ""
		for time.Since(began) < 3*time.Hour {
			c, err := s.Retrieve(t.Context())
			if err != nil {
				t.Fatalf("after %s: %v", time.Since(began), err)
			}
			last = c.AccessKeyID
			time.Sleep(time.Second)
		}
		if *calls < 10 || *calls > 60 {
			t.Errorf("got %d calls, want one or two a minute while it was away", *calls)
		}
		if got := log.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, "it is away") {
			t.Errorf("got log %s", got)
		}
		// For good: to the end of the last ones, and no further.
		for {
			c, err := s.Retrieve(t.Context())
			if err != nil {
				if !errors.Is(err, away) {
					t.Errorf("got %v", err)
				}
				break
			}
			if c.AccessKeyID != last {
				t.Fatalf("got %s after %s", c.AccessKeyID, last)
			}
			time.Sleep(time.Second)
		}
		if d := time.Since(began); d < 3*time.Hour+15*time.Minute || d > 4*time.Hour {
			t.Errorf("ended after %s", d)
		}
	})
}

func TestSessionWaitsForItsFirstCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, calls := assumed(slog.New(slog.DiscardHandler), func(n int) (time.Duration, error) {
			time.Sleep(time.Minute)
			return time.Hour, nil
		})
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range 10 {
			go func() {
				if c, err := s.Retrieve(t.Context()); err != nil || c.AccessKeyID != "key-1" {
					t.Errorf("got %s, %v", c.AccessKeyID, err)
				}
			}()
		}
		if _, err := s.Retrieve(impatient); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		time.Sleep(2 * time.Minute)
		s.Invalidate()
		if c, err := s.Retrieve(t.Context()); err != nil || c.AccessKeyID != "key-2" || *calls != 2 {
			t.Errorf("got %s, %v after %d calls", c.AccessKeyID, err, *calls)
		}
	})
}
