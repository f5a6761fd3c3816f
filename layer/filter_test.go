package layer

import (
	"strings"
	"testing"
)

func TestFilter(t *testing.T) {
	for _, c := range []struct {
		list     string
		yes, not []string // a trailing slash marks directories
	}{
		{DefaultFilter, []string{".cache/", ".cache/x", ".vnc/", "Downloads/", "Downloads/a/b/", "Uploads"}, []string{"cache", "a/.cache/", ".cache2", "Download"}},
		{"", nil, []string{"a", "a/b", ""}},
		{" , ,,", nil, []string{"a", ""}},
		{"./a, /b/,c//d/./e", []string{"a", "b/", "b/x", "c/d/e"}, []string{"b", "c/d", "x/a"}},
		{"a/,a", []string{"a", "a/"}, []string{"b"}},
		{"Documents/*.docx", []string{"Documents/x.docx", "Documents/x.docx/y", "Documents/.docx"}, []string{"Documents/a/x.docx", "x.docx", "Documents/x.doc", "Documents/"}},
		{"Documents/**.docx", []string{"Documents/x.docx", "Documents/a/b/x.docx"}, []string{"x.docx", "Documents/a", "Other/x.docx"}},
		{"**.o", []string{"x.o", "a/b/x.o"}, []string{"x.obj"}},
		{"**/node_modules", []string{"node_modules/", "a/b/node_modules/", "a/node_modules/x/y"}, []string{"a/node_module/"}},
		{"a/**/b", []string{"a/b", "a/x/b", "a/x/y/b/c"}, []string{"b", "a/x"}},
		{"a/**", []string{"a/x", "a/x/y"}, []string{"a", "a/", "b"}},
		{"Downloads/*", []string{"Downloads/x", "Downloads/x/y"}, []string{"Downloads/", "Downloads"}},
		{"**", []string{"a", "a/b"}, nil},
		{"**/*.tmp/", []string{"a.tmp/", "a/b.tmp/", "b.tmp/c"}, []string{"a.tmp"}},
		{`a\,b,c\*d,\[x]`, []string{"a,b", "c*d", "[x]"}, []string{"a", "b", "cxd"}},
		{"[ab]?", []string{"ax", "bö"}, []string{"a", "cx", "axx"}},
		{"a*", []string{"a", "abc"}, []string{"ba", "b/a"}},
		{"\xff*", []string{"\xffx"}, []string{"x"}},
	} {
		f, err := ParseFilter(c.list)
		if err != nil {
			t.Errorf("%q: %v", c.list, err)
			continue
		}
		for want, list := range map[bool][]string{true: c.yes, false: c.not} {
			for _, p := range list {
				path, dir := strings.CutSuffix(p, "/")
				if got := f.Match(path, dir); got != want {
					t.Errorf("%q: %q: got %v", c.list, p, got)
				}
			}
		}
	}
	if (*Filter)(nil).Match("a", false) {
		t.Error("the nil filter matches")
	}
}

func TestFilterRefuses(t *testing.T) {
	for list, want := range map[string]string{
		"a,../b": `"../b": it leads out`, "a/../b": "leads out", "..": "leads out",
		"ok,[a": `"[a": it is no valid glob`, "a{b": "no valid glob",
		".": "the home itself", "a,/": `"/": it is the home itself`,
	} {
		if _, err := ParseFilter(list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", list, err, want)
		}
	}
}

func FuzzFilter(f *testing.F) {
	for _, s := range []string{DefaultFilter, "Documents/**.docx", "a/**/b", `[a-]\`, "{a,b}", "/./x//", "a\\", "**/**/***"} {
		f.Add(s, "a/b/c")
	}
	f.Fuzz(func(t *testing.T, list, path string) {
		filter, err := ParseFilter(list)
		if err != nil {
			return
		}
		for _, dir := range []bool{false, true} {
			if filter.matchOne(path, dir) && !filter.Match(path, dir) {
				t.Errorf("%q: %q matches and does not", list, path)
			}
			if dir && path != "" && filter.Match(path, dir) && !filter.Match(path+"/x", false) {
				t.Errorf("%q: %q matches, but not what is in it", list, path)
			}
		}
		if filter.Match("", true) {
			t.Errorf("%q matches the home itself", list)
		}
	})
}
