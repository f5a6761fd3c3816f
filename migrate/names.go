package migrate

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// linkSuffix ends the name of an object whose content is a link's target, by rclone
// with --links. No metadata tells such an object: what rclone mount writes has the mode
// of a regular file.
const linkSuffix = ".rclonelink"

// maxName is the longest name that Linux file systems take, in bytes.
const maxName = 255

// place returns where the object of that key belongs, "" for the top, or a reason why
// nowhere.
func place(key string) (rel string, dir, link bool, reason string) {
	if key == "" {
		return "", true, false, ""
	}
	rel, dir = strings.CutSuffix(key, "/")
	if !utf8.ValidString(key) {
		return "", dir, false, "its key is not UTF-8"
	}
	for name := range strings.SplitSeq(rel, "/") {
		switch {
		case name == "":
			return "", dir, false, "its key has an empty part"
		case name == "." || name == "..":
			return "", dir, false, fmt.Sprintf("its key has the part %q", name)
		case len(name) > maxName:
			return "", dir, false, fmt.Sprintf("its name has %d bytes, more than %d", len(name), maxName)
		case strings.ContainsRune(name, 0):
			return "", dir, false, "its key has a zero byte"
		}
	}
	if base := path.Base(rel); !dir && base != linkSuffix && strings.HasSuffix(base, linkSuffix) {
		rel, link = strings.TrimSuffix(rel, linkSuffix), true
		if base := path.Base(rel); base == "." || base == ".." {
			return "", dir, link, fmt.Sprintf("it is a link of the name %q", base)
		}
	}
	return rel, dir, link, ""
}

// collisions finds the files whose path is another's too, or a directory's. It has to
// see the keys in order.
type collisions struct {
	open   []string    // paths of files that the keys to come may begin with
	dirs   map[id]bool // paths that are directories as well
	latest string
}

// see takes the next object's key, and its path; a directory's is empty. It reports
// that a file before has that path.
func (c *collisions) see(key, file string) (taken bool) {
	c.open = slices.DeleteFunc(c.open, func(f string) bool { return !strings.HasPrefix(key, f) })
	for _, f := range c.open {
		if len(key) > len(f) && key[len(f)] == '/' {
			c.dirs[pathID(f)] = true
		}
	}
	if file == "" {
		return false
	}
	if slices.Contains(c.open, file) {
		return true
	}
	c.open = append(c.open, file)
	return false
}

// profiles finds profiles of valise among the keys, which it has to see in order: what
// lies in the directories of one sorts before its valise.json.
type profiles struct{ last string }

const profileKey = "valise.json"

// see reports that the key completes a profile.
func (p *profiles) see(key string) bool {
	for _, dir := range []string{"packs/", "snapshots/", "lease/", "index/"} {
		if i := strings.LastIndex(key, dir); i >= 0 && (i == 0 || key[i-1] == '/') && !strings.Contains(key[i+len(dir):], "/") {
			p.last = key[:i] + profileKey
		}
	}
	return p.last != "" && key == p.last
}
