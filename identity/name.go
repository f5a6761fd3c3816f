package identity

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Username is a user's name as it appears, literally, in paths. A Username made by
// ParseUsername is one path component.
type Username string

// maxComponent is NAME_MAX of Linux file systems, in bytes.
const maxComponent = 255

// ReservedPrefix begins the names of directories that valise itself makes beside
// profiles, such as one on its way to deletion. No user can be called so.
const ReservedPrefix = ".valise-"

// ParseUsername checks that s can stand for one path component.
func ParseUsername(s string) (Username, error) {
	if err := checkComponent(s); err != nil {
		return "", fmt.Errorf("user name %q %w", s, err)
	}
	return Username(s), nil
}

// checkComponent says, as the rest of a sentence, why s is not one path component.
func checkComponent(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("is empty")
	case s == "." || s == "..":
		return fmt.Errorf("is a relative directory")
	case strings.Contains(s, "/"):
		return fmt.Errorf("holds a slash")
	case len(s) > maxComponent:
		return fmt.Errorf("is longer than %d bytes", maxComponent)
	case !utf8.ValidString(s):
		return fmt.Errorf("is not valid UTF-8")
	case strings.IndexFunc(s, unicode.IsControl) >= 0:
		return fmt.Errorf("holds a control character")
	case strings.HasPrefix(s, ReservedPrefix):
		return fmt.Errorf("begins with %s, which is kept for valise's own files", ReservedPrefix)
	}
	return nil
}

// Normalization makes one user of the spellings that a platform mixes. The zero
// value changes nothing.
type Normalization struct {
	Lowercase   bool // Alice → alice
	StripDomain bool // alice@corp → alice
}

// ParseNormalization reads the names "lowercase" and "strip-domain".
func ParseNormalization(names []string) (Normalization, error) {
	var n Normalization
	for _, name := range names {
		switch name {
		case "lowercase":
			n.Lowercase = true
		case "strip-domain":
			n.StripDomain = true
		default:
			return n, fmt.Errorf("%q is neither \"lowercase\" nor \"strip-domain\"", name)
		}
	}
	return n, nil
}

// Apply returns the user's one spelling. It is idempotent.
func (n Normalization) Apply(u Username) Username {
	s := string(u)
	if n.StripDomain {
		if local, _, ok := strings.Cut(s, "@"); ok && local != "" {
			s = local
		}
	}
	if n.Lowercase {
		s = strings.ToLower(s)
	}
	return Username(s)
}

// Same reports whether a and b are one user.
func (n Normalization) Same(a, b Username) bool { return n.Apply(a) == n.Apply(b) }

// Caller is who asked for a container, as far as the presets could tell.
type Caller struct {
	User   Username
	UserID string   // "" where no preset gives one
	Groups []string // sorted, each once

	// Workspace was named outright and must exist. Kind is a weaker word of the
	// platform's ("dev", a spec id): it counts only where a workspace has that name.
	Workspace string
	Kind      string

	// Profile is the launch mode that was asked for, "" for the default.
	Profile string
}

// Known reports whether any preset named a user.
func (c Caller) Known() bool { return c.User != "" }

func sortedSet(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}
