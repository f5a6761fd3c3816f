package s3

import (
	"context"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"valise/store"
)

func dialTo(address string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}
}

func TestConfigThatCannotBe(t *testing.T) {
	cleanEnvironment(t)
	good := Location{"bucket", "http://127.0.0.1:1", "p/"}
	for want, c := range map[string]Config{
		"no secret access key":          {Location: good, AccessKeyID: "a"},
		"no access key ID":              {Location: good, SecretAccessKey: testSecret},
		"goes without a secret":         {Location: good, AccessKeyID: IAM, SecretAccessKey: testSecret},
		"request checksum calculation":  {Location: good, RequestChecksumCalculation: "always"},
		"response checksum validation":  {Location: good, ResponseChecksumValidation: "always"},
		"read the CA file":              {Location: good, CAFile: filepath.Join(t.TempDir(), "missing")},
		"has no PEM certificate":        {Location: good, CAFile: os.DevNull},
		"prefix of its own":             {Location: Location{"bucket", "", ""}},
		"not in its canonical form":     {Location: Location{"bucket", "", "p"}},
		"is no bucket name":             {Location: Location{"b b", "", "p/"}},
		"neither http:// nor https://":  {Location: Location{"bucket", "ftp://h", "p/"}},
		"there is an @ in the endpoint": {Location: Location{"bucket", "https://u@h", "p/"}},
	} {
		_, err := New(t.Context(), c)
		wantKind(t, want, err, nil, want)
	}
}

func TestNewAsksACustomStoreNothing(t *testing.T) {
	f := newFake(t, nil)
	f.open(t)
	if f.count() != 0 {
		t.Errorf("got %+v", f.requests())
	}
}

func TestCredentials(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r request, n int) { emptyList(w) })
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte("[default]\naws_access_key_id=FILE\naws_secret_access_key=x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, prepare := range map[string]func(t *testing.T, c *Config){
		"AKIDTESTTEST the-session-token": func(t *testing.T, c *Config) {},
		"STATIC ":                        func(t *testing.T, c *Config) { c.AccessKeyID, c.SessionToken = "STATIC", "" },
		"ENV token": func(t *testing.T, c *Config) {
			c.AccessKeyID, c.SecretAccessKey, c.SessionToken = "", "", ""
			t.Setenv("AWS_ACCESS_KEY_ID", "ENV")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "x")
			t.Setenv("AWS_SESSION_TOKEN", "token")
		},
		"FILE ": func(t *testing.T, c *Config) {
			c.AccessKeyID, c.SecretAccessKey, c.SessionToken = "", "", ""
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
		},
	} {
		t.Run(want, func(t *testing.T) {
			c := f.config(t)
			prepare(t, &c)
			if _, err := open(t, c).List(t.Context(), "", "", 1); err != nil {
				t.Fatal(err)
			}
			all := f.requests()
			r := all[len(all)-1]
			id, _, _ := strings.Cut(strings.TrimPrefix(r.header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential="), "/")
			if got := id + " " + r.header.Get("X-Amz-Security-Token"); got != want {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestNoCredentials(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r request, n int) { emptyList(w) })
	c := f.config(t)
	c.AccessKeyID, c.SecretAccessKey, c.SessionToken = "", "", ""
	_, err := open(t, c).List(t.Context(), "", "", 1)
	wantKind(t, "list", err, store.ErrDenied, "no credentials")
	if f.count() != 0 {
		t.Errorf("got %d requests without credentials", f.count())
	}
}

// metadata is a fake of IMDSv2.
func metadata(t *testing.T, tokens bool) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/latest/api/token" && r.Method == http.MethodPut && tokens:
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
			fmt.Fprint(w, "imds-token")
		case !tokens && r.URL.Path == "/latest/api/token":
			w.WriteHeader(http.StatusNotFound) // as IMDSv1 does
		case tokens && r.Header.Get("X-Aws-Ec2-Metadata-Token") != "imds-token":
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasSuffix(r.URL.Path, "/security-credentials/"):
			fmt.Fprint(w, "role")
		case strings.HasSuffix(r.URL.Path, "/security-credentials/role"):
			fmt.Fprintf(w, `{"Code":"Success","AccessKeyId":"ROLE","SecretAccessKey":%q,"Token":%q,"Expiration":"2099-01-01T00:00:00Z"}`,
				testSecret, testToken)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func TestInstanceRole(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r request, n int) { emptyList(w) })
	ask := func(endpoint string) error {
		c := f.config(t)
		c.AccessKeyID, c.SecretAccessKey, c.SessionToken = IAM, "", ""
		t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
		t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint)
		t.Setenv("AWS_ACCESS_KEY_ID", "NOT-THIS")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "one")
		_, err := open(t, c).List(t.Context(), "", "", 1)
		return err
	}
	if err := ask(metadata(t, true).URL); err != nil {
		t.Fatal(err)
	}
	r := f.requests()[0]
	if got := r.header.Get("Authorization"); !strings.Contains(got, "Credential=ROLE/") || r.header.Get("X-Amz-Security-Token") != testToken {
		t.Errorf("got %s", got)
	}
	wantKind(t, "IMDSv1", ask(metadata(t, false).URL), store.ErrUnavailable, "no credentials")
	away := metadata(t, true)
	away.Close()
	wantKind(t, "no IMDS", ask(away.URL), store.ErrUnavailable, "no credentials")
	if f.count() != 1 {
		t.Errorf("got %d requests, want those without credentials unsent", f.count())
	}
}

func TestPutOverTLSIsNotChunked(t *testing.T) {
	f, c := amazonConfig(t, func(w http.ResponseWriter, r request, n int) {})
	c.Region = "eu-west-1"
	if err := open(t, c).Put(t.Context(), "k", []byte("body")); err != nil {
		t.Fatal(err)
	}
	r := f.requests()[0]
	got := []string{r.body, r.header.Get("Content-Encoding"), r.header.Get("X-Amz-Trailer"), r.header.Get("Expect"), r.header.Get("X-Amz-Checksum-Crc32")}
	if diff := cmp.Diff([]string{"body", "", "", "", checksum([]byte("body"))}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAuthorities(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { emptyList(w) }))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	t.Cleanup(s.Close)
	bundle := filepath.Join(t.TempDir(), "bundle.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(bundle, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	dials := 0
	ask := func(t *testing.T, set func(*Config)) error {
		c := (&fake{Server: s}).config(t)
		c.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			dials++
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
		set(&c)
		_, err := open(t, c).List(t.Context(), "", "", 1)
		return err
	}
	if err := ask(t, func(c *Config) { c.CAFile = bundle }); err != nil {
		t.Errorf("with a CA file: %v", err)
	}
	if err := ask(t, func(*Config) { t.Setenv("AWS_CA_BUNDLE", bundle) }); err != nil {
		t.Errorf("with AWS_CA_BUNDLE: %v", err)
	}
	dials = 0
	wantKind(t, "unknown authority", ask(t, func(*Config) {}), nil, "goes into the CA file")
	if dials != 1 {
		t.Errorf("got %d attempts with a certificate that stays wrong, want one", dials)
	}

	plain := newFake(t, nil)
	c := plain.config(t)
	c.Location.Endpoint = strings.Replace(plain.URL, "http:", "https:", 1)
	_, err := open(t, c).Get(t.Context(), "k")
	wantKind(t, "no TLS", err, nil, "does not speak TLS")
}
