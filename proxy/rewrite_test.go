package proxy

import (
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"valise/identity"
	"valise/mapping"
	"valise/profile"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the .want.json files anew")

// golden is the content of a .want.json: what becomes of the create beside it.
type golden struct {
	Error    string         `json:",omitempty"`
	Status   int            `json:",omitempty"`
	Mode     string         `json:",omitempty"`
	Warnings []string       `json:",omitempty"`
	Body     map[string]any `json:",omitempty"`
}

// TestRewrite holds each testdata/NAME.in.json, a create, against NAME.want.json. A
// name that ends in _refuse runs with on_conflict and unmatched "refuse".
func TestRewrite(t *testing.T) {
	files, err := filepath.Glob("testdata/*.in.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".in.json")
		t.Run(name, func(t *testing.T) {
			in, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(rewrite(t, string(in), strings.HasSuffix(name, "_refuse")), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			wantFile := strings.TrimSuffix(file, ".in.json") + ".want.json"
			if *update {
				if err := os.WriteFile(wantFile, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(wantFile)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// rewrite does what create does, but for the daemon's part.
func rewrite(t *testing.T, body string, refuse bool) golden {
	t.Helper()
	p, err := New(Config{
		Upstream: Upstream{Address: "unix:///nowhere"}, Driver: "valise", RefuseConflict: refuse, RefuseUnmatched: refuse,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}, testPolicy(t))
	if err != nil {
		t.Fatal(err)
	}
	l := Listener{Identity: []string{"valise", "kasm", "jupyterhub"}}
	r := httptest.NewRequest("POST", "/v1.41/containers/create?name=c1", nil)
	tree, err := p.creates.decode(strings.NewReader(body), maxBody)
	doc := document(tree)
	var pl *plan
	if err == nil {
		pl, err = p.plan(l, r, doc)
	}
	if err == nil && pl == nil {
		return golden{Mode: "untouched", Body: doc}
	}
	var more []string
	if err == nil {
		err = misplaced(doc)
	}
	if err == nil {
		more, err = inject(doc, pl.injections, p.cfg.Driver, p.cfg.RefuseConflict)
	}
	var f *fault
	if errors.As(err, &f) {
		return golden{Error: f.message, Status: f.status}
	}
	if err != nil {
		t.Fatal(err)
	}
	return golden{Mode: string(pl.mode), Warnings: append(pl.warnings, more...), Body: doc}
}

func testPolicy(t *testing.T) *mapping.Policy {
	t.Helper()
	template := func(s string) identity.Template {
		tmpl, err := identity.ParseTemplate(s)
		if err != nil {
			t.Fatal(err)
		}
		return tmpl
	}
	image, err := profile.ParseImagePattern("kasmweb/firefox:*")
	if err != nil {
		t.Fatal(err)
	}
	no := false
	policy := &mapping.Policy{Policy: profile.Policy{
		Workspaces: map[string]*profile.Workspace{
			"firefox": {
				Name: "firefox", ImageID: "firefox", Images: []profile.ImagePattern{image},
				Home: template("/home/kasm-user"), Path: template("/mnt/p/firefox/{username}"), UID: 1000, GID: 1000,
			},
			"scratch": {Name: "scratch", ImageID: "scratch", Home: template("/home/kasm-user")},
		},
		Groups: map[string]*profile.Group{
			"eng":    {Name: "eng", Priority: 10, Members: []identity.Username{"alice"}},
			"guests": {Name: "guests", Priority: 1, Allow: &no},
		},
	}}
	for _, m := range []struct {
		owner        mapping.Owner
		source, bind string
		mode         string
	}{
		{mapping.Owner{Workspace: "firefox"}, "/mnt/share", "/share", "rw"},
		{mapping.Owner{Group: "eng"}, "/mnt/eng/{username}", "/home/kasm-user/eng", "ro"},
		{mapping.Owner{Group: "eng"}, "/mnt/other", "/share", "rw"},
	} {
		made, err := mapping.New(m.owner, m.source, mapping.Settings{Bind: m.bind, Mode: m.mode}, 1000, 1000)
		if err != nil {
			t.Fatal(err)
		}
		policy.Mappings = append(policy.Mappings, made)
	}
	return policy
}
