package s3

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const testRole = "arn:aws:iam::123456789012:role/valise"

func TestRoleThatCannotBe(t *testing.T) {
	cleanEnvironment(t)
	store := Location{"bucket", "http://127.0.0.1:1", "p/"}
	amazon := Location{"bucket", "", "p/"}
	role := func(change func(*Role)) *Role {
		r := Role{ARN: testRole, Endpoint: "http://127.0.0.1:1"}
		change(&r)
		return &r
	}
	at := func(prefix string) Location { return Location{"bucket", "http://127.0.0.1:1", prefix} }
	good := role(func(r *Role) {})
	for want, c := range map[string]Config{
		"with it sts must be false":              {Location: store, AccessKeyID: IAM, Role: good},
		"14m59s is not 15m to 12h":               {Location: store, Role: role(func(r *Role) { r.Duration = 15*time.Minute - time.Second })},
		"12h0m1s is not 15m to 12h":              {Location: store, Role: role(func(r *Role) { r.Duration = 12*time.Hour + time.Second })},
		`"" is no role's ARN`:                    {Location: store, Role: &Role{}},
		`"valise" is no role's ARN`:              {Location: store, Role: role(func(r *Role) { r.ARN = "valise" })},
		"needs the endpoint of the store's own":  {Location: store, Role: role(func(r *Role) { r.Endpoint = "" })},
		"begins neither with https":              {Location: store, Role: role(func(r *Role) { r.Endpoint = "sts.example.org" })},
		"scheme is neither":                      {Location: store, Role: role(func(r *Role) { r.Endpoint = "ftp://h" })},
		`"h/p" is no host`:                       {Location: store, Role: role(func(r *Role) { r.Endpoint = "https://h/p" })},
		`"0" is no port`:                         {Location: store, Role: role(func(r *Role) { r.Endpoint = "https://h:0" })},
		"credentials do not go into the URL":     {Location: store, Role: role(func(r *Role) { r.Endpoint = "https://u:" + testSecret + "@h" })},
		`a '*'`:                                  {Location: at("a*/"), Role: good},
		`a '$'`:                                  {Location: at("a$b/"), Role: good},
		`a '{'`:                                  {Location: at("a/{b/"), Role: good},
		`a '}'`:                                  {Location: at("a}/"), Role: good},
		"the prefix has a ? or a #":              {Location: at("a?/"), Role: good},
		"too long for a role":                    {Location: at(strings.Repeat("ü", 240) + "/"), Role: good},
		"region in partition aws-iso: set the r": {Location: amazon, Role: &Role{ARN: "arn:aws-iso:iam::123456789012:role/valise"}},
	} {
		_, err := New(t.Context(), c)
		wantKind(t, want, err, nil, want)
	}
	for _, prefix := range []string{"a*/", "a$b/", strings.Repeat("ü", 240) + "/"} {
		if _, err := New(t.Context(), Config{Location: at(prefix)}); err != nil {
			t.Errorf("%q without a role: got %v", prefix, err)
		}
	}
}

func TestRoleEndpoints(t *testing.T) {
	for in, want := range map[string]string{
		"https://STS.Example.org/": "https://sts.example.org",
		"HTTP://h:80":              "http://h",
		"https://[::1]:9000":       "https://[::1]:9000",
	} {
		r, err := Role{ARN: "arn:minio:iam:::role/any", Endpoint: in}.withDefaults(Location{"bucket", "https://h", "p/"})
		if err != nil || r.Endpoint != want || r.Duration != time.Hour {
			t.Errorf("%s: got %+v, %v", in, r, err)
		}
	}
}

func TestRegionOfSTS(t *testing.T) {
	for _, c := range []struct{ endpoint, arn, configured, want string }{
		{"", testRole, "", "us-east-1"},
		{"", testRole, "eu-west-1", "eu-west-1"},
		{"", "arn:aws-cn:iam::1:role/r", "", "cn-north-1"},
		{"", "arn:aws-us-gov:iam::1:role/r", "", "us-gov-west-1"},
		{"https://sts.eu-north-1.amazonaws.com", testRole, "eu-west-1", "eu-north-1"},
		{"https://sts-fips.us-west-2.amazonaws.com", testRole, "", "us-west-2"},
		{"https://sts.amazonaws.com", testRole, "", "us-east-1"},
		{"https://vpce-0a-1.sts.ap-south-1.vpce.amazonaws.com", testRole, "", "ap-south-1"},
		{"https://minio.example.org:9000", "arn:minio:iam:::role/r", "", "us-east-1"},
		{"https://sts.example.org", testRole, "garage", "garage"},
	} {
		if got, err := (Role{ARN: c.arn, Endpoint: c.endpoint}).region(c.configured); got != c.want || err != nil {
			t.Errorf("%+v: got %q, %v", c, got, err)
		}
	}
}

func TestSessionPolicy(t *testing.T) {
	got, err := sessionPolicy(Location{"homes", "", `a "b"\<ü😀>/`}, Role{ARN: "arn:aws-cn:iam::1:role/r"}.partition())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"Version":"2012-10-17","Statement":[` +
		`{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject","s3:DeleteObject"],"Resource":"arn:aws-cn:s3:::homes/a \"b\"\\<\u00fc\ud83d\ude00>/*"},` +
		`{"Effect":"Allow","Action":["s3:ListBucket"],"Resource":"arn:aws-cn:s3:::homes","Condition":{"StringLike":{"s3:prefix":"a \"b\"\\<\u00fc\ud83d\ude00>/*"}}},` +
		`{"Effect":"Allow","Action":["s3:GetBucketLocation"],"Resource":"arn:aws-cn:s3:::homes"}]}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if !json.Valid([]byte(got)) {
		t.Errorf("got %s, which is no JSON", got)
	}
	longest := Location{strings.Repeat("b", 63), "", strings.Repeat("p", maxPrefix-1) + "/"}
	if got, err := sessionPolicy(longest, "aws-us-gov"); err != nil || len(got) > maxPolicy {
		t.Errorf("the longest prefix: got %d characters, %v", len(got), err)
	}
	for arn, want := range map[string]string{testRole: "aws", "arn:minio:iam:::role/r": "aws", "arn:aws-us-gov:iam::1:role/r": "aws-us-gov"} {
		if got := (Role{ARN: arn}).partition(); got != want {
			t.Errorf("%s: got %s", arn, got)
		}
	}
}

func TestSessionNames(t *testing.T) {
	allowed := regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{2,64}$`)
	seen := map[string]bool{}
	for prefix, want := range map[string]string{
		"alice/":                     "valise-alice-",
		"a b/":                       "valise-a-b-",
		"a/b/":                       "valise-a-b-",
		"ü😀/":                        "valise----",
		strings.Repeat("x", 400):     "valise-" + strings.Repeat("x", 40) + "-",
		strings.Repeat("x", 401):     "valise-" + strings.Repeat("x", 40) + "-",
		"me@example.org, +=_.-/":     "valise-me@example.org,-+=_.--",
		strings.Repeat("ü", 30) + "": "valise-" + strings.Repeat("-", 31),
	} {
		got := sessionName(Location{"bucket", "", prefix})
		if !allowed.MatchString(got) || !strings.HasPrefix(got, want) || seen[got] {
			t.Errorf("%q: got %q, want %q and a digest of its own", prefix, got, want)
		}
		seen[got] = true
	}
}
