package volume

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Name is a volume's name as the Docker Engine takes it
// (https://docs.docker.com/reference/api/engine/, VolumeCreate): a letter or digit, then
// at least one of [a-zA-Z0-9_.-]; `docker run -v` takes a single letter for a drive.
type Name string

// maxName leaves room for the ending of a record's file in NAME_MAX.
const maxName = 240

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// ParseName checks a name that comes from outside.
func ParseName(s string) (Name, error) {
	if len(s) > maxName {
		return "", fmt.Errorf("volume name of %d bytes is longer than %d", len(s), maxName)
	}
	if !validName.MatchString(s) {
		return "", fmt.Errorf("volume name %q does not match %s", s, validName)
	}
	return Name(s), nil
}

// digestSize is how many bytes of the digest stand in a name.
const digestSize = 10

// Name returns the volume's one name with the given driver: a part that people can
// read and a digest of the driver and every option.
func (s Spec) Name(driver string) Name {
	options := s.Options()
	keys := make([]string, 0, len(options))
	for k := range options {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	h := sha256.New()
	fmt.Fprintf(h, "%q\n", driver)
	for _, k := range keys {
		fmt.Fprintf(h, "%q=%q\n", k, options[k])
	}
	readable := "valise"
	for _, p := range s.readable() {
		if p = slug(p); p != "" {
			readable += "-" + p
		}
	}
	return Name(readable + "-" + hex.EncodeToString(h.Sum(nil)[:digestSize]))
}

func (s Spec) readable() []string {
	switch s.Kind() {
	case Profile:
		return []string{s.Workspace, s.Username}
	case Mapping:
		return []string{s.Workspace, s.Group, s.Mapping, s.Username}
	default:
		return []string{s.Path}
	}
}

// slug keeps what a volume name may hold, shortened for people.
func slug(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '.':
			return r
		}
		return '-'
	}, s)
	s = strings.Trim(s, "-.")
	if len(s) > 40 {
		s = strings.TrimRight(s[:40], "-.")
	}
	return s
}
