package profile

import (
	"fmt"
	"path"
	"strings"

	"github.com/distribution/reference"
)

// ImagePattern selects images by name, tag and digest, as Docker normalises them:
// "firefox" is docker.io/library/firefox. "*" stands for any text within one
// component. A pattern without tag and digest takes every one.
type ImagePattern struct{ name, tag, digest string }

// ParseImagePattern reads NAME[:TAG][@DIGEST].
func ParseImagePattern(s string) (ImagePattern, error) {
	var p ImagePattern
	rest := s
	rest, p.digest, _ = strings.Cut(rest, "@")
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		rest, p.tag = rest[:i], rest[i+1:]
	}
	if rest == "" {
		return p, fmt.Errorf("image pattern %q names no image", s)
	}
	first, _, slash := strings.Cut(rest, "/")
	switch {
	case !slash:
		rest = "docker.io/library/" + rest
	case !strings.ContainsAny(first, ".:") && first != "localhost":
		rest = "docker.io/" + rest
	}
	p.name = rest
	for _, pattern := range []string{p.name, p.tag} {
		if _, err := path.Match(pattern, ""); err != nil {
			return p, fmt.Errorf("image pattern %q: %w", s, err)
		}
	}
	// With the wildcards filled in it must be a name that Docker would take.
	if _, err := reference.ParseNormalizedNamed(wildcards.Replace(p.name)); err != nil {
		return p, fmt.Errorf("image pattern %q: %w", s, err)
	}
	return p, nil
}

var wildcards = strings.NewReplacer("*", "x", "?", "x", "[", "x", "]", "x", `\`, "x")

// String returns the normalised pattern.
func (p ImagePattern) String() string {
	s := p.name
	if p.tag != "" {
		s += ":" + p.tag
	}
	if p.digest != "" {
		s += "@" + p.digest
	}
	return s
}

// Match reports whether image, as a create names it, is one of the pattern's. An image
// named by its id alone has no name and matches nothing.
func (p ImagePattern) Match(image string) bool {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return false
	}
	tag := ""
	if t, ok := named.(reference.Tagged); ok {
		tag = t.Tag()
	}
	digest := ""
	if d, ok := named.(reference.Digested); ok {
		digest = d.Digest().String()
	}
	if tag == "" && digest == "" {
		tag = "latest"
	}
	return glob(p.name, named.Name()) &&
		(p.tag == "" || p.tag == "*" || glob(p.tag, tag)) &&
		(p.digest == "" || p.digest == digest)
}

func glob(pattern, s string) bool {
	ok, err := path.Match(pattern, s)
	return err == nil && ok
}

// weight orders patterns that match one image: what says more wins.
func (p ImagePattern) weight() int {
	literal := func(s string) int { return len(s) - strings.Count(s, "*") - strings.Count(s, "?") }
	return 1 + literal(p.name)*4 + literal(p.tag)*2 + len(p.digest)
}
