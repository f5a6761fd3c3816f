package s3

import (
	"strings"
	"testing"
	"unicode"
)

func TestParseURL(t *testing.T) {
	for url, want := range map[string]Location{
		"s3://bucket/alice/":                        {"bucket", "", "alice/"},
		"s3://bucket/homes/alice":                   {"bucket", "", "homes/alice/"},
		"s3://b-1@http://127.0.0.1:9000/p/":         {"b-1", "http://127.0.0.1:9000", "p/"},
		"s3://bbb@s3.eu-central-1.amazonaws.com/p/": {"bbb", "https://s3.eu-central-1.amazonaws.com", "p/"},
		"s3://bbb@s3.wasabisys.com/alice/":          {"bbb", "https://s3.wasabisys.com", "alice/"},
		"s3://bbb@https://S3.Example.org:443/p":     {"bbb", "https://s3.example.org", "p/"},
		"s3://bbb@HTTP://host:80/p":                 {"bbb", "http://host", "p/"},
		"s3://bbb@host:08443/p":                     {"bbb", "https://host:8443", "p/"},
		"s3://bbb@[::1]:9000/p/":                    {"bbb", "https://[::1]:9000", "p/"},
		"s3://bbb@[::1]/p/":                         {"bbb", "https://[::1]", "p/"},
		"s3://a.b_C-9/a b/é@x:y%20/":                {"a.b_C-9", "", "a b/é@x:y%20/"},
		"s3://bbb/x://y":                            {},
		"s3://bbb@host/p://q":                       {},
		"s3://bbb/a..b/...":                         {"bbb", "", "a..b/.../"},
	} {
		got, err := ParseURL(url)
		if want.Bucket == "" {
			if err == nil {
				t.Errorf("%s: got %+v, want an error", url, got)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", url, got, err, want)
		}
		if again, err := ParseURL(got.String()); err != nil || again != got {
			t.Errorf("%s: its String %s is %+v, %v", url, got, again, err)
		}
	}
}

func TestParseURLRefuses(t *testing.T) {
	for url, want := range map[string]string{
		"":                          "does not begin with s3://",
		"https://bucket/p/":         "does not begin with s3://",
		"s3://bucket":               "prefix of its own",
		"s3://bucket/":              "prefix of its own",
		"s3://bucket@host":          "prefix of its own",
		"s3://bucket@host/":         "prefix of its own",
		"s3://bucket@http://h/":     "prefix of its own",
		"s3:///p/":                  "3 to 63 characters",
		"s3://b/p/":                 "3 to 63 characters",
		"s3://buck et/p/":           "is no bucket name",
		"s3://-bucket/p/":           "is no bucket name",
		"s3://bucket./p/":           "is no bucket name",
		"s3://bu..cket/p/":          "two dots",
		"s3://b--usw2-az1--x-s3/p/": "directory bucket",
		"s3://bucket//p/":           "empty segment",
		"s3://bucket/p//q":          "empty segment",
		"s3://bucket/p//":           "empty segment",
		"s3://bucket/../p/":         `segment ".."`,
		"s3://bucket/p/..":          `segment ".."`,
		"s3://bucket/./p":           `segment "."`,
		"s3://bucket/p\nq/":         "control character",
		"s3://bucket/p\x7f/":        "control character",
		"s3://bucket/p\xff/":        "not UTF-8",
		"s3://bucket/p?x=y":         "takes no options",
		"s3://bucket@/p/":           "no host",
		"s3://bucket@host:/p/":      "ends without a port",
		"s3://bucket@host:0/p/":     "no port",
		"s3://bucket@host:65536/p/": "no port",
		"s3://bucket@host:x/p/":     "no host or host:port",
		"s3://bucket@ho st/p/":      "no host or host:port",
		"s3://bucket@[::z]/p/":      "no",
		"s3://bucket@ftp://h/p/":    "neither http:// nor https://",
		"s3://bucket@mybucket.s3.eu-west-1.amazonaws.com/p/": "is no S3 endpoint of AWS",
		"s3://bucket@s3-website.eu-west-1.amazonaws.com/p/":  "is no S3 endpoint of AWS",
		"s3://bucket/" + strings.Repeat("x", 600):            "more than 512 bytes",
	} {
		if got, err := ParseURL(url); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %+v, %v, want %q", url, got, err, want)
		}
	}
}

