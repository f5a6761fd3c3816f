package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// minimal is a good file; cases add to it.
const minimal = `
[roots."/mnt/p"]
[workspaces.firefox]
images  = ["kasmweb/firefox:*"]
profile = "/mnt/p/firefox/{username}"
`

func TestDefaults(t *testing.T) {
	cfg, err := Parse("c.toml", []byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]any{
		"state_dir": cfg.StateDir, "log_format": cfg.LogFormat, "level": cfg.LogLevel.String(),
		"socket": cfg.Plugin.Socket, "admin": cfg.Plugin.Admin, "interval": cfg.Plugin.UsageInterval,
		"upstream": cfg.Proxy.Upstream, "driver": cfg.Proxy.Driver,
		"refuse":   cfg.Proxy.RefuseUnknown || cfg.Proxy.RefuseTaken,
		"warnings": len(cfg.Warnings),
	}
	w := cfg.Policy.Workspaces["firefox"]
	got["home"], got["uid"], got["gid"], got["mode"], got["image_id"] = w.Home.String(), w.UID, w.GID, w.Mode.String(), w.ImageID
	want := map[string]any{
		"state_dir": "/var/lib/valise", "log_format": "text", "level": "INFO",
		"socket": "/run/docker/plugins/valise.sock", "admin": "unix:///run/valise/admin.sock", "interval": 5 * time.Minute,
		"upstream": "unix:///var/run/docker.sock", "driver": "valise", "refuse": false, "warnings": 0,
		"home": "/home/kasm-user", "uid": 1000, "gid": 1000, "mode": "-rwx------", "image_id": "firefox",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

func TestEveryFaultAtOnceWithItsLine(t *testing.T) {
	const file = `state_dir = "rel"
log_levl = "x"
log_level = 3

[[proxy.listen]]
address = "unix:///x"
policy = "trusted"
identity = ["valise", "kasm"]
[[proxy.listen]]
address = "tcp://0.0.0.0:2375"
policy = "confined"
identity = [
 "valise",
 7 ]
[roots."/mnt/p"]
[workspaces.b]
profile = "/mnt/p/x/{username}"
Home = "/x"
[workspaces.b.volume_mappings."/mnt/q"]
bind = "/share"
mode = "rx"
`
	_, err := Parse("c.toml", []byte(file))
	var faults Faults
	if !errors.As(err, &faults) {
		t.Fatalf("got %v, want Faults", err)
	}
	want := []struct {
		line      int
		key, text string
	}{
		{1, "state_dir", "not absolute"},
		{2, "log_levl", `did you mean "log_level"?`},
		{3, "log_level", "want a string, got a whole number"},
		{9, "proxy.listen[1]", "root on the daemon's host"},
		{11, "proxy.listen[1].policy", "not in this version"},
		{12, "proxy.listen[1].identity", "one is a whole number"},
		{18, "workspaces.b.Home", `did you mean "home"?`},
		{19, `workspaces.b.volume_mappings."/mnt/q"`, `"rx"`},
		{19, `workspaces.b.volume_mappings."/mnt/q"`, "not below any of the roots"},
	}
	if len(faults) != len(want) {
		t.Errorf("got %d faults, want %d:\n%v", len(faults), len(want), err)
	}
	for i := range min(len(faults), len(want)) {
		f, w := faults[i], want[i]
		if f.Line != w.line || f.Key != w.key || !strings.Contains(f.Message, w.text) {
			t.Errorf("fault %d: got %s, want line %d of %s with %q", i, f, w.line, w.key, w.text)
		}
	}
}

func TestRefused(t *testing.T) {
	tests := []struct{ name, add, want string }{
		{"syntax", `x = `, "c.toml:6"},
		{"profile for everybody", "[workspaces.w]\nprofile = \"/mnt/p/w\"", "needs {username} or {user_id}"},
		{"profile outside the roots", "[workspaces.w]\nprofile = \"/srv/{username}\"", `add [roots."/srv"]`},
		{"no bucket", "[workspaces.w]\nprofile = \"s3://b/{username}/\"", `"b" is no bucket name`},
		{"no prefix", "[workspaces.w]\nprofile = \"s3://bucket@http://127.0.0.1:9000/\"", "it has no prefix"},
		{"bucket for everybody", "[workspaces.w]\nprofile = \"s3://bucket/desktop/\"", "needs {username} or {user_id}"},
		{"unknown token", "[workspaces.w]\nprofile = \"s3://bucket/{name}/\"", "unknown token {name}"},
		{"unknown provider", "[workspaces.w.storage_mapping]\nprovider = \"s\"\nbucket = \"bucket\"", "add [storage_providers.s]"},
		{"mapping without bucket", "[storage_providers.s]\n[workspaces.w.storage_mapping]\nprovider = \"s\"", "give BUCKET"},
		{"mapping's key without secret", "[storage_providers.s]\n[workspaces.w.storage_mapping]\nprovider = \"s\"\nbucket = \"bucket\"\naccess_key_id = \"A\"", "needs its secret"},
		{"sts of the instance", "[storage_providers.s]\nsts = true\nsts_role_arn = \"arn:aws:iam::1:role/r\"\n[workspaces.w.storage_mapping]\nprovider = \"s\"\nbucket = \"bucket\"\naccess_key_id = \"{IAM}\"", "sts must be false"},
		{"sts for ever", "[storage_providers.s]\nsts = true\nsts_role_arn = \"arn:aws:iam::1:role/r\"\nsts_duration = \"24h\"", "more than the 12h"},
		{"filter that leads out", "[storage_providers.s]\nfilter = \"../x\"", "leads out of the home"},
		{"migration into a directory", "[workspaces.w]\nprofile = \"/mnt/p/{username}\"\nmigrate_from = \"/mnt/p/old/{username}\"", "only profiles on S3"},
		{"short grace", "[s3.upkeep]\ngrace = \"1m\"", "at least 10m"},
		{"webhook", "[proxy.notices]\nwebhook = \"mail:x\"", "webhook"},
		{"sts without role", "[storage_providers.s]\nsts = true", "sts_role_arn"},
		{"key without file", "[storage_providers.s]\nencryption = \"client\"", "master_key_file"},
		{"secret in the file", "[s3]\nsecret_access_key = \"x\"", "secrets do not stand in this file"},
		{"home over all", "[workspaces.w]\nhome = \"/\"", "cover the whole container"},
		{"mapping without bind", "[workspaces.w.volume_mappings.\"/mnt/p/s\"]\nmode = \"ro\"", "bind is missing"},
		{"mapping over all", "[workspaces.w.volume_mappings.\"/mnt/p/s\"]\nbind = \"/\"", "cover the whole container"},
		{"two listeners", "[[proxy.listen]]\naddress = \"unix:///a\"\npolicy = \"trusted\"\nidentity = [\"kasm\"]\n[[proxy.listen]]\naddress = \"unix:///a\"\npolicy = \"trusted\"\nidentity = [\"kasm\"]", "already"},
		{"no policy", "[[proxy.listen]]\naddress = \"unix:///a\"\nidentity = [\"kasm\"]", `say "trusted"`},
		{"no identity", "[[proxy.listen]]\naddress = \"unix:///a\"\npolicy = \"trusted\"", "name at least one"},
		{"unknown preset", "[[proxy.listen]]\naddress = \"unix:///a\"\npolicy = \"trusted\"\nidentity = [\"ldap\"]", `"ldap" is none of`},
		{"peercred on tcp", "[[proxy.listen]]\naddress = \"tcp://127.0.0.1:1\"\npolicy = \"trusted\"\nidentity = [\"peercred\"]", "needs a unix socket"},
		{"tls without ca", "[[proxy.listen]]\naddress = \"tcp://127.0.0.1:1\"\npolicy = \"trusted\"\nidentity = [\"tls\"]", "client certificates"},
		{"socket without user", "[[proxy.listen]]\naddress = \"unix:///a\"\npolicy = \"trusted\"\nidentity = [\"socket\"]", "all who connect are this user"},
		{"admin for all", "[plugin]\nadmin = \"tcp://0.0.0.0:1\"", "could delete profiles"},
		{"odd scheme", "[proxy]\nupstream = \"npipe://x\"", "neither unix nor tcp"},
		{"root of all", "[roots.\"/\"]", "below /"},
		{"user id that climbs", "[users]\nalice = \"..\"", "relative directory"},
		{"group with a comma", "[groups.\"a,b\"]", "neither comma nor space"},
		{"missing mapping file", "[groups.g]\nvolume_mappings_file = \"gone.json\"", "gone.json"},
		{"table for a value", "[log_level]\nx = 1", "want a string, got a table"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("c.toml", []byte(minimal+tt.add))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a fault with %q", err, tt.want)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	const file = minimal + `
[workspaces.clone]
profile = "/mnt/p/firefox/{username}"
[workspaces.clone.volume_mappings."/mnt/p/a"]
bind = "/same"
[workspaces.clone.volume_mappings."/mnt/p/b"]
bind = "/same"
[groups.a]
allow_persistent_profile = true
[groups.b]
allow_persistent_profile = false
`
	cfg, err := Parse("c.toml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	all := cfg.Warnings.Error()
	for _, want := range []string{
		`groups.b.priority: group "a" has the same priority`,
		`c.toml:5: workspaces.firefox.profile: workspace "clone" has the same profile path`,
		`it is never mounted: "/mnt/p/a" has the same target /same`,
	} {
		if !strings.Contains(all, want) {
			t.Errorf("got warnings\n%s\nwant one with %q", all, want)
		}
	}
	if len(cfg.Warnings) != 3 {
		t.Errorf("got %d warnings, want 3:\n%s", len(cfg.Warnings), all)
	}
}

func TestMappingFileIsTakenAsItIs(t *testing.T) {
	dir := t.TempDir()
	doc := `{"/mnt/p/share": {"bind": "/share", "mode": "ro", "uid": 5, "gid": 6, "required": false, "skip_check": true}}`
	if err := os.WriteFile(filepath.Join(dir, "m.json"), []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := Parse(filepath.Join(dir, "c.toml"), []byte(minimal+"[groups.g]\nvolume_mappings_file = \"m.json\""))
	if err != nil {
		t.Fatal(err)
	}
	m := cfg.Policy.Mappings[0]
	if m.Bind.String() != "/share" || !m.ReadOnly || m.UID != 5 || m.GID != 6 || m.Required || !m.SkipCheck || m.Owner.Group != "g" {
		t.Errorf("got %+v", m)
	}
	bad := strings.Replace(doc, "bind", "bnid", 1)
	if err := os.WriteFile(filepath.Join(dir, "m.json"), []byte(bad), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Parse(filepath.Join(dir, "c.toml"), []byte(minimal+"[groups.g]\nvolume_mappings_file = \"m.json\""))
	if err == nil || !strings.Contains(err.Error(), `unknown setting "bnid"`) || !strings.Contains(err.Error(), "c.toml:7") {
		t.Errorf("got %v, want the fault in m.json at line 7 of c.toml", err)
	}
}

// FuzzParse: no content makes it panic, and a fault's line is one of the file's.
func FuzzParse(f *testing.F) {
	f.Add(minimal)
	f.Add("[[proxy.listen]]\naddress = 1\n[proxy]\nlisten = 3")
	f.Add("workspaces = []\nroots.\"/a\".marker = '''\nx'''")
	f.Fuzz(func(t *testing.T, content string) {
		_, err := Parse("c.toml", []byte(content))
		var faults Faults
		if !errors.As(err, &faults) {
			return
		}
		for _, fault := range faults {
			if fault.Line < 0 || fault.Line > strings.Count(content, "\n")+2 {
				t.Errorf("%s: no such line", fault)
			}
		}
	})
}
