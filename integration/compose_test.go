//go:build integration

package integration

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const composeFile = `
version: "3"
services:
  box:
    image: valise-demo/desktop:latest
    command: sleep 1000
    network_mode: none
    stop_signal: SIGKILL
    labels: {rig: RIG}
    volumes: ["home:/home/kasm-user"]
  session:
    image: valise-demo/desktop:latest
    command: sleep 1000
    network_mode: none
    stop_signal: SIGKILL
    labels: {rig: RIG, valise.user: bob}
volumes:
  home:
    driver: RIG
    driver_opts: {workspace: desktop, username: alice}
`

// A compose file names the driver, or lets the proxy give a service its home. Debian's
// docker-compose leaves the owner of the volume's root to the driver.
func TestCompose(t *testing.T) {
	bothForms(t, settings{}, func(t *testing.T, r *rig) {
		file := filepath.Join(r.dir, "docker-compose.yml")
		write(t, file, strings.ReplaceAll(composeFile, "RIG", r.name))
		compose := func(args ...string) command {
			c := r.docker(append([]string{"-p", r.name, "-f", file}, args...)...)
			c.name = "docker-compose"
			return c
		}
		t.Cleanup(func() { compose("down", "-t", "0", "-v").must() })
		compose("up", "-d").must()
		equal(t, "alice's home", compose("exec", "-T", "box", "sh", "-c", "echo mine >notes; ls -A; stat -c '%u:%g %a' .").must(), "notes\n1000:1000 700")
		equal(t, "bob's home", compose("exec", "-T", "session", "sh", "-c", "touch bobs; ls -A").must(), "bobs")
		volume := r.name + "_home"
		r.awaitStatus(volume, "user", "alice")
		r.awaitStatus(volume, "mounts", "1")
		compose("stop", "-t", "0").must()
		r.awaitStatus(volume, "mounts", "0")
		compose("start").must()
		equal(t, "alice's home after a stop", compose("exec", "-T", "box", "cat", "notes").must(), "mine")

		compose("down", "-t", "0", "-v").must()
		if listed := r.volumes(); slices.Contains(listed, volume) {
			t.Errorf("volumes after down -v: %v", listed)
		}
		equal(t, "alice's files after down -v", read(t, r.path("desktop/alice/notes")), "mine\n")
		equal(t, "bob's files after down -v", names(t, r.path("desktop/bob")), "bobs")
		compose("up", "-d").must()
		equal(t, "alice's home in a new project", compose("exec", "-T", "box", "cat", "notes").must(), "mine")
	})
}
