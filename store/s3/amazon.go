package s3

import (
	"net/url"
	"strings"
)

// amazon is what the name of an AWS host tells.
type amazon struct {
	known      bool   // it serves S3
	region     string // "" if the name has none
	accelerate bool
	dualstack  bool
}

// amazonHost reads an endpoint; ok is that it is one of AWS. "" is AWS too.
func amazonHost(endpoint string) (a amazon, ok bool) {
	if endpoint == "" {
		return amazon{known: true}, true
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return a, false
	}
	host := u.Hostname()
	for _, domain := range []string{".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu"} {
		if name, found := strings.CutSuffix(host, domain); found {
			return readAmazon(strings.Split(name, ".")), true
		}
	}
	return a, false
}

func readAmazon(labels []string) amazon {
	first, rest, n := labels[0], labels[1:], len(labels)
	dualstack := len(rest) > 0 && rest[0] == "dualstack"
	if dualstack {
		rest = rest[1:]
	}
	switch {
	case n >= 4 && labels[n-1] == "vpce" && labels[n-3] == "s3" && isRegion(labels[n-2]):
		return amazon{known: true, region: labels[n-2]}
	case first == "s3-accelerate" && len(rest) == 0:
		return amazon{known: true, accelerate: true, dualstack: dualstack}
	case first == "s3" && n == 1:
		return amazon{known: true}
	case first == "s3-external-1" && n == 1:
		return amazon{known: true, region: "us-east-1"}
	case (first == "s3" || first == "s3-fips") && len(rest) == 1 && isRegion(rest[0]):
		return amazon{known: true, region: rest[0], dualstack: dualstack}
	case n == 1 && isRegion(strings.TrimPrefix(first, "s3-")) && first != strings.TrimPrefix(first, "s3-"):
		return amazon{known: true, region: strings.TrimPrefix(first, "s3-")} // the old form
	}
	return amazon{}
}

// isRegion tells a region, such as us-gov-west-1, by its form.
func isRegion(s string) bool {
	parts := strings.Split(s, "-")
	last := parts[len(parts)-1]
	return len(parts) >= 3 && len(parts[0]) >= 2 && len(parts[0]) <= 4 &&
		last != "" && strings.Trim(last, "0123456789") == ""
}