func TestParseURLDoesNotRepeatSecrets(t *testing.T) {
	for _, url := range []string{
		"s3://AKIAKEY:s3cr3t@bucket/p/", "s3://bucket@https://AKIAKEY:s3cr3t@host/p/", "s3://bucket@s3cr3t@host/p/",
	} {
		_, err := ParseURL(url)
		if err == nil || strings.Contains(err.Error(), "s3cr3t") || !strings.Contains(err.Error(), "credentials") {
			t.Errorf("%s: got %v, want an error about credentials without them", url, err)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, url := range []string{
		"s3://bucket/alice/", "s3://bbb@http://127.0.0.1:9000/p/", "s3://bbb@[::1]:1/p/q", "s3://bbb@s3.amazonaws.com/é/",
		"s3://bbb@h:443/..", "s3://k:s@b/p",
	} {
		f.Add(url)
	}
	f.Fuzz(func(t *testing.T, url string) {
		l, err := ParseURL(url)
		if err != nil {
			return
		}
		if again, err := ParseURL(l.String()); err != nil || again != l {
			t.Errorf("%q is %+v, whose String is %+v, %v", url, l, again, err)
		}
		if strings.HasPrefix(l.Prefix, "/") || !strings.HasSuffix(l.Prefix, "/") || l.Prefix == "/" ||
			strings.Contains("/"+l.Prefix, "//") || strings.Contains("/"+l.Prefix, "/../") ||
			strings.ContainsFunc(l.Prefix, unicode.IsControl) || len(l.Prefix) > maxPrefix {
			t.Errorf("%q has the prefix %q", url, l.Prefix)
		}
		if l.Endpoint != "" && !strings.HasPrefix(l.Endpoint, "http://") && !strings.HasPrefix(l.Endpoint, "https://") {
			t.Errorf("%q has the endpoint %q", url, l.Endpoint)
		}
	})
}

func TestAmazonHost(t *testing.T) {
	for endpoint, want := range map[string]amazon{
		"":                                                                {known: true},
		"https://s3.amazonaws.com":                                        {known: true},
		"https://s3.eu-central-1.amazonaws.com":                           {known: true, region: "eu-central-1"},
		"http://s3.eu-central-1.amazonaws.com":                            {known: true, region: "eu-central-1"},
		"https://s3-us-west-2.amazonaws.com":                              {known: true, region: "us-west-2"},
		"https://s3-external-1.amazonaws.com":                             {known: true, region: "us-east-1"},
		"https://s3.us-gov-west-1.amazonaws.com":                          {known: true, region: "us-gov-west-1"},
		"https://s3-fips.us-gov-east-1.amazonaws.com":                     {known: true, region: "us-gov-east-1"},
		"https://s3-fips.dualstack.us-east-2.amazonaws.com":               {known: true, region: "us-east-2", dualstack: true},
		"https://s3.dualstack.ap-southeast-3.amazonaws.com":               {known: true, region: "ap-southeast-3", dualstack: true},
		"https://s3.cn-north-1.amazonaws.com.cn":                          {known: true, region: "cn-north-1"},
		"https://s3.eusc-de-east-1.amazonaws.eu":                          {known: true, region: "eusc-de-east-1"},
		"https://bucket.vpce-1a2b-3c.s3.us-east-1.vpce.amazonaws.com":     {known: true, region: "us-east-1"},
		"https://vpce-1a2b-3c-us-east-1a.s3.us-east-1.vpce.amazonaws.com": {known: true, region: "us-east-1"},
		"https://s3-accelerate.amazonaws.com":                             {known: true, accelerate: true},
		"https://s3-accelerate.dualstack.amazonaws.com":                   {known: true, accelerate: true, dualstack: true},
		"https://s3-website-us-east-1.amazonaws.com":                      {},
		"https://s3.oops.amazonaws.com":                                   {},
		"https://sts.amazonaws.com":                                       {},
	} {
		if got, ok := amazonHost(endpoint); !ok || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", endpoint, got, ok, want)
		}
	}
	for _, endpoint := range []string{"https://s3.wasabisys.com", "http://127.0.0.1:9000", "https://amazonaws.com", "https://s3.amazonaws.com.evil.org"} {
		if got, ok := amazonHost(endpoint); ok {
			t.Errorf("%s: got %+v, want that it is not of AWS", endpoint, got)
		}
	}
}
