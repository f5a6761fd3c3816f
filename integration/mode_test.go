//go:build integration

package integration

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func TestModes(t *testing.T) {
	bothForms(t, settings{}, func(t *testing.T, r *rig) {
		r.shell("alice", "echo mine >notes; mkdir -p deep/er; echo x >deep/er/file").must()

		equal(t, "disabled", r.shell("alice", "ls -A; touch lost", "--label", "valise.profile=disabled").must(), "")
		equal(t, "enabled", r.shell("alice", "ls -A", "--label", "valise.profile=enabled").must(), "deep\nnotes")
		r.shell("alice", "true", "--label", "valise.profile=perhaps").refused("perhaps", "enabled, disabled, reset")

		equal(t, "reset", r.shell("alice", "ls -A; stat -c '%u:%g %a' .; touch fresh", "--label", "valise.profile=reset").must(), "1000:1000 700")
		equal(t, "after the reset", r.shell("alice", "ls -A").must(), "fresh")
		eventually(t, "the old home is deleted", 20*time.Second, func() error {
			return wantText(names(t, r.path("desktop")), "alice")
		})
		equal(t, "volumes after all", len(r.volumes()), 1)
	})
}

func TestResetInUse(t *testing.T) {
	bothForms(t, settings{}, func(t *testing.T, r *rig) {
		session := r.session("alice")
		r.in(session, "echo mine >notes")
		r.shell("alice", "true", "--label", "valise.profile=reset").refused("alice", "is in use", "stop them first")
		r.api("POST", "/v1.41/containers/create", r.container(map[string]string{"valise.user": "alice", "valise.profile": "reset"})).
			refused(t, "reset in use", 409, "alice", "is in use")
		equal(t, "the running container's notes", r.in(session, "cat notes"), "mine")
		equal(t, "the notes on the host", read(t, r.path("desktop/alice/notes")), "mine\n")
		equal(t, "containers of the refused creates", r.direct("ps", "-aq", "--no-trunc", "--filter", "label=rig="+r.name).must(), session)

		r.end(session)
		equal(t, "reset when unused", r.shell("alice", "ls -A", "--label", "valise.profile=reset").must(), "")
	})
}

// Two sessions of one user share one home; a third user's reset is nobody else's.
func TestTwoSessions(t *testing.T) {
	bothForms(t, settings{}, func(t *testing.T, r *rig) {
		one, two := r.session("alice"), r.session("alice")
		r.in(one, "echo shared >notes")
		equal(t, "the other session", r.in(two, "cat notes"), "shared")
		volume := r.volumeAt(one, home)
		equal(t, "the other session's volume", r.volumeAt(two, home), volume)
		r.awaitStatus(volume, "mounts", "2")
		r.end(one)
		r.awaitStatus(volume, "mounts", "1")
		r.shell("bob", "true", "--label", "valise.profile=reset").must()
		equal(t, "the session that is left", r.in(two, "cat notes"), "shared")
		r.end(two)
		r.awaitStatus(volume, "mounts", "0")
	})
}

func TestNotAllowed(t *testing.T) {
	tables := desktop + `
[groups.strict]
priority = 20
members = ["mallory", "carol"]
allow_persistent_profile = false
[groups.vip]
priority = 10
members = ["carol"]
allow_persistent_profile = true
`
	bothForms(t, settings{tables: tables}, func(t *testing.T, r *rig) {
		write(t, r.path("desktop/mallory/old"), "old\n")
		o := r.shell("mallory", "touch lost; ls -A").run()
		equal(t, "mallory's exit code", o.code, 0)
		contains(t, "mallory's warning", o.stderr, `"mallory" may not have a persistent profile`)
		equal(t, "mallory's home", o.stdout, "lost\n")
		r.shell("mallory", "true", "--label", "valise.profile=reset").refused("mallory", "not allowed")
		equal(t, "what mallory had", names(t, r.path("desktop/mallory")), "old")

		o = r.shell("carol", "touch kept").run()
		equal(t, "carol's warnings (her first group wins)", o.stderr, "")
		equal(t, "carol's home", names(t, r.path("desktop/carol")), "kept")
		// The platform may name the group too.
		o = r.shell("dave", "true", "--label", "valise.groups=strict").run()
		contains(t, "dave's warning", o.stderr, "may not have a persistent profile")
		absent(t, r.path("desktop/dave"))
	})
}

func TestSizeLimit(t *testing.T) {
	tables := desktop + "size_limit = \"2m\"\n"
	bothForms(t, settings{tables: tables}, func(t *testing.T, r *rig) {
		session := r.session("alice")
		volume := r.volumeAt(session, home)
		path := r.seen + "/desktop/alice"
		equal(t, "limit", wantText(int64(r.inspect(volume).Status["limit_bytes"].(float64)), "2097152"), nil)

		r.in(session, "dd if=/dev/zero of=big bs=1k count=1950 2>/dev/null")
		r.awaitStatus(volume, "fill", "above 90 % of the limit")
		r.in(session, "dd if=/dev/zero of=more bs=1k count=500 2>/dev/null")
		r.awaitStatus(volume, "fill", "over the limit")
		if usage, _ := r.inspect(volume).Status["usage_bytes"].(float64); usage < 2450<<10 || usage > 2600<<10 {
			t.Errorf("usage_bytes: got %v, want about %d", usage, 2450<<10)
		}
		metrics, err := request(r.admin, "GET", "/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		contains(t, "metrics", metrics.body, `valise_profile_usage_bytes{path="`+path+`"}`,
			`valise_profile_limit_bytes{path="`+path+`"} 2.097152e+06`, `valise_profile_mounts{path="`+path+`"} 1`)
		eventually(t, "the log's warnings", 10*time.Second, func() error {
			log := r.driverLog()
			if !strings.Contains(log, "profile is above 90 % of the limit") || !strings.Contains(log, "profile is over the limit") {
				return errors.New("missing")
			}
			return nil
		})
		// A warning is all: the home can still be written.
		r.in(session, "echo more >>more; rm big more")
		r.awaitStatus(volume, "fill", "fits")
	})
}

func TestLaunchSizeLimit(t *testing.T) {
	r := plainForm(t, settings{tables: desktop + "size_limit = \"2m\"\n"})
	session := r.session("alice", "-e", "KASM_PROFILE_SIZE_LIMIT=500")
	volume := r.volumeAt(session, home)
	r.awaitStatus(volume, "limit_bytes", "500000")
	equal(t, "the volume's option", r.inspect(volume).Options["size_limit"], "500000")
	r.in(session, "dd if=/dev/zero of=big bs=1k count=600 2>/dev/null")
	r.awaitStatus(volume, "fill", "over the limit")
	r.shell("alice", "true", "-e", "KASM_PROFILE_SIZE_LIMIT=2g").refused("KASM_PROFILE_SIZE_LIMIT", "2g")
	twice := r.container(map[string]string{"valise.user": "alice"})
	twice["Env"] = []string{"KASM_PROFILE_SIZE_LIMIT=1", "KASM_PROFILE_SIZE_LIMIT=2"}
	r.api("POST", "/containers/create", twice).refused(t, "limit given twice", 400, "KASM_PROFILE_SIZE_LIMIT", "twice")
	if _, err := os.Stat(r.path("desktop/alice/big")); err != nil {
		t.Error(err)
	}
}
