//go:build integration

package integration

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMappings(t *testing.T) {
	tables := desktop + `
[workspaces.desktop.volume_mappings."@mnt/share"]
bind = "/share"
uid = 1000
gid = 1001
[workspaces.desktop.volume_mappings."@mnt/manual"]
bind = "/manual"
mode = "ro"
skip_check = true
[groups.staff]
members = ["alice"]
volume_mappings_file = "@file"
[users]
alice = "42"
`
	bothForms(t, settings{tables: tables, file: `{
	  "@mnt/staff": {"bind": "/staff", "mode": "rw", "uid": 7, "gid": 8, "required": true, "skip_check": false},
	  "@mnt/users/{username}": {"bind": "/own/{user_id}", "mode": "rw", "uid": 1000, "gid": 1000}
	}`}, func(t *testing.T, r *rig) {
		write(t, r.path("share/inner/file"), "shared\n")
		write(t, r.path("manual/page"), "page\n")
		mkdir(t, r.path("staff"))
		mkdir(t, r.path("users"))

		session := r.session("alice")
		equal(t, "the workspace's", r.in(session, "cat /share/inner/file; echo x >/share/new"), "shared")
		equal(t, "its owner", owner(t, r.path("share")), "1000:1001 0755")
		equal(t, "the owner of what is below", owner(t, r.path("share/inner")), "0:0 0755")
		equal(t, "a read-only one", r.in(session, "cat /manual/page; touch /manual/x 2>&1 || true"), "page\ntouch: /manual/x: Read-only file system")
		equal(t, "the owner with skip_check", owner(t, r.path("manual")), "0:0 0755")
		equal(t, "the group's", r.in(session, "touch /staff/x; stat -c %u:%g /staff"), "7:8")
		equal(t, "with tokens on both sides", r.in(session, "touch /own/42/x; ls /own"), "42")
		equal(t, "alice's own directory", names(t, r.path("users/alice")), "x")
		equal(t, "its owner", owner(t, r.path("users/alice")), "1000:1000 0755")
		r.end(session)

		equal(t, "bob, of no group", r.shell("bob", "ls -d /share /manual /staff /own 2>/dev/null").run().stdout, "/manual\n/share\n")
		equal(t, "carol, of the group by label", r.shell("carol", "ls /own", "--label", "valise.groups=other,staff").must(), "carol")
	})
}

// A mapping that is required and missing refuses the create; an optional one is left
// out, and the docker CLI says so.
func TestMissingSource(t *testing.T) {
	tables := desktop + `
[workspaces.desktop.volume_mappings."@mnt/required"]
bind = "/required"
[workspaces.desktop.volume_mappings."@mnt/optional"]
bind = "/optional"
required = false
`
	bothForms(t, settings{tables: tables}, func(t *testing.T, r *rig) {
		r.shell("alice", "true").refused(r.seen+"/required", `workspace "desktop"`, "no such file or directory")
		equal(t, "containers after the refusal", r.direct("ps", "-aq", "--filter", "label=rig="+r.name).must(), "")
		absent(t, r.path("required"))
		absent(t, r.path("desktop"))

		mkdir(t, r.path("required"))
		o := r.shell("alice", "ls -d /required /optional 2>/dev/null; true").run()
		equal(t, "exit code", o.code, 0)
		equal(t, "in the container", o.stdout, "/required\n")
		contains(t, "the CLI's warning", o.stderr, "WARNING: valise: ", "/optional", r.seen+"/optional", "no such file or directory")
		_, warnings := r.api("POST", "/v1.41/containers/create", r.container(map[string]string{"valise.user": "alice"})).created(t, "create")
		equal(t, "Warnings of the answer", len(warnings), 1)

		mkdir(t, r.path("optional"))
		o = r.shell("alice", "ls -d /required /optional").run()
		equal(t, "in the container", o.stdout, "/optional\n/required\n")
		equal(t, "warnings", o.stderr, "")
	})
}

// The source may be a file, or a socket whose server is on the host.
func TestFileAndSocketSource(t *testing.T) {
	tables := desktop + `
[workspaces.desktop.volume_mappings."@mnt/valise"]
bind = "/usr/bin/valise"
mode = "ro"
[workspaces.desktop.volume_mappings."@mnt/server.sock"]
bind = "/run/server.sock"
[workspaces.desktop.volume_mappings."@mnt/note"]
bind = "/home/kasm-user/notes/today"
uid = 5
gid = 5
`
	bothForms(t, settings{tables: tables}, func(t *testing.T, r *rig) {
		command{t: t, name: "cp", args: []string{binary(t), r.path("valise")}}.must()
		write(t, r.path("note"), "remember\n")
		l, err := net.Listen("unix", r.path("server.sock"))
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if q.URL.Path != "/reload" {
				w.WriteHeader(http.StatusNotFound)
			}
		})}
		done := make(chan struct{})
		go func() { _ = server.Serve(l); close(done) }()
		t.Cleanup(func() { server.Close(); <-done })

		out := r.shell("alice", "test -S /run/server.sock && /usr/bin/valise reload --admin unix:///run/server.sock; cat notes/today; echo more >>notes/today; stat -c %u:%g notes").must()
		equal(t, "in the container", out, "reloaded\nremember\n1000:1000")
		equal(t, "the file on the host", read(t, r.path("note")), "remember\nmore\n")
		equal(t, "the file's owner, never set", owner(t, r.path("note")), "0:0 0644")
		equal(t, "the mount point in the profile", read(t, r.path("desktop/alice/notes/today")), "")
	})
}

