//go:build integration

package integration

import (
	"testing"
)

// home is where the demo image's user lives.
const home = "/home/kasm-user"

func TestHomeSurvives(t *testing.T) {
	bothForms(t, settings{}, func(t *testing.T, r *rig) {
		r.shell("alice", "echo mine >notes", "-u", "user").must()
		equal(t, "alice's notes in her next container", r.shell("alice", "cat notes").must(), "mine")
		equal(t, "alice's notes on the host", read(t, r.path("desktop/alice/notes")), "mine\n")
		equal(t, "bob's home", r.shell("bob", "ls -A").must(), "")
		equal(t, "owner and mode of a home", owner(t, r.path("desktop/alice")), "1000:1000 0700")
		equal(t, "owner and mode above it", owner(t, r.path("desktop")), "1000:1000 0755")
	})
}

// A volume without NoCopy gets the image's content and the owner and mode of the
// image's directory from Docker; the content stays, owner and mode are the workspace's.
func TestCopyUpKeepsOwner(t *testing.T) {
	tables := desktop + "uid = 2000\ngid = 2001\nmode = \"0750\"\n"
	bothForms(t, settings{tables: tables}, func(t *testing.T, r *rig) {
		filled := r.name + "/filled"
		maker := r.direct("create", "--label", "rig="+r.name, image, "sh", "-c", "echo hi >from-image; chmod 777 .").must()
		r.direct("start", "-a", maker).must()
		r.direct("commit", maker, filled).must()
		t.Cleanup(func() { r.direct("rmi", "-f", filled).must() })
		r.direct("volume", "create", "-d", r.name, "-o", "workspace=desktop", "-o", "username=alice", r.name).must()
		out := r.direct("run", "--rm", "--net", "none", "-v", r.name+":"+home, filled, "sh", "-c", "cat from-image; stat -c '%u:%g %a' .").must()
		equal(t, "in the container", out, "hi\n2000:2001 750")
		equal(t, "on the host", owner(t, r.path("desktop/alice")), "2000:2001 0750")
	})
}

func TestSkeleton(t *testing.T) {
	tables := desktop + `skeleton = "@mnt/skeleton"` + "\n"
	bothForms(t, settings{tables: tables}, func(t *testing.T, r *rig) {
		write(t, r.path("skeleton/.bashrc"), "first\n")
		write(t, r.path("skeleton/.config/app"), "x\n")
		r.shell("alice", "cat .bashrc .config/app; echo second >.bashrc; rm -r .config", "-u", "user").must()
		equal(t, "owner of a copied file", owner(t, r.path("desktop/alice/.bashrc")), "1000:1000 0644")
		equal(t, "the next login", r.shell("alice", "cat .bashrc; ls -A").must(), "second\n.bashrc")
		equal(t, "after a reset", r.shell("alice", "cat .bashrc; ls -A", "--label", "valise.profile=reset").must(), "first\n.bashrc\n.config")
		equal(t, "the skeleton's own owner", owner(t, r.path("skeleton/.bashrc")), "0:0 0644")
	})
}

// Only the top directory has to be there; it is never made.
func TestMissingTopDirectory(t *testing.T) {
	tables := `
[roots."@mnt/top"]
[workspaces.desktop]
images  = ["valise-demo/desktop"]
profile = "@mnt/top/a/b/{username}"
`
	bothForms(t, settings{tables: tables}, func(t *testing.T, r *rig) {
		r.shell("alice", "true").refused(r.seen+"/top", "does not exist")
		absent(t, r.path("top"))
		mkdir(t, r.path("top"))
		r.shell("alice", "touch here").must()
		equal(t, "the home", names(t, r.path("top/a/b/alice")), "here")
	})
}

// An unmounted NFS directory exists and is empty: it must not be filled.
func TestRequireMount(t *testing.T) {
	tables := `
[roots."@mnt/nfs"]
require_mount = true
[roots."@mnt/marked"]
marker = ".here"
[workspaces.desktop]
images  = ["valise-demo/desktop"]
profile = "@mnt/nfs/{username}"
[workspaces.marked]
profile = "@mnt/marked/{username}"
`
	bothForms(t, settings{tables: tables}, func(t *testing.T, r *rig) {
		mkdir(t, r.path("nfs"))
		mkdir(t, r.path("marked"))
		r.shell("alice", "true").refused(r.seen+"/nfs", "nothing is mounted there", "require_mount")
		r.shell("alice", "true", "--label", "valise.workspace=marked").refused(r.seen+"/marked", ".here", "not mounted")
		equal(t, "the unmounted directory", names(t, r.path("nfs")), "")

		server := mkdir(t, r.dir+"/server")
		bind(t, server, r.path("nfs"))
		write(t, r.path("marked/.here"), "")
		r.shell("alice", "touch kept").must()
		equal(t, "what is mounted", names(t, server+"/alice"), "kept")
		r.shell("alice", "touch kept", "--label", "valise.workspace=marked").must()
	})
}
