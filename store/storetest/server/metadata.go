package server

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Instance is the metadata service of an EC2 instance with a role, IMDSv2 only.
type Instance struct {
	Endpoint string // for AWS_EC2_METADATA_SERVICE_ENDPOINT

	role func() (Credentials, time.Time)

	mu     sync.Mutex
	tokens map[string]time.Time // and when they end
	counts Asked
}

// Asked is how often an Instance was asked.
type Asked struct {
	Tokens      int // for a session token
	Credentials int // for the role's credentials
	Refused     int // without a token, as in IMDSv1, or with a wrong or old one
}

const (
	tokenPath = "/latest/api/token"
	rolesPath = "/latest/meta-data/iam/security-credentials/"
	roleName  = "role-of-the-test"
	tokenTTL  = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	token     = "X-Aws-Ec2-Metadata-Token"
)

// Metadata starts an Instance. role makes the credentials of each answer, and says when
// they end.
func Metadata(t testing.TB, role func() (Credentials, time.Time)) *Instance {
	t.Helper()
	i := &Instance{role: role, tokens: map[string]time.Time{}}
	s := httptest.NewServer(i)
	t.Cleanup(s.Close)
	i.Endpoint = s.URL
	return i
}

// Asked counts so far.
func (i *Instance) Asked() Asked {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.counts
}

// ServeHTTP implements http.Handler.
func (i *Instance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == tokenPath:
		i.giveToken(w, r)
	case !i.admits(r.Header.Get(token)):
		w.WriteHeader(http.StatusUnauthorized)
	case r.Method != http.MethodGet:
		w.WriteHeader(http.StatusMethodNotAllowed)
	case r.URL.Path == rolesPath:
		_, _ = fmt.Fprint(w, roleName)
	case r.URL.Path == rolesPath+roleName:
		i.mu.Lock()
		i.counts.Credentials++
		i.mu.Unlock()
		c, ends := i.role()
		_ = json.NewEncoder(w).Encode(map[string]string{
			"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": time.Now().UTC().Format(time.RFC3339),
			"AccessKeyId": c.AccessKey, "SecretAccessKey": c.SecretKey, "Token": c.SessionToken,
			"Expiration": ends.UTC().Format(time.RFC3339Nano),
		})
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (i *Instance) giveToken(w http.ResponseWriter, r *http.Request) {
	seconds, err := strconv.Atoi(r.Header.Get(tokenTTL))
	switch {
	case r.Method != http.MethodPut:
		w.WriteHeader(http.StatusMethodNotAllowed)
	case err != nil || seconds < 1 || seconds > 21600:
		w.WriteHeader(http.StatusBadRequest)
	case r.Header.Get("X-Forwarded-For") != "":
		w.WriteHeader(http.StatusForbidden)
	default:
		name := rand.Text()
		i.mu.Lock()
		i.counts.Tokens++
		i.tokens[name] = time.Now().Add(time.Duration(seconds) * time.Second)
		i.mu.Unlock()
		w.Header().Set(tokenTTL, strconv.Itoa(seconds))
		_, _ = fmt.Fprint(w, name)
	}
}

func (i *Instance) admits(token string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	ends, known := i.tokens[token]
	if !known || time.Now().After(ends) {
		i.counts.Refused++
		return false
	}
	return true
}
