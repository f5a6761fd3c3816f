//go:build integration

package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const shareAt = desktop + `
[workspaces.desktop.volume_mappings."@mnt/share"]
bind = "%s"
`

// A good file takes effect at the next create, in driver and proxy; what runs goes on.
func TestReload(t *testing.T) {
	bothForms(t, settings{}, func(t *testing.T, r *rig) {
		write(t, r.path("share/file"), "")
		session := r.session("alice")
		r.in(session, "echo mine >notes")
		for _, at := range []string{"/one", "/two"} {
			r.reload(fmt.Sprintf(shareAt, at))
			equal(t, "mapped at "+at, r.shell("bob", "ls "+at).must(), "file")
		}
		r.reload(strings.Replace(desktop, "/desktop/", "/moved/", 1))
		equal(t, "alice's home elsewhere", r.shell("alice", "ls -A").must(), "")
		equal(t, "the session that was there", r.in(session, "cat notes"), "mine")
		equal(t, "its home on the host", read(t, r.path("desktop/alice/notes")), "mine\n")
		r.reload(desktop)
		equal(t, "alice's home back", r.shell("alice", "cat notes").must(), "mine")
		r.end(session)
	})
}

// A file with faults changes nothing, and both say what is wrong.
func TestReloadRefused(t *testing.T) {
	bothForms(t, settings{}, func(t *testing.T, r *rig) {
		r.shell("alice", "echo mine >notes").must()
		r.configure("[workspaces.desktop]\nprofil = \"@mnt/desktop/{username}\"\nimages = 3\n")
		r.valise("reload").refused("stays as it was", "config.toml:", "workspaces.desktop.profil", "did you mean", "workspaces.desktop.images")
		r.serving.signal(hangup)
		r.serving.awaits(t, "the configuration stays as it was")
		contains(t, "the proxy's log", r.serving.output(), "workspaces.desktop.profil")
		equal(t, "alice's home", r.shell("alice", "cat notes").must(), "mine")
		if r.form == plain {
			r.driver.signal(hangup)
			eventually(t, "the driver refuses at SIGHUP too", 10*time.Second, func() error {
				return wantText(strings.Count(r.driverLog(), "the configuration stays as it was"), "2")
			})
		}
		r.reload(fmt.Sprintf(shareAt, "/share"))
		r.shell("alice", "true").refused(r.seen + "/share")
	})
}

func TestReloadBySignal(t *testing.T) {
	r := plainForm(t, settings{})
	mkdir(t, r.path("share"))
	r.configure(fmt.Sprintf(shareAt, "/share"))
	for _, p := range []*process{r.driver, r.serving} {
		p.signal(hangup)
		p.awaits(t, "configuration reloaded")
	}
	equal(t, "the new mapping", r.shell("alice", "ls -d /share").must(), "/share")
}

// Docker says of a plugin that does not start only that its socket is missing; so it
// starts, and whoever wants a volume is told.
func TestManagedWithFaults(t *testing.T) {
	t.Parallel()
	broken := "[workspaces.desktop]\nprofile = \"@mnt/all\"\nimagez = []\n"
	r := newRig(t, theEngine(t), managed, settings{tables: broken, noProxy: true, faulty: true})
	create := r.volume(r.name+"-v", "workspace=desktop", "username=alice")
	create.refused("config.toml:", "workspaces.desktop.imagez", "{username}")
	r.direct("plugin", "inspect", "-f", "{{.Enabled}}", r.name).must()
	health, err := request(r.admin, "GET", "/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "health", health.status, 503)
	contains(t, "health", health.body, "imagez")
	r.valise("reload").refused("imagez")

	r.configure(desktop)
	r.valise("reload").must()
	r.awaitHealth()
	create.must()
	equal(t, "a home", r.direct("run", "--rm", "--net", "none", "-v", r.name+"-v:"+home, image, "sh", "-c", "touch x; ls").must(), "x")
}
