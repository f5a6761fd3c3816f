package mapping

import (
	"strings"
	"testing"

	"valise/identity"
	"valise/profile"

	"github.com/google/go-cmp/cmp"
)

func TestParseFileTakesTheDocumentedForm(t *testing.T) {
	const doc = `{"/mnt/share": {"bind": "/share", "mode": "rw", "uid": 1000, "gid": 1000, "required": true, "skip_check": false},
		"/mnt/a": {"bind": "/a", "mode": "ro", "required": false, "timeout": 3}}`
	entries, err := ParseFile([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		m, err := New(Owner{Group: "g"}, e.Source, e.Settings, 7, 8)
		if err != nil {
			t.Fatal(err)
		}
		if e.Source == "/mnt/a" && (!m.ReadOnly || m.Required || m.Timeout.Seconds() != 3 || m.UID != 7 || m.GID != 8) {
			t.Errorf("mapping /mnt/a: got %+v", m)
		}
		if e.Source == "/mnt/share" && (m.ReadOnly || !m.Required || m.Timeout != DefaultTimeout || m.UID != 1000) {
			t.Errorf("mapping /mnt/share: got %+v", m)
		}
		got = append(got, m.String())
	}
	want := []string{`volume mapping "/mnt/share" of group "g"`, `volume mapping "/mnt/a" of group "g"`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mappings (-want +got):\n%s", diff)
	}
}

func TestParseFileRefuses(t *testing.T) {
	for doc, want := range map[string]string{
		``:                                  "one JSON object",
		`[]`:                                "one JSON object",
		`{"/a": {"bind":"/a"}} {}`:          "follows the JSON object",
		`{"/a": {"bind":"/a"}`:              "EOF",
		`{"/a": {"Bind":"/a"}}`:             `unknown setting "Bind"`,
		`{"/a": {"bind":"/a","bind":"/b"}}`: `"bind" stands there twice`,
		`{"/a": {"bind":"/a"}, "/a": {"bind":"/b"}}`: `"/a" stands there twice`,
		`{"/a": {"bind":"/a","uid":"x"}}`:            "uid",
		`{"/a": "/b"}`:                               "want an object",
	} {
		if entries, err := ParseFile([]byte(doc)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseFile(%s): got %v, %v, want an error with %q", doc, entries, err, want)
		}
	}
}

// FuzzParseFile: no content makes it panic, and what it takes it takes with names that
// stand there once.
func FuzzParseFile(f *testing.F) {
	f.Add([]byte(`{"/mnt/share": {"bind": "/share", "mode": "rw", "uid": 1000}}`))
	f.Add([]byte(`{"a":{"bind":1}}`))
	f.Add([]byte(`{"a":{},"a":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := ParseFile(data)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, e := range entries {
			if seen[e.Source] {
				t.Errorf("source %q came twice", e.Source)
			}
			seen[e.Source] = true
			_, _ = New(Owner{Workspace: "w"}, e.Source, e.Settings, 0, 0)
		}
	})
}

func TestNewReportsEveryFault(t *testing.T) {
	negative, long := -1, 101
	_, err := New(Owner{Workspace: "w"}, "rel", Settings{Mode: "rx", UID: &negative, Timeout: &long}, 0, 0)
	for _, want := range []string{"not absolute", `"rx"`, "bind is missing", "negative", "timeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %q", err, want)
		}
	}
}

func TestSelect(t *testing.T) {
	policy := &Policy{}
	add := func(o Owner, source, bind string) {
		m, err := New(o, source, Settings{Bind: bind}, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		policy.Mappings = append(policy.Mappings, m)
	}
	add(Owner{Group: "late"}, "/g/late", "/share")
	add(Owner{Group: "early"}, "/g/early/{username}", "/team")
	add(Owner{Group: "late"}, "/g/late2", "/team")
	add(Owner{Workspace: "w"}, "/w/share", "/share")
	add(Owner{Workspace: "w"}, "/w/home", "/home/{username}")
	add(Owner{Workspace: "other"}, "/w/other", "/other")
	w := &profile.Workspace{Name: "w"}
	groups := []*profile.Group{{Name: "early"}, {Name: "late"}}
	tokens := identity.Tokens{Username: "alice", UserID: "1"}

	placed, warnings, err := policy.Select(w, groups, tokens, "/home/alice")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, p := range placed {
		got[p.Target] = p.Source.String()
		if !p.Source.PerUser() && p.Tokens != (identity.Tokens{}) {
			t.Errorf("%s carries tokens it does not need: %v", p, p.Tokens)
		}
	}
	if diff := cmp.Diff(map[string]string{"/share": "/w/share", "/team": "/g/early/{username}"}, got); diff != "" {
		t.Errorf("placed (-want +got):\n%s", diff)
	}
	wantWarnings := []string{
		`volume mapping "/w/home" of workspace "w" is left out: /home/alice is taken by the profile`,
		`volume mapping "/g/late" of group "late" is left out: /share is taken by volume mapping "/w/share" of workspace "w"`,
		`volume mapping "/g/late2" of group "late" is left out: /team is taken by volume mapping "/g/early/{username}" of group "early"`,
	}
	if diff := cmp.Diff(wantWarnings, warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}
