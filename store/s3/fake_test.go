package s3

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	testKey    = "AKIDTESTTEST"
	testSecret = "the/secret/of/the/test"
	testToken  = "the-session-token"
)

// request is what a fake store was sent.
type request struct {
	method, host, path, query string
	header                    http.Header
	body                      string
}

// region is what it was signed for.
func (r request) region() string {
	_, scope, _ := strings.Cut(r.header.Get("Authorization"), "Credential=")
	if parts := strings.Split(scope, "/"); len(parts) > 2 {
		return parts[2]
	}
	return ""
}

// fake is a store that does what a test cannot make a real one do.
type fake struct {
	*httptest.Server

	mu   sync.Mutex
	seen []request
}

// answer makes the answer to the n-th request, counted from 1.
type answer func(w http.ResponseWriter, r request, n int)

func newFake(t *testing.T, a answer) *fake {
	f := &fake{}
	f.Server = httptest.NewServer(f.handler(a))
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

func (f *fake) handler(a answer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		req := request{r.Method, r.Host, r.URL.Path, r.URL.RawQuery, r.Header, string(body)}
		f.mu.Lock()
		f.seen = append(f.seen, req)
		n := len(f.seen)
		f.mu.Unlock()
		a(w, req, n)
	})
}

func (f *fake) requests() []request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]request{}, f.seen...)
}

func (f *fake) count() int { return len(f.requests()) }

// config is one for the fake, whose retries are quick.
func (f *fake) config(t *testing.T) Config {
	t.Helper()
	cleanEnvironment(t)
	return Config{
		Location:    Location{"bucket", f.URL, "p/"},
		AccessKeyID: testKey, SecretAccessKey: testSecret, SessionToken: testToken,
		MaxAttempts: 3, Backoff: time.Millisecond,
	}
}

func (f *fake) open(t *testing.T) *Bucket {
	t.Helper()
	return open(t, f.config(t))
}

// cleanEnvironment keeps what is set for AWS outside of the test out of it.
func cleanEnvironment(t *testing.T) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
}

// refuse answers with an S3 error.
func refuse(w http.ResponseWriter, status int, code, message, more string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>%s</Message>%s`+
		`<AWSAccessKeyId>%s</AWSAccessKeyId><RequestId>R1</RequestId></Error>`, code, message, more, testKey)
}

// partial answers with a range of body, which it cuts off after n bytes.
func partial(w http.ResponseWriter, r request, body string, n int) {
	status := http.StatusOK
	var first, last int
	if _, err := fmt.Sscanf(r.header.Get("Range"), "bytes=%d-%d", &first, &last); err == nil {
		status = http.StatusPartialContent
		last = min(last, len(body)-1)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(body)))
		body = body[first : last+1]
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if n < len(body) {
		_, _ = io.WriteString(w, body[:n])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(w, body)
}

func emptyList(w http.ResponseWriter) {
	fmt.Fprint(w, `<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>`)
}

// amazonConfig is one for a fake that answers, with TLS, for all hosts of AWS.
func amazonConfig(t *testing.T, a answer) (*fake, Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fake"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{
			"*.s3.us-east-1.amazonaws.com", "s3.us-east-1.amazonaws.com", "*.s3.eu-west-1.amazonaws.com",
			"*.s3.eu-north-1.amazonaws.com", "*.s3-accelerate.amazonaws.com", "*.s3-fips.us-gov-west-1.amazonaws.com",
			"sts.eu-west-1.amazonaws.com", "sts.us-east-1.amazonaws.com", "sts.us-gov-west-1.amazonaws.com", "sts.cn-north-1.amazonaws.com.cn",
			"*.bucket.vpce-1a2b-3c.s3.us-west-2.vpce.amazonaws.com",
		},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{}
	f.Server = httptest.NewUnstartedServer(f.handler(a))
	f.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	f.StartTLS()
	t.Cleanup(f.Close)

	c := f.config(t)
	c.Location.Endpoint = ""
	c.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(c.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	c.dial = dialTo(f.Listener.Addr().String())
	return f, c
}
