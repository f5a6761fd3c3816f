//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
)

const volumeTables = desktop + `
[workspaces.desktop.volume_mappings."@mnt/share"]
bind = "/share"
mode = "ro"
[workspaces.bare]
[groups.staff]
[groups.staff.volume_mappings."@mnt/users/{username}"]
bind = "/own"
`

// volume makes a volume by hand, and returns the command.
func (r *rig) volume(name string, options ...string) command {
	args := []string{"volume", "create", "-d", r.name}
	for _, o := range options {
		args = append(args, "-o", r.fill(o))
	}
	return r.direct(append(args, name)...)
}

func TestVolumeKinds(t *testing.T) {
	bothForms(t, settings{tables: volumeTables, noProxy: true}, func(t *testing.T, r *rig) {
		for _, v := range []struct {
			kind    string
			options []string
			path    string // below the directory of profiles and mappings
			status  map[string]string
		}{
			{"profile", []string{"workspace=desktop", "username=alice", "size_limit=1g"}, "desktop/alice",
				map[string]string{"workspace": "desktop", "user": "alice", "limit_bytes": "1.073741824e+09"}},
			{"mapping", []string{"workspace=desktop", "mapping=@mnt/share"}, "share",
				map[string]string{"mapping": fmt.Sprintf(`volume mapping %q of workspace "desktop"`, r.seen+"/share"), "read_only": "true"}},
			{"mapping", []string{"group=staff", "mapping=@mnt/users/{username}", "username=alice"}, "users/alice",
				map[string]string{"read_only": "false"}},
			{"path", []string{"path=@mnt/plain/dir"}, "plain/dir", nil},
		} {
			t.Run(v.kind+" "+v.path, func(t *testing.T) {
				if v.kind != "profile" {
					write(t, r.path(v.path, "file"), "there\n")
				}
				name := unique(r.name + "-")
				equal(t, "create prints", r.volume(name, v.options...).must(), name)
				got := r.inspect(name)
				for member, want := range map[string]string{"kind": v.kind, "path": r.seen + "/" + v.path, "mounts": "0"} {
					equal(t, member, fmt.Sprint(got.Status[member]), want)
				}
				for member, want := range v.status {
					equal(t, member, fmt.Sprint(got.Status[member]), want)
				}
				in := r.direct("run", "--rm", "--net", "none", "-v", name+":/v", image, "sh", "-c", "echo x >/v/new; ls /v; grep -c ' /v ' /proc/mounts").run()
				want := "file\nnew\n1\n"
				switch {
				case v.kind == "profile":
					want = "new\n1\n"
				case v.status["read_only"] == "true":
					want = "file\n1\n"
				}
				equal(t, "in a container", in.stdout, want)
				kept := names(t, r.path(v.path))
				r.direct("volume", "rm", name).must()
				if listed := r.volumes(); slices.Contains(listed, name) {
					t.Errorf("volumes after volume rm: %v", listed)
				}
				equal(t, "files after volume rm", names(t, r.path(v.path)), kept)
			})
		}
	})
}

func TestVolumeOptionsRefused(t *testing.T) {
	bothForms(t, settings{tables: volumeTables, noProxy: true}, func(t *testing.T, r *rig) {
		write(t, r.path("plain/file"), "")
		for _, c := range []struct {
			name    string
			options []string
			words   []string
		}{
			{"none", nil, []string{`"workspace" is missing`, `"username" is missing`}},
			{"unknown", []string{"workspace=desktop", "username=alice", "size=1g"}, []string{`unknown option "size"`, "size_limit"}},
			{"path and user", []string{"path=@mnt/plain", "username=alice"}, []string{`"username" does not go with a path volume`}},
			{"mapping of two", []string{"mapping=@mnt/share", "workspace=desktop", "group=staff"}, []string{`"workspace"`, `"group"`}},
			{"mapping of none", []string{"mapping=@mnt/share"}, []string{`"workspace"`, `"group"`}},
			{"empty", []string{"workspace=desktop", "username="}, []string{`"username" is empty`}},
			{"size", []string{"workspace=desktop", "username=alice", "size_limit=much"}, []string{`"size_limit"`, "much"}},
			{"user with a slash", []string{"workspace=desktop", "username=a/b"}, []string{`"a/b"`, "slash"}},
			{"user that climbs", []string{"workspace=desktop", "username=.."}, []string{`".."`}},
			{"workspace", []string{"workspace=office", "username=alice"}, []string{`unknown workspace "office"`, "desktop"}},
			{"workspace without profile", []string{"workspace=bare", "username=alice"}, []string{`"bare" has no profile`}},
			{"mapping that is none", []string{"workspace=desktop", "mapping=@mnt/plain"}, []string{`"desktop" has no volume mapping`, "/plain"}},
			{"path outside", []string{"path=/etc"}, []string{`"/etc" is not below any of the configured roots`}},
			{"path that climbs", []string{"path=@mnt/../etc"}, []string{"not a clean absolute path"}},
			{"path that is missing", []string{"path=@mnt/nowhere"}, []string{"/nowhere", "no such file"}},
			{"path of a file", []string{"path=@mnt/plain/file"}, []string{"/plain/file", "not a directory"}},
			{"path of valise's own", []string{"path=@mnt/.valise-trash"}, []string{".valise-"}},
			{"control", []string{"workspace=desktop", "username=alice", "control=purge"}, []string{`"control"`, "purge"}},
			{"reset of a mapping", []string{"workspace=desktop", "mapping=@mnt/share", "control=reset"}, []string{"only a profile can be reset"}},
		} {
			t.Run(c.name, func(t *testing.T) {
				for i, w := range c.words {
					c.words[i] = r.fill(w)
				}
				r.volume(unique(r.name+"-"), c.options...).refused(c.words...)
			})
		}
		equal(t, "volumes", len(r.volumes()), 0)
		equal(t, "directories", names(t, r.mnt), "plain")
	})
}

