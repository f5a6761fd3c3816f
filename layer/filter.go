package layer

import (
	"errors"
	"fmt"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// DefaultFilter is the list of what is not saved unless the user says otherwise.
const DefaultFilter = ".cache,.vnc,Downloads,Uploads"

// Filter says which paths of a home are not saved. The nil Filter is empty.
type Filter struct {
	plain map[string]bool // path → directories only
	globs []glob
}

type glob struct {
	pattern string
	dirOnly bool
}

// ParseFilter reads a list of paths relative to the home, separated by commas; a comma
// that belongs to a name is written as "\,". A path may be a glob: * and ? stand for
// characters of one name, [a-z] for one of a set, the name ** for any number of
// directories, and **.docx at the end for every name of that form there or deeper.
// A path that ends in / matches directories only.
func ParseFilter(list string) (*Filter, error) {
	f := &Filter{plain: map[string]bool{}}
	for _, element := range splitList(list) {
		if element == "" {
			continue
		}
		if err := f.add(element); err != nil {
			return nil, fmt.Errorf("filter %q: %w", element, err)
		}
	}
	return f, nil
}

// splitList splits at the commas that no backslash escapes.
func splitList(list string) []string {
	var out []string
	start := 0
	for i := 0; i < len(list); i++ {
		switch list[i] {
		case '\\':
			i++
		case ',':
			out = append(out, strings.TrimSpace(list[start:i]))
			start = i + 1
		}
	}
	return append(out, strings.TrimSpace(list[start:]))
}

func (f *Filter) add(element string) error {
	var parts []string
	for part := range strings.SplitSeq(element, "/") {
		switch {
		case part == "" || part == ".":
			continue
		case part == "..":
			return errors.New("it leads out of the home")
		case len(part) > 2 && strings.HasPrefix(part, "**") && strings.Trim(part, "*") != "":
			parts = append(parts, "**", "*"+strings.TrimLeft(part, "*")) // **.docx: there and deeper
		default:
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return errors.New("it is the home itself")
	}
	if parts[len(parts)-1] == "**" {
		parts = append(parts, "*") // what is in a directory, not the directory
	}
	pattern := strings.Join(parts, "/")
	if !doublestar.ValidatePattern(pattern) {
		return errors.New("it is no valid glob")
	}
	dirOnly := strings.HasSuffix(element, "/")
	if strings.ContainsAny(pattern, `*?[{`) {
		f.globs = append(f.globs, glob{pattern, dirOnly})
		return nil
	}
	path := unescape(pattern)
	if before, known := f.plain[path]; known {
		dirOnly = dirOnly && before
	}
	f.plain[path] = dirOnly
	return nil
}

// unescape takes the backslashes from a pattern without special characters.
func unescape(pattern string) string {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] == '\\' && i+1 < len(pattern) {
			i++
		}
		b.WriteByte(pattern[i])
	}
	return b.String()
}

// Match reports whether path, which is relative to the home, is not saved: it is
// filtered itself or lies in a directory that is. dir says that it is a directory.
func (f *Filter) Match(path string, dir bool) bool {
	for i := range len(path) {
		if path[i] == '/' && f.matchOne(path[:i], true) {
			return true
		}
	}
	return f.matchOne(path, dir)
}

// matchOne is Match for a path whose directory is known not to match.
func (f *Filter) matchOne(path string, dir bool) bool {
	if f == nil || path == "" {
		return false
	}
	if dirOnly, ok := f.plain[path]; ok && (dir || !dirOnly) {
		return true
	}
	for _, g := range f.globs {
		if (dir || !g.dirOnly) && doublestar.MatchUnvalidated(g.pattern, path) {
			return true
		}
	}
	return false
}

// empty reports that it matches nothing.
func (f *Filter) empty() bool { return f == nil || len(f.plain)+len(f.globs) == 0 }
