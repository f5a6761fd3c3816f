//go:build integration

package integration

import (
	"testing"
)

// One target has one mount: the profile first, then the workspace's, then the groups'
// by priority; the loser is named.
func TestTargetsInOrder(t *testing.T) {
	tables := desktop + `
[workspaces.desktop.volume_mappings."@mnt/w-home"]
bind = "/home/kasm-user"
[workspaces.desktop.volume_mappings."@mnt/w-data"]
bind = "/data"
[groups.later]
priority = 20
members = ["*"]
[groups.later.volume_mappings."@mnt/l-data"]
bind = "/data"
[groups.later.volume_mappings."@mnt/l-more"]
bind = "/more"
[groups.sooner]
priority = 10
members = ["*"]
[groups.sooner.volume_mappings."@mnt/s-more"]
bind = "/more"
`
	r := plainForm(t, settings{tables: tables})
	for _, dir := range []string{"w-home", "w-data", "l-data", "l-more", "s-more"} {
		write(t, r.path(dir, "from-"+dir), "")
	}
	o := r.shell("alice", "ls -A . /data /more").run()
	equal(t, "in the container", o.stdout, ".:\n\n/data:\nfrom-w-data\n\n/more:\nfrom-s-more\n")
	contains(t, "warnings", o.stderr,
		r.seen+`/w-home" of workspace "desktop" is left out: /home/kasm-user is taken by the profile`,
		r.seen+`/l-data" of group "later" is left out: /data is taken by`,
		r.seen+`/l-more" of group "later" is left out: /more is taken by`)
	// Without a profile the mapping gets the home.
	o = r.shell("alice", "ls -A", "--label", "valise.profile=disabled").run()
	equal(t, "in a container without a profile", o.stdout, "from-w-home\n")
}

func TestOwnMountsAtTargets(t *testing.T) {
	tables := desktop + `
[workspaces.desktop.volume_mappings."@mnt/share"]
bind = "/share"
`
	for _, policy := range []string{"replace", "refuse"} {
		t.Run(policy, func(t *testing.T) {
			r := plainForm(t, settings{tables: tables, proxy: `on_conflict = "` + policy + `"`})
			write(t, r.path("desktop/alice/mine"), "")
			write(t, r.path("share/ours"), "")
			theirs := mkdir(t, r.dir+"/theirs")
			write(t, theirs+"/theirs", "")
			for _, c := range []struct {
				name string
				args []string
				what string
			}{
				{"bind", []string{"-v", theirs + ":" + home}, "the bind"},
				{"bind, unclean", []string{"-v", theirs + ":/home//kasm-user/"}, "the bind"},
				{"bind of a mapping", []string{"-v", theirs + ":/share:ro"}, "the bind"},
				{"mount", []string{"--mount", "type=bind,source=" + theirs + ",target=" + home}, "the mount"},
				{"named volume", []string{"-v", r.name + "-theirs:" + home}, "the bind"},
				{"anonymous volume", []string{"-v", home}, "the anonymous volume"},
				{"tmpfs", []string{"--tmpfs", home}, "the tmpfs"},
				{"tmpfs mount", []string{"--mount", "type=tmpfs,target=" + home + "/"}, "the mount"},
			} {
				t.Run(c.name, func(t *testing.T) {
					run := r.shell("alice", "ls -A . /share", c.args...)
					if policy == "refuse" {
						run.refused("valise: "+c.what, "leave it out")
						return
					}
					o := run.run()
					equal(t, "in the container", o.stdout, ".:\nmine\n\n/share:\nours\n")
					contains(t, "warning", o.stderr, "WARNING: valise: "+c.what, "is replaced by")
				})
			}
			// Elsewhere, and below, the caller's mounts are the caller's business.
			o := r.shell("alice", "ls "+home+"/below /elsewhere", "-v", theirs+":"+home+"/below", "-v", theirs+":/elsewhere").run()
			equal(t, "mounts at other targets", o.stdout, "/elsewhere:\ntheirs\n\n"+home+"/below:\ntheirs\n")
			equal(t, "warnings about them", o.stderr, "")
			_ = r.direct("volume", "rm", "-f", r.name+"-theirs").run() // only the daemon may have made it
		})
	}
	t.Run("refused by status", func(t *testing.T) {
		r := plainForm(t, settings{proxy: `on_conflict = "refuse"`})
		c := r.container(map[string]string{"valise.user": "alice"})
		c["HostConfig"] = body{"NetworkMode": "none", "Tmpfs": body{home: ""}}
		r.api("POST", "/containers/create", c).refused(t, "tmpfs at the home", 409, "the tmpfs", home)
	})
}
