package s3

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"valise/store"
	"valise/store/storetest/server"
)

// onInstance has the SDK find the instance.
func onInstance(t *testing.T, i *server.Instance) {
	t.Helper()
	cleanEnvironment(t)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", i.Endpoint)
}

func TestInstanceRoleOnMinIO(t *testing.T) {
	s := server.MinIO(t)
	s.Bucket(t, "bucket")
	const life = 2 * time.Second
	i := server.Metadata(t, func() (server.Credentials, time.Time) {
		return s.User(t, server.Policy("bucket", "p/")), time.Now().Add(life)
	})
	var mu sync.Mutex
	used := map[string]bool{}
	endpoint := s.Forward(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		mu.Lock()
		used[request{header: r.Header}.signer()] = true
		mu.Unlock()
		next.ServeHTTP(w, r)
	})
	onInstance(t, i)
	b := open(t, Config{Location: Location{"bucket", endpoint, "p/"}, AccessKeyID: IAM})
	began := time.Now()
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for n := 0; time.Since(began) < 4*life; n++ {
				key := store.Key(fmt.Sprint(worker, "-", n%10))
				if err := b.Put(t.Context(), key, []byte("x")); err != nil {
					t.Errorf("after %s: %v", time.Since(began), err)
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	all.Wait()
	if l, err := b.List(t.Context(), "", "", 100); err != nil || len(l.Objects) != 40 {
		t.Errorf("got %d objects, %v", len(l.Objects), err)
	}
	asked := i.Asked()
	t.Logf("%d credentials used, %+v", len(used), asked)
	if len(used) < 3 || asked.Credentials < len(used) {
		t.Errorf("got %d credentials used, of %d given, in the time of four", len(used), asked.Credentials)
	}
	if asked.Tokens < 1 || asked.Refused != 0 {
		t.Errorf("got %+v, want no request without a token", asked)
	}
}

// TestInstanceRoleThatEndsEarly: the store does not take what the instance gave, though
// by its time it should.
func TestInstanceRoleThatEndsEarly(t *testing.T) {
	given := 0
	i := server.Metadata(t, func() (server.Credentials, time.Time) {
		given++
		return server.Credentials{AccessKey: fmt.Sprint("ROLE-", given), SecretKey: testSecret, SessionToken: testToken},
			time.Now().Add(time.Hour)
	})
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		if r.signer() == "ROLE-1" && n > 1 {
			refuse(w, 400, "ExpiredToken", "It ended.", "")
		}
	})
	c := f.config(t)
	onInstance(t, i)
	c.AccessKeyID, c.SecretAccessKey, c.SessionToken = IAM, "", ""
	b := open(t, c)
	for range 3 {
		if err := b.Put(t.Context(), "k", nil); err != nil {
			t.Error(err)
		}
	}
	if asked := i.Asked(); asked.Credentials != 2 || asked.Refused != 0 || f.count() != 4 {
		t.Errorf("got %+v and %d requests, want the credentials asked for twice", asked, f.count())
	}
}

// TestInstanceMayNotFallBack: an answer that IMDSv2 is not there leads to no request
// without a token.
func TestInstanceMayNotFallBack(t *testing.T) {
	plain := 0
	v1 := newFake(t, func(w http.ResponseWriter, r request, n int) {
		if r.header.Get("X-Aws-Ec2-Metadata-Token") == "" && r.method != http.MethodPut {
			plain++
		}
		w.WriteHeader(http.StatusNotFound)
	})
	c := Config{Location: Location{"bucket", "http://127.0.0.1:1", "p/"}, AccessKeyID: IAM, MaxAttempts: 1}
	cleanEnvironment(t)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", v1.URL)
	t.Setenv("AWS_EC2_METADATA_V1_DISABLED", "false")
	_, err := open(t, c).List(t.Context(), "", "", 1)
	wantKind(t, "IMDSv1", err, store.ErrUnavailable, "no credentials")
	if plain != 0 || v1.count() == 0 {
		t.Errorf("got %d requests, %d of them without a token", v1.count(), plain)
	}
}
