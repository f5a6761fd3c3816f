package identity

import (
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExpand(t *testing.T) {
	all := Tokens{Username: "user@kasm.local", UserID: "u-1", ImageID: "firefox"}
	tests := []struct {
		name, template string
		tokens         Tokens
		want, wantErr  string
	}{
		{"literal name", "/mnt/p/firefox/{username}", all, "/mnt/p/firefox/user@kasm.local", ""},
		{"all tokens", "/p/{image_id}/{user_id}-{username}", all, "/p/firefox/u-1-user@kasm.local", ""},
		{"no token", "/mnt/share", Tokens{}, "/mnt/share", ""},
		{"unclean template", "/mnt//p/{username}/", all, "/mnt/p/user@kasm.local", ""},
		{"climbing name", "/p/{username}", Tokens{Username: ".."}, "", "relative directory"},
		{"dot", "/p/{username}", Tokens{Username: "."}, "", "relative directory"},
		{"slash", "/p/{username}", Tokens{Username: "a/b"}, "", "slash"},
		{"NUL", "/p/{username}", Tokens{Username: "a\x00b"}, "", "control character"},
		{"newline", "/p/{username}", Tokens{Username: "a\nb"}, "", "control character"},
		{"empty", "/p/{username}", Tokens{}, "", "{username} is not known"},
		{"joined to dots", "/p/.{username}", Tokens{Username: "."}, "", "relative directory"},
		{"two tokens make dots", "/p/{username}{user_id}", Tokens{Username: "a", UserID: "b"}, "/p/ab", ""},
		{"reserved", "/p/{username}", Tokens{Username: ".valise-trash-1"}, "", "kept for valise"},
		{"too long together", "/p/x{username}", Tokens{Username: Username(strings.Repeat("a", 255))}, "", "longer than 255"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tmpl, err := ParseTemplate(tt.template)
			if err != nil {
				t.Fatal(err)
			}
			got, err := tmpl.Expand(tt.tokens)
			checkErr(t, err, tt.wantErr)
			if got != tt.want {
				t.Errorf("Expand: got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestParseTemplateRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"p/{username}":      "not absolute",
		"/p/{user}":         "unknown token {user}",
		"/p/{username":      "unpaired brace",
		"/p/}{username}":    "unpaired brace",
		"/p/../{username}":  `".." component`,
		"/p/./{username}":   `"." component`,
		"/p\x00/{username}": "NUL",
		"":                  "not absolute",
	} {
		_, err := ParseTemplate(in)
		checkErr(t, err, want)
	}
}

func TestFixed(t *testing.T) {
	for in, want := range map[string]string{
		"/mnt/p/firefox/{username}": "/mnt/p/firefox",
		"/mnt/p/home-{username}/x":  "/mnt/p",
		"/mnt/share":                "/mnt/share",
		"/{username}":               "/",
	} {
		tmpl, err := ParseTemplate(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := tmpl.Fixed(); got != want {
			t.Errorf("Fixed of %q: got %q, want %q", in, got, want)
		}
	}
}

func TestMatchUndoesExpand(t *testing.T) {
	tmpl, err := ParseTemplate("/p/{image_id}/{username}.d")
	if err != nil {
		t.Fatal(err)
	}
	got, ok := tmpl.Match("/p/fire*fox/alice.d")
	want := Tokens{Username: "alice", ImageID: "fire*fox"}
	if !ok || cmp.Diff(want, got) != "" {
		t.Errorf("Match: got %v %t, want %v", got, ok, want)
	}
	for _, other := range []string{"/p/a/b", "/p/a/b/c.d", "/p//x.d", "/p/a/.valise-trash-x.d"} {
		if got, ok := tmpl.Match(other); ok {
			t.Errorf("Match of %q: got %v, want none", other, got)
		}
	}
}

// FuzzTemplate: whatever template and names come, an expanded path is clean and lies
// below the template's fixed part, and Match finds the way back or declines.
func FuzzTemplate(f *testing.F) {
	f.Add("/mnt/p/{username}", "alice", "1", "img")
	f.Add("/{user_id}{username}", ".", ".", "")
	f.Add("/a/.{image_id}/x", "", "", ".")
	f.Add("/{username}/{username}", "a\\", "*", "[")
	f.Fuzz(func(t *testing.T, template, user, id, image string) {
		tmpl, err := ParseTemplate(template)
		if err != nil {
			return
		}
		out, err := tmpl.Expand(Tokens{Username(user), id, image})
		if err != nil {
			return
		}
		if path.Clean(out) != out || !path.IsAbs(out) {
			t.Errorf("Expand(%q) is not clean: %q", template, out)
		}
		if fixed := tmpl.Fixed(); fixed != "/" && out != fixed && !strings.HasPrefix(out, fixed+"/") {
			t.Errorf("Expand(%q) = %q left %q", template, out, fixed)
		}
		if v, ok := tmpl.Match(out); ok {
			if again, err := tmpl.Expand(v); err != nil || again != out {
				t.Errorf("Match(%q) = %v expands to %q, %v", out, v, again, err)
			}
		}
	})
}

func checkErr(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Fatalf("got error %v, want none", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Fatalf("got error %v, want one with %q", err, want)
	}
}
