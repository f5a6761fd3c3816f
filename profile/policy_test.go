package profile

import (
	"errors"
	"strings"
	"testing"

	"valise/identity"
)

func template(t *testing.T, s string) identity.Template {
	t.Helper()
	tmpl, err := identity.ParseTemplate(s)
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

func patterns(t *testing.T, list ...string) []ImagePattern {
	t.Helper()
	var out []ImagePattern
	for _, s := range list {
		p, err := ParseImagePattern(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

func TestWorkspaceOfAContainer(t *testing.T) {
	p := &Policy{Workspaces: map[string]*Workspace{
		"firefox": {Name: "firefox", Images: patterns(t, "kasmweb/firefox:*")},
		"kasm":    {Name: "kasm", Images: patterns(t, "kasmweb/*")},
		"dev":     {Name: "dev"},
	}}
	tests := []struct {
		name, image   string
		caller        identity.Caller
		want, wantErr string
	}{
		{"by image", "kasmweb/firefox:1.16", identity.Caller{}, "firefox", ""},
		{"with registry", "docker.io/kasmweb/firefox", identity.Caller{}, "firefox", ""},
		{"the vaguer pattern", "kasmweb/chrome:1", identity.Caller{}, "kasm", ""},
		{"another registry", "example.org/kasmweb/firefox", identity.Caller{}, "", ""},
		{"named outright", "busybox", identity.Caller{Workspace: "dev"}, "dev", ""},
		{"named before image", "kasmweb/firefox", identity.Caller{Workspace: "dev"}, "dev", ""},
		{"unknown name", "kasmweb/firefox", identity.Caller{Workspace: "dve"}, "", `unknown workspace "dve" (known: dev, firefox, kasm)`},
		{"hint", "busybox", identity.Caller{Kind: "dev"}, "dev", ""},
		{"hint that is none", "kasmweb/firefox", identity.Caller{Kind: "alices-laptop"}, "firefox", ""},
		{"image by id", "sha256:0123456789012345678901234567890123456789012345678901234567890123", identity.Caller{}, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, err := p.Workspace(tt.caller, tt.image)
			if (err == nil) != (tt.wantErr == "") || (err != nil && !strings.Contains(err.Error(), tt.wantErr)) {
				t.Fatalf("got error %v, want %q", err, tt.wantErr)
			}
			got := ""
			if w != nil {
				got = w.Name
			}
			if got != tt.want {
				t.Errorf("got workspace %q, want %q", got, tt.want)
			}
		})
	}
	if _, err := p.Named("x"); !errors.Is(err, ErrUnknownWorkspace) {
		t.Errorf("Named: got %v, want ErrUnknownWorkspace", err)
	}
}

func TestImagePattern(t *testing.T) {
	const digest = "sha256:0123456789012345678901234567890123456789012345678901234567890123"
	tests := []struct {
		pattern, image string
		want           bool
	}{
		{"firefox", "docker.io/library/firefox:latest", true},
		{"firefox:latest", "firefox", true},
		{"firefox:1.*", "firefox:1.16", true},
		{"firefox:1.*", "firefox", false},
		{"localhost:5000/fire*", "localhost:5000/firefox:x", true},
		{"kasmweb/*", "kasmweb/a/b", false},
		{"kasmweb/firefox", "kasmweb/firefox@" + digest, true},
		{"kasmweb/firefox:*", "kasmweb/firefox@" + digest, true},
		{"kasmweb/firefox@" + digest, "kasmweb/firefox:1@" + digest, true},
		{"kasmweb/firefox@" + digest, "kasmweb/firefox:1", false},
		{"firefox", "Not A Name", false},
	}
	for _, tt := range tests {
		if got := patterns(t, tt.pattern)[0].Match(tt.image); got != tt.want {
			t.Errorf("%q matches %q: got %t, want %t", tt.pattern, tt.image, got, tt.want)
		}
	}
	for _, bad := range []string{"", ":tag", "a[", "UPPER/case", "a b"} {
		if p, err := ParseImagePattern(bad); err == nil {
			t.Errorf("pattern %q: got %q, want an error", bad, p)
		}
	}
}

func TestGroupsAndModes(t *testing.T) {
	yes, no := true, false
	p := &Policy{Normalize: identity.Normalization{Lowercase: true}, Groups: map[string]*Group{
		"all":   {Name: "all", Priority: 90, Members: []identity.Username{"*"}, Allow: &yes},
		"guest": {Name: "guest", Priority: 10, Allow: &no},
		"eng":   {Name: "eng", Priority: 5, Members: []identity.Username{"Alice"}},
	}}
	tests := []struct {
		user   identity.Username
		named  []string
		groups string
		asked  Mode
		want   Mode
		err    error
	}{
		{"alice", nil, "eng all", Enabled, Enabled, nil},
		{"bob", []string{"guest", "nobody-configured-it"}, "guest all", Enabled, Disabled, nil},
		{"bob", []string{"guest"}, "guest all", Disabled, Disabled, nil},
		{"bob", []string{"guest"}, "guest all", Reset, "", ErrNotAllowed},
		{"alice", []string{"guest"}, "eng guest all", Enabled, Disabled, nil},
		{"carol", nil, "all", Reset, Reset, nil},
	}
	for _, tt := range tests {
		groups := p.GroupsOf(tt.user, tt.named)
		var names []string
		for _, g := range groups {
			names = append(names, g.Name)
		}
		if got := strings.Join(names, " "); got != tt.groups {
			t.Errorf("groups of %s, %v: got %q, want %q", tt.user, tt.named, got, tt.groups)
		}
		got, err := Decide(tt.asked, groups)
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s asks for %s: got %q, %v, want %q, %v", tt.user, tt.asked, got, err, tt.want, tt.err)
		}
	}
	if !Allowed(nil) {
		t.Error("without groups a profile is not allowed")
	}
	if _, err := ParseMode("Enabled"); err == nil {
		t.Error(`ParseMode takes "Enabled"`)
	}
}

func TestTokens(t *testing.T) {
	p := &Policy{UserIDs: map[identity.Username]string{"alice": "1001"}, Normalize: identity.Normalization{StripDomain: true}}
	w := &Workspace{ImageID: "img"}
	for _, tt := range []struct {
		user   identity.Username
		userID string
		want   identity.Tokens
	}{
		{"alice@corp", "", identity.Tokens{Username: "alice", UserID: "1001", ImageID: "img"}},
		{"alice", "7", identity.Tokens{Username: "alice", UserID: "7", ImageID: "img"}},
		{"bob", "", identity.Tokens{Username: "bob", UserID: "bob", ImageID: "img"}},
	} {
		if got := p.Tokens(w, tt.user, tt.userID); got != tt.want {
			t.Errorf("tokens of %s, %q: got %v, want %v", tt.user, tt.userID, got, tt.want)
		}
	}
}

func TestValidateWantsAPathPerUser(t *testing.T) {
	for path, ok := range map[string]bool{"/p/{username}": true, "/p/{user_id}/x": true, "/p/{image_id}": false, "/p/x": false} {
		err := (&Workspace{Path: template(t, path)}).Validate()
		if (err == nil) != ok {
			t.Errorf("profile path %q: got error %v, want ok %t", path, err, ok)
		}
	}
}

func TestSizes(t *testing.T) {
	for in, want := range map[string]int64{"20g": 20 << 30, "500m": 500 << 20, "0g": 0, "0m": 0, "12": 12, "1.5GiB": 3 << 29} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("ParseSize(%q): got %d, %v, want %d", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "-1", "g", "1x", "9999999p"} {
		if got, err := ParseSize(bad); err == nil {
			t.Errorf("ParseSize(%q): got %d, want an error", bad, got)
		}
	}
	for in, want := range map[string]int64{"2000000": 2_000_000_000, "": 0, "0": 0} {
		if got, err := ParseLaunchLimit(in); err != nil || got != want {
			t.Errorf("ParseLaunchLimit(%q): got %d, %v, want %d", in, got, err, want)
		}
	}
	for _, bad := range []string{"-1", "1.5", "2g", "99999999999999999999"} {
		if got, err := ParseLaunchLimit(bad); err == nil {
			t.Errorf("ParseLaunchLimit(%q): got %d, want an error", bad, got)
		}
	}
	for _, tt := range []struct {
		usage, limit int64
		want         Fill
	}{{5, 0, Fits}, {90, 100, Fits}, {91, 100, Near}, {100, 100, Near}, {101, 100, Over}} {
		if got := Judge(tt.usage, tt.limit); got != tt.want {
			t.Errorf("Judge(%d, %d): got %q, want %q", tt.usage, tt.limit, got, tt.want)
		}
	}
}
