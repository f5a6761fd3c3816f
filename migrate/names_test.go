package migrate

import (
	"strings"
	"testing"
)

func TestPlace(t *testing.T) {
	long := strings.Repeat("n", 256)
	for key, want := range map[string]struct {
		rel       string
		dir, link bool
		reason    string // in it
	}{
		"":               {"", true, false, ""},
		"a":              {"a", false, false, ""},
		"a/b c/ü#?%+&":   {"a/b c/ü#?%+&", false, false, ""},
		"a/":             {"a", true, false, ""},
		"a/b/":           {"a/b", true, false, ""},
		"...":            {"...", false, false, ""},
		".valise-x":      {".valise-x", false, false, ""},
		"a\\b\n\x01":     {"a\\b\n\x01", false, false, ""},
		long[1:]:         {long[1:], false, false, ""},
		"l.rclonelink":   {"l", false, true, ""},
		"a/l.rclonelink": {"a/l", false, true, ""},
		"a/.rclonelink":  {"a/.rclonelink", false, false, ""},
		"l.rclonelink/":  {"l.rclonelink", true, false, ""},
		"l.rclonelink/x": {"l.rclonelink/x", false, false, ""},
		"/":              {"", true, false, "empty part"},
		"/etc/passwd":    {"", false, false, "empty part"},
		"a//b":           {"", false, false, "empty part"},
		"a//":            {"", true, false, "empty part"},
		"..":             {"", false, false, `".."`},
		"../x":           {"", false, false, `".."`},
		"a/../../x":      {"", false, false, `".."`},
		"a/..":           {"", false, false, `".."`},
		"a/../":          {"", true, false, `".."`},
		".":              {"", false, false, `"."`},
		"./x":            {"", false, false, `"."`},
		"..rclonelink":   {"", false, true, `name "."`},
		"...rclonelink":  {"", false, true, `name ".."`},
		"x/" + long:      {"", false, false, "256 bytes"},
		"a\x00b":         {"", false, false, "zero byte"},
		"a\xff":          {"", false, false, "UTF-8"},
	} {
		rel, dir, link, reason := place(key)
		if want.reason == "" && reason != "" || !strings.Contains(reason, want.reason) || dir != want.dir || reason == "" && (rel != want.rel || link != want.link) {
			t.Errorf("%.40q: got %q, dir %t, link %t, %q; want %+v", key, rel, dir, link, reason, want)
		}
	}
}

// Whatever the key, its place is below the top.
func FuzzPlaceIsBelow(f *testing.F) {
	for _, seed := range []string{"a/../b", "/x", "...rclonelink", "..rclonelink", "a/.", "\x00", "a/b/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		rel, _, _, reason := place(key)
		if reason != "" || key == "" {
			return
		}
		for name := range strings.SplitSeq(rel, "/") {
			if name == "" || name == "." || name == ".." || strings.Contains(name, "\x00") || len(name) > maxName {
				t.Errorf("%q: got %q", key, rel)
			}
		}
	})
}

func TestCollisions(t *testing.T) {
	for name, c := range map[string]struct {
		keys        []string
		dirs, taken []string
	}{
		"none":              {[]string{"a", "a.b", "ab", "b/c", "b0"}, nil, nil},
		"far apart":         {[]string{"a", "a!", "a-b/x", "a.txt", "a/b"}, []string{"a"}, nil},
		"nested":            {[]string{"a", "a/b", "a/b-c", "a/b/c"}, []string{"a", "a/b"}, nil},
		"marker":            {[]string{"a", "a/"}, []string{"a"}, nil},
		"link and file":     {[]string{"l", "l.rclonelink"}, nil, []string{"l.rclonelink"}},
		"link and dir":      {[]string{"l.rc", "l.rclonelink", "l.rcx", "l/x"}, []string{"l"}, nil},
		"link's name a dir": {[]string{"l.rclonelink", "l.rclonelink/x"}, nil, nil},
		"link of a link":    {[]string{"l.rclonelink", "l.rclonelink.rclonelink"}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			met := collisions{dirs: map[id]bool{}}
			taken := map[string]bool{}
			for _, key := range c.keys {
				rel, dir, _, _ := place(key)
				if dir {
					rel = ""
				}
				if met.see(key, rel) {
					taken[key] = true
				}
			}
			if len(met.dirs) != len(c.dirs) || len(taken) != len(c.taken) {
				t.Errorf("got %d dirs, %d taken", len(met.dirs), len(taken))
			}
			for _, d := range c.dirs {
				if !met.dirs[pathID(d)] {
					t.Errorf("%s is no directory", d)
				}
			}
			for _, k := range c.taken {
				if !taken[k] {
					t.Errorf("%s is not taken", k)
				}
			}
		})
	}
}
