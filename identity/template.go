package identity

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Tokens are the values a Template is filled with. An empty value is "not known".
type Tokens struct {
	Username Username
	UserID   string
	ImageID  string
}

// The tokens a template may hold.
const (
	tokenUsername = "username"
	tokenUserID   = "user_id"
	tokenImageID  = "image_id"
)

// Template is an absolute path that may hold {username}, {user_id} and {image_id}.
// The zero value is "no path".
type Template struct {
	raw   string
	parts []part
}

// part is literal text or, when token is set, a token.
type part struct{ literal, token string }

// ParseTemplate reads an absolute, clean path with tokens. Braces stand for tokens
// only; any other word within them is refused by name.
func ParseTemplate(s string) (Template, error) {
	if !path.IsAbs(s) {
		return Template{}, fmt.Errorf("path %q is not absolute", s)
	}
	if strings.ContainsRune(s, 0) || !utf8.ValidString(s) {
		return Template{}, fmt.Errorf("path %q holds a NUL byte or is not valid UTF-8", s)
	}
	for _, c := range strings.Split(s, "/") {
		if c == "." || c == ".." {
			return Template{}, fmt.Errorf("path %q holds a %q component", s, c)
		}
	}
	t := Template{raw: path.Clean(s)}
	for rest := t.raw; rest != ""; {
		open := strings.IndexAny(rest, "{}")
		if open < 0 {
			t.parts = append(t.parts, part{literal: rest})
			break
		}
		end := strings.IndexByte(rest, '}')
		if rest[open] == '}' || end < 0 {
			return Template{}, fmt.Errorf("path %q has an unpaired brace", s)
		}
		token := rest[open+1 : end]
		switch token {
		case tokenUsername, tokenUserID, tokenImageID:
		default:
			return Template{}, fmt.Errorf("path %q holds the unknown token {%s}; known are {username}, {user_id}, {image_id}", s, token)
		}
		if open > 0 {
			t.parts = append(t.parts, part{literal: rest[:open]})
		}
		t.parts = append(t.parts, part{token: token})
		rest = rest[end+1:]
	}
	return t, nil
}

// String returns the template as it was written, cleaned.
func (t Template) String() string { return t.raw }

// IsZero reports whether t is no path at all.
func (t Template) IsZero() bool { return t.raw == "" }

// PerUser reports whether two users get two paths.
func (t Template) PerUser() bool { return t.has(tokenUsername) || t.has(tokenUserID) }

func (t Template) has(token string) bool {
	for _, p := range t.parts {
		if p.token == token {
			return true
		}
	}
	return false
}

// Only returns the tokens of v that t uses, so that what does not depend on the
// user has one name for all of them.
func (t Template) Only(v Tokens) Tokens {
	if !t.has(tokenUsername) {
		v.Username = ""
	}
	if !t.has(tokenUserID) {
		v.UserID = ""
	}
	if !t.has(tokenImageID) {
		v.ImageID = ""
	}
	return v
}

// Fixed returns the longest leading directory that is the same for everybody.
func (t Template) Fixed() string {
	if len(t.parts) == 1 && t.parts[0].token == "" {
		return t.raw
	}
	return path.Dir(t.parts[0].literal + "x")
}

// Expand fills the template. Each component of the result is one that a Username
// could be, so the result stays where the template points.
func (t Template) Expand(v Tokens) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.token == "" {
			b.WriteString(p.literal)
			continue
		}
		value := v.value(p.token)
		if value == "" {
			return "", fmt.Errorf("path %q: {%s} is not known for this caller", t.raw, p.token)
		}
		if err := checkComponent(value); err != nil {
			return "", fmt.Errorf("path %q: {%s} %q %w", t.raw, p.token, value, err)
		}
		b.WriteString(value)
	}
	out := b.String()
	for _, c := range strings.Split(strings.TrimPrefix(out, "/"), "/") {
		if len(t.parts) == 1 {
			break
		}
		if err := checkComponent(c); err != nil {
			return "", fmt.Errorf("path %q: component %q %w", t.raw, c, err)
		}
	}
	return out, nil
}

func (v Tokens) value(token string) string {
	switch token {
	case tokenUsername:
		return string(v.Username)
	case tokenUserID:
		return v.UserID
	default:
		return v.ImageID
	}
}

// Glob returns the pattern (path.Match's) of every path the template can give.
func (t Template) Glob() string {
	var b strings.Builder
	for _, p := range t.parts {
		if p.token != "" {
			b.WriteByte('*')
			continue
		}
		for _, r := range p.literal {
			if strings.ContainsRune(`*?[\`, r) {
				b.WriteByte('\\')
			}
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Match reads the tokens back out of a path that Expand could have made.
func (t Template) Match(p string) (Tokens, bool) {
	var re strings.Builder
	re.WriteString(`^`)
	for _, p := range t.parts {
		if p.token != "" {
			re.WriteString(`([^/]+)`)
		} else {
			re.WriteString(regexp.QuoteMeta(p.literal))
		}
	}
	re.WriteString(`$`)
	m := regexp.MustCompile(re.String()).FindStringSubmatch(p)
	if m == nil {
		return Tokens{}, false
	}
	var v Tokens
	i := 0
	for _, p := range t.parts {
		if p.token == "" {
			continue
		}
		i++
		switch p.token {
		case tokenUsername:
			v.Username = Username(m[i])
		case tokenUserID:
			v.UserID = m[i]
		case tokenImageID:
			v.ImageID = m[i]
		}
	}
	if again, err := t.Expand(v); err != nil || again != p {
		return Tokens{}, false
	}
	return v, true
}