// What Docker itself would not ask: it sends no Create for a volume that it knows, and
// no Mount for one that it has not made.
func TestVolumeProtocol(t *testing.T) {
	bothForms(t, settings{tables: volumeTables, noProxy: true}, func(t *testing.T, r *rig) {
		alice := map[string]string{"workspace": "desktop", "username": "alice"}
		name := r.name + "-v"
		equal(t, "create", r.call("Create", body{"Name": name, "Opts": alice}), "")
		equal(t, "the same again", r.call("Create", body{"Name": name, "Opts": alice}), "")
		contains(t, "with other options", r.call("Create", body{"Name": name, "Opts": map[string]string{"workspace": "desktop", "username": "bob"}}), name, "other options")
		contains(t, "a name that is none", r.call("Create", body{"Name": "../x", "Opts": alice}), `"../x"`)
		contains(t, "mount of another", r.call("Mount", body{"Name": name + "x", "ID": "1"}), "no such volume")

		equal(t, "mount", r.call("Mount", body{"Name": name, "ID": "1"}), "")
		equal(t, "mount by the same id", r.call("Mount", body{"Name": name, "ID": "1"}), "")
		equal(t, "mount by another", r.call("Mount", body{"Name": name, "ID": "2"}), "")
		r.mountCount(name, 2)
		contains(t, "remove while mounted", r.call("Remove", body{"Name": name}), name, "mounted 2 times")
		equal(t, "unmount of an unknown id", r.call("Unmount", body{"Name": name, "ID": "3"}), "")
		equal(t, "unmount", r.call("Unmount", body{"Name": name, "ID": "1"}), "")
		equal(t, "unmount again", r.call("Unmount", body{"Name": name, "ID": "1"}), "")
		r.mountCount(name, 1)
		equal(t, "unmount of the last", r.call("Unmount", body{"Name": name, "ID": "2"}), "")
		r.mountCount(name, 0)

		control := map[string]string{"workspace": "desktop", "username": "alice", "control": "check"}
		equal(t, "control", r.call("Create", body{"Name": name + "c", "Opts": control}), "")
		contains(t, "mount of a control", r.call("Mount", body{"Name": name + "c", "ID": "1"}), "control volume")
		equal(t, "remove the control", r.call("Remove", body{"Name": name + "c"}), "")
		equal(t, "remove", r.call("Remove", body{"Name": name}), "")
		contains(t, "remove again", r.call("Remove", body{"Name": name}), "no such volume")
	})
}

// call speaks the volume protocol and returns the error in the answer.
func (r *rig) call(verb string, in body) string {
	r.t.Helper()
	return r.speak(verb, in).Err
}

// mountCount wants a number of mounts in a volume's Status. Docker is not asked: it
// would go on listing a volume that the protocol removes behind its back.
func (r *rig) mountCount(name string, want int) {
	r.t.Helper()
	equal(r.t, "mounts", fmt.Sprint(r.speak("Get", body{"Name": name}).Volume.Status["mounts"]), fmt.Sprint(want))
}

// reply is an answer of the volume protocol.
type reply struct {
	Err    string
	Volume struct{ Status map[string]any }
}

func (r *rig) speak(verb string, in body) reply {
	r.t.Helper()
	address := "unix://" + r.socket()
	if r.form == managed {
		address = "unix:///run/docker/plugins/" + r.pluginID() + "/valise.sock"
	}
	a, err := request(address, "POST", "/VolumeDriver."+verb, in)
	if err != nil {
		r.t.Fatalf("%s: %v", verb, err)
	}
	var out reply
	if err := json.Unmarshal([]byte(a.body), &out); err != nil {
		r.t.Fatalf("%s: %q: %v", verb, a.body, err)
	}
	return out
}