// Mount points inside the home are the user's, and never reached through a link.
func TestMountPointsInHome(t *testing.T) {
	tables := desktop + `
[workspaces.desktop.volume_mappings."@mnt/share"]
bind = "/home/kasm-user/Team/share"
uid = 0
gid = 0
[groups.staff]
members = ["*"]
[groups.staff.volume_mappings."@mnt/staff"]
bind = "/home/kasm-user/Staff"
`
	bothForms(t, settings{tables: tables}, func(t *testing.T, r *rig) {
		write(t, r.path("share/file"), "shared\n")
		mkdir(t, r.path("staff"))
		out := r.shell("alice", "cat Team/share/file; touch Staff/x; rmdir Team/share 2>&1 || true; touch Team/own; ls -A", "-u", "user").must()
		equal(t, "in the container", out, "shared\nrmdir: 'Team/share': Device or resource busy\nStaff\nTeam")
		for _, dir := range []string{"Team", "Team/share", "Staff"} {
			equal(t, dir+" in the profile", owner(t, r.path("desktop/alice", dir)), "1000:1000 0755")
		}
		equal(t, "the shared directory's files", names(t, r.path("share")), "file")

		secret := mkdir(t, filepath.Join(r.dir, "secret"))
		for _, obstacle := range []struct{ name, words string }{
			{"link", "a symbolic link is in the way"}, {"file", "not a directory"},
		} {
			if err := os.RemoveAll(r.path("desktop/alice/Team")); err != nil {
				t.Fatal(err)
			}
			if obstacle.name == "link" {
				if err := os.Symlink(secret, r.path("desktop/alice/Team")); err != nil {
					t.Fatal(err)
				}
			} else {
				write(t, r.path("desktop/alice/Team"), "")
			}
			r.shell("alice", "true").refused(`"Team/share"`, r.seen+"/share", obstacle.words)
			equal(t, obstacle.name+": what the link leads to", names(t, secret), "")
		}
	})
}

// A source that becomes a link between create and start leads nowhere.
func TestSwappedSource(t *testing.T) {
	tables := desktop + `
[workspaces.desktop.volume_mappings."@mnt/users/{username}/data"]
bind = "/data"
`
	bothForms(t, settings{tables: tables}, func(t *testing.T, r *rig) {
		secret := mkdir(t, r.path("secret/data"))
		write(t, secret+"/key", "secret\n")
		write(t, r.path("users/alice/data/mine"), "mine\n")
		for _, swap := range []struct{ name, path, to string }{
			{"the source", "users/alice/data", secret},
			{"above the source", "users/alice", filepath.Dir(secret)},
			{"by a relative link", "users/alice/data", "../../secret/data"},
		} {
			t.Run(swap.name, func(t *testing.T) {
				id := r.create("create", "alice", image, "sh", "-c", "cat /data/key /data/mine").must()
				aside := r.path("aside")
				if err := os.Rename(r.path(swap.path), aside); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(swap.to, r.path(swap.path)); err != nil {
					t.Fatal(err)
				}
				o := r.docker("start", "-a", id).run()
				if o.code == 0 || strings.Contains(o.stdout, "secret") {
					t.Errorf("started on a swapped source: %q", o.stdout)
				}
				contains(t, "the error", o.stderr, "users/alice", "a symbolic link is in the way")
				equal(t, "the target's owner", owner(t, secret), "0:0 0755")
				r.shell("alice", "true").refused("a symbolic link is in the way")

				if err := os.Remove(r.path(swap.path)); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(aside, r.path(swap.path)); err != nil {
					t.Fatal(err)
				}
				o = r.docker("start", "-a", id).run()
				equal(t, "what it sees when the source is back", o.stdout, "mine\n")
			})
		}
		// A home that its owner swaps is no better.
		r.shell("bob", "true").must()
		id := r.create("create", "bob", image, "ls").must()
		if err := os.Remove(r.path("desktop/bob")); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(secret, r.path("desktop/bob")); err != nil {
			t.Fatal(err)
		}
		r.docker("start", "-a", id).refused("desktop/bob", "a symbolic link is in the way")
	})
}
