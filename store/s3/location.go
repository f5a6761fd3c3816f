package s3

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	scheme = "s3://"
	// maxPrefix leaves half of the 1024 bytes of an S3 key to what is below it.
	maxPrefix = 512
)

// Location is where a profile lives. Two Locations are equal if they are the same
// values.
type Location struct {
	Bucket   string
	Endpoint string // such as "https://s3.example.org:9000"; "" is AWS
	Prefix   string // ends with its only trailing slash, has no leading one
}

// ParseURL reads s3://BUCKET[@ENDPOINT]/PREFIX/. The endpoint is a host with an
// optional port, and https unless http:// is before it. Nothing is percent-decoded.
// The prefix keeps profiles of one bucket apart, so it must not be empty.
func ParseURL(s string) (Location, error) {
	l, err := parse(s)
	if err != nil {
		// The text may hold credentials, so it is not repeated.
		return Location{}, fmt.Errorf("S3 URL, which is s3://BUCKET[@ENDPOINT]/PREFIX/: %w", err)
	}
	return l, nil
}

func parse(s string) (l Location, err error) {
	rest, ok := strings.CutPrefix(s, scheme)
	if !ok {
		return l, errors.New("it does not begin with s3://")
	}
	end := strings.IndexAny(rest, "@/")
	if end < 0 {
		return l, noPrefix()
	}
	l.Bucket = rest[:end]
	if err := checkBucket(l.Bucket); err != nil {
		return l, err
	}
	at, rest := rest[end] == '@', rest[end+1:]
	if at {
		proto := "https://"
		if before, after, found := strings.Cut(rest, "://"); found && !strings.Contains(before, "/") {
			proto, rest = strings.ToLower(before)+"://", after
		}
		host, prefix, found := strings.Cut(rest, "/")
		if l.Endpoint, err = endpoint(proto, host); err != nil {
			return l, err
		}
		if !found {
			return l, noPrefix()
		}
		if a, ok := amazonHost(l.Endpoint); ok && !a.known {
			return l, fmt.Errorf("%s is no S3 endpoint of AWS, as s3.eu-central-1.amazonaws.com is (the bucket's name stays out of it)", host)
		}
		rest = prefix
	}
	if l.Prefix, err = cleanPrefix(rest); err != nil {
		return l, err
	}
	return l, nil
}

func noPrefix() error {
	return errors.New("it has no prefix: a profile needs a prefix of its own in the bucket, as in s3://bucket/alice/")
}

func checkBucket(name string) error {
	if strings.Contains(name, ":") {
		return errors.New("there is a colon in the bucket's name: credentials and ARNs do not go into the URL")
	}
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	}
	for i, r := range name {
		if !plain(r) && (i == 0 || i == len(name)-1 || !strings.ContainsRune("._-", r)) {
			return fmt.Errorf("%q is no bucket name: it has letters, digits, and between them dots, dashes and underscores", name)
		}
	}
	switch {
	case len(name) < 3 || len(name) > 63:
		return fmt.Errorf("%q is no bucket name: it has 3 to 63 characters", name)
	case strings.Contains(name, ".."):
		return fmt.Errorf("%q is no bucket name: it has two dots in a row", name)
	case strings.HasSuffix(name, "--x-s3"):
		return fmt.Errorf("%q is a directory bucket, which cannot list its keys in order", name)
	}
	return nil
}

// endpoint is its canonical form: a scheme and a host in lower case, and a port if it
// is not the scheme's own.
func endpoint(proto, host string) (string, error) {
	if proto != "https://" && proto != "http://" {
		return "", errors.New("the endpoint's scheme is neither http:// nor https://")
	}
	if strings.Contains(host, "@") {
		return "", errors.New("there is an @ in the endpoint: credentials do not go into the URL")
	}
	u, err := url.Parse(proto + host)
	if err != nil || u.Host != host || u.Hostname() == "" || strings.ContainsAny(host, "?#%\\") {
		return "", fmt.Errorf("%q is no host or host:port", host)
	}
	name, port := strings.ToLower(u.Hostname()), u.Port()
	if strings.Contains(name, ":") {
		if net.ParseIP(name) == nil {
			return "", fmt.Errorf("%q is no IPv6 address", name)
		}
	} else if strings.HasPrefix(host, "[") || strings.ContainsFunc(name, notInHost) {
		return "", fmt.Errorf("%q is no host or host:port", host)
	}
	if n, err := strconv.ParseUint(port, 10, 16); port != "" {
		if err != nil || n == 0 {
			return "", fmt.Errorf("%q is no port", port)
		}
		port = strconv.FormatUint(n, 10)
	} else if strings.HasSuffix(host, ":") {
		return "", fmt.Errorf("%q ends without a port", host)
	}
	if proto == "https://" && port == "443" || proto == "http://" && port == "80" {
		port = ""
	}
	switch {
	case port != "":
		return proto + net.JoinHostPort(name, port), nil
	case strings.Contains(name, ":"):
		return proto + "[" + name + "]", nil
	}
	return proto + name, nil
}

func notInHost(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune(".-_", r)
}

func cleanPrefix(s string) (string, error) {
	s = strings.TrimSuffix(s, "/")
	if s == "" {
		return "", noPrefix()
	}
	switch {
	case len(s) >= maxPrefix:
		return "", fmt.Errorf("the prefix has more than %d bytes", maxPrefix)
	case !utf8.ValidString(s):
		return "", errors.New("the prefix is not UTF-8")
	case strings.ContainsFunc(s, unicode.IsControl):
		return "", errors.New("the prefix has a control character")
	case strings.ContainsAny(s, "?#"):
		return "", errors.New("the prefix has a ? or a #: the URL takes no options")
	}
	for part := range strings.SplitSeq(s, "/") {
		switch part {
		case "":
			return "", errors.New("the prefix has an empty segment (two slashes in a row)")
		case ".", "..":
			return "", fmt.Errorf("the prefix has the segment %q", part)
		}
	}
	return s + "/", nil
}

// String is the URL that ParseURL reads as l.
func (l Location) String() string {
	at := ""
	if l.Endpoint != "" {
		at = "@" + strings.TrimPrefix(l.Endpoint, "https://")
	}
	return scheme + l.Bucket + at + "/" + l.Prefix
}
