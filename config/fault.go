package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Fault is one thing wrong in a file, or worth a warning.
type Fault struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"` // 0 = the file as a whole
	Key     string `json:"key,omitempty"`
	Message string `json:"message"`
}

// String returns the fault in the form FILE:LINE: KEY: MESSAGE.
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d", f.Line)
	}
	if f.Key != "" {
		b.WriteString(": " + f.Key)
	}
	return b.String() + ": " + f.Message
}

// Faults are all faults of a configuration, in the order of its lines.
type Faults []Fault

// Error lists the faults, a line each.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

func (f Faults) sort() {
	slices.SortStableFunc(f, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
}

// locator knows the line of each key. The decoder keeps positions to itself, so the
// file is read again, line by line longer: the line at which a key first shows is
// its own. That is quadratic, and only done for a file with faults.
type locator struct{ lines map[string]int }

func locate(source string) *locator {
	l := &locator{lines: map[string]int{}}
	lines := strings.SplitAfter(source, "\n")
	seen, start := 0, 1 // keys seen, the line on which the next statement begins
	for n := range lines {
		var ignore map[string]any
		md, err := toml.Decode(strings.Join(lines[:n+1], ""), &ignore)
		if err != nil {
			continue // in the middle of a statement
		}
		keys := md.Keys()
		for _, k := range indexed(keys)[min(seen, len(keys)):] {
			if _, ok := l.lines[k]; !ok {
				l.lines[k] = start
			}
		}
		seen, start = len(keys), n+2
	}
	return l
}

// indexed writes keys with the index of the proxy.listen entry they belong to.
func indexed(keys []toml.Key) []string {
	const array = "proxy.listen"
	out := make([]string, len(keys))
	index := -1
	for i, k := range keys {
		s := k.String()
		if s == array {
			index++
		}
		if rest, ok := strings.CutPrefix(s, array); ok && index >= 0 {
			s = fmt.Sprintf("%s[%d]%s", array, index, rest)
		}
		out[i] = s
	}
	return out
}

// line finds the key, or the nearest table around it that the file has.
func (l *locator) line(key string) int {
	for key != "" {
		if n, ok := l.lines[key]; ok {
			return n
		}
		i := strings.LastIndexByte(key, '.')
		if i < 0 {
			return 0
		}
		key = key[:i]
	}
	return 0
}
