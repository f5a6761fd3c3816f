package volume

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name    string
		options map[string]string
		want    Spec
		wantErr []string
	}{
		{
			"profile", map[string]string{"workspace": "w", "username": "alice", "user_id": "1", "groups": "a,b", "size_limit": "2g", "filter": "x"},
			Spec{Workspace: "w", Username: "alice", UserID: "1", Groups: []string{"a", "b"}, SizeLimit: 2 << 30, Filter: "x"}, nil,
		},
		{"mapping", map[string]string{"group": "g", "mapping": "/m/{username}", "username": "u"}, Spec{Group: "g", Mapping: "/m/{username}", Username: "u"}, nil},
		{"path", map[string]string{"path": "/p/x"}, Spec{Path: "/p/x"}, nil},
		{"reset", map[string]string{"workspace": "w", "username": "u", "control": "reset"}, Spec{Workspace: "w", Username: "u", Control: Reset}, nil},
		{"nothing", nil, Spec{}, []string{`"workspace" is missing`, `"username" is missing`}},
		{"unknown", map[string]string{"workspce": "w", "username": "u"}, Spec{}, []string{`unknown option "workspce"`}},
		{"contradiction", map[string]string{"path": "/p", "workspace": "w"}, Spec{}, []string{`"workspace" does not go with a path volume`}},
		{"filter on a mapping", map[string]string{"mapping": "/m", "group": "g", "filter": "x"}, Spec{}, []string{`"filter" does not go with a mapping volume`}},
		{"both owners", map[string]string{"mapping": "/m", "group": "g", "workspace": "w"}, Spec{}, []string{`one of "workspace" and "group"`}},
		{"climbing user", map[string]string{"workspace": "w", "username": "../x"}, Spec{}, []string{"slash"}},
		{"unclean path", map[string]string{"path": "/p/../x"}, Spec{}, []string{"not a clean absolute path"}},
		{"empty", map[string]string{"workspace": "w", "username": "u", "filter": ""}, Spec{}, []string{`"filter" is empty`}},
		{"bad size", map[string]string{"path": "/p", "size_limit": "big"}, Spec{}, []string{`option "size_limit"`}},
		{"reset of a path", map[string]string{"path": "/p", "control": "reset"}, Spec{}, []string{"only a profile can be reset"}},
		{"unknown control", map[string]string{"path": "/p", "control": "delete"}, Spec{}, []string{`"delete"`}},
		{"several", map[string]string{"x": "1", "y": "2"}, Spec{}, []string{`"x"`, `"y"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(tt.options)
			for _, want := range tt.wantErr {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got error %v, want one with %q", err, want)
				}
			}
			if len(tt.wantErr) > 0 {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNamesDifferWhereOptionsDo(t *testing.T) {
	seen := map[Name]string{}
	for what, s := range map[string]Spec{
		"alice":        {Workspace: "w", Username: "alice"},
		"alice's id":   {Workspace: "w", Username: "alice", UserID: "1"},
		"limited":      {Workspace: "w", Username: "alice", SizeLimit: 1},
		"other limit":  {Workspace: "w", Username: "alice", SizeLimit: 2},
		"slugs alike":  {Workspace: "w", Username: "al/ice"},
		"slugs alike2": {Workspace: "w", Username: "al ice"},
		"shifted":      {Workspace: "w-alice", Username: ""},
		"mapping":      {Workspace: "w", Mapping: "/alice"},
		"path":         {Path: "/w/alice"},
	} {
		n := s.Name("valise")
		if _, err := ParseName(string(n)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if other, ok := seen[n]; ok {
			t.Errorf("%s and %s are both called %s", what, other, n)
		}
		seen[n] = what
	}
	s := Spec{Workspace: "w", Username: "alice"}
	if s.Name("a") == s.Name("b") {
		t.Error("two drivers' volumes have one name")
	}
}

// FuzzSpec: what Parse takes survives the way to the driver, under a name that Docker
// takes.
func FuzzSpec(f *testing.F) {
	f.Add("workspace", "w", "username", "alice", "groups", "a,b")
	f.Add("path", "/a/b", "size_limit", "10m", "control", "check")
	f.Add("mapping", "/m/{username}", "group", "g", "username", "ü")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2, k3, v3 string) {
		s, err := Parse(map[string]string{k1: v1, k2: v2, k3: v3})
		if err != nil {
			return
		}
		again, err := Parse(s.Options())
		if err != nil {
			t.Fatalf("%+v does not come back: %v", s, err)
		}
		if diff := cmp.Diff(s, again); diff != "" {
			t.Errorf("spec changed on its way (-want +got):\n%s", diff)
		}
		if _, err := ParseName(string(s.Name("valise"))); err != nil {
			t.Error(err)
		}
	})
}

// FuzzParseName: a name that is taken is safe as a file's name.
func FuzzParseName(f *testing.F) {
	for _, s := range []string{"home-alice", "..", "a/b", ".x", "a\x00", "-a", strings.Repeat("a", 300)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseName(s)
		if err != nil {
			return
		}
		if len(n) > maxName || strings.ContainsAny(string(n), "/\x00\n") || n[0] == '.' {
			t.Errorf("ParseName takes %q", s)
		}
	})
}
