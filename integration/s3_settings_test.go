//go:build integration

package integration

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// mapped is a workspace whose storage mapping has short-lived credentials, a filter and a
// limit, and goes before its profile path.
const mapped = `
[storage_providers.sync]
backend_storage = "s3"
log_level = "debug"
filter = "Private,Documents/**.tmp"
storage_limit = "1m"
sts = true
sts_role_arn = "arn:aws:iam::123456789012:role/valise"
sts_endpoint = "@endpoint"
[workspaces.desktop]
images  = ["valise-demo/desktop"]
profile = "@mnt/desktop/{username}"
[workspaces.desktop.storage_mapping]
provider = "sync"
bucket = "@bucket"
prefix = "@rig/desktop/{username}/"
`

func TestS3StorageMapping(t *testing.T) {
	store := newStore(t)
	bothForms(t, onS3(store, strings.ReplaceAll(mapped, "@endpoint", store.Endpoint)), func(t *testing.T, r *rig) {
		r.shell("alice", "mkdir -p Private Documents/deep && echo 1 | tee Private/a Documents/deep/b.tmp Documents/c.txt kept >/dev/null").must()
		r.awaitSaved()
		absent(t, r.path("desktop", "alice"))
		equal(t, "what the filter leaves", r.shell("alice", "find . -type f | sort").must(), "./Documents/c.txt\n./kept")
		// A launch has a filter of its own.
		r.shell("alice", "echo 2 >only", "-e", "KASM_PROFILE_FILTER=only").must()
		r.awaitSaved()
		equal(t, "what the launch's filter leaves", r.shell("alice", "find . -type f | sort").must(), "./Documents/c.txt\n./kept")
		r.awaitSaved()
		// Names that a policy would take for more than themselves have no profile.
		for _, name := range []string{"*", "a?", "${aws:username}"} {
			r.shell(name, "true").refused("can't have any of")
		}
		contains(t, "the driver's log", r.driverLog(), "event=save", "workspace=desktop", "user=alice", "result=ok")
	})
}

// A limit that can't be enforced on this file system is no limit that is not enforced.
func TestS3LimitCannotBeEnforced(t *testing.T) {
	store := newStore(t)
	tables := strings.Replace(mapped, "storage_limit", "limit_action = \"enforce\"\nstorage_limit", 1)
	bothForms(t, onS3(store, strings.ReplaceAll(tables, "@endpoint", store.Endpoint)), func(t *testing.T, r *rig) {
		r.shell("alice", "true").refused("limits can't be enforced", "prjquota")
		contains(t, "the driver's log", r.driverLog(), "limit_action", "prjquota")
	})
}

// Over the limit nothing is saved and nothing is lost; the user is told.
func TestS3Limit(t *testing.T) {
	store := newStore(t)
	s := onS3(store, strings.ReplaceAll(mapped, "@endpoint", store.Endpoint))
	s.s3 = `sync_interval = "1s"`
	s.tables = "[proxy.notices]\ninterval = \"1s\"\ncommand = [\"sh\", \"-c\", \"echo \\\"$1\\\" >>/tmp/notices\", \"sh\", \"{level}: {message}\"]\n" + s.tables
	bothForms(t, s, func(t *testing.T, r *rig) {
		session := r.session("alice")
		volume := r.volumeAt(session, home)
		r.in(session, "head -c 950000 /dev/zero >first")
		told := func(words string) {
			t.Helper()
			eventually(t, "the user is told: "+words, 60*time.Second, func() error {
				if out := r.docker("exec", session, "cat", "/tmp/notices").run().stdout; !strings.Contains(out, words) {
					return fmt.Errorf("got %q", out)
				}
				return nil
			})
		}
		told("near: Your home is 90 % full")
		r.awaitStatus(volume, "snapshot", "1")
		r.in(session, "head -c 500000 /dev/zero >second")
		told("over: ")
		told("changes are not saved until you delete files")
		equal(t, "what is saved", r.inspect(volume).Status["snapshot"], any("1"))
		equal(t, "saved", fmt.Sprint(r.inspect(volume).Status["saved"]), "false")
		// It stays on this host when the session ends, for the next one.
		r.end(session)
		session = r.session("alice")
		equal(t, "the next session", r.in(session, "ls"), "first\nsecond")
		r.in(session, "rm first")
		volume = r.volumeAt(session, home)
		eventually(t, "it is saved again", 30*time.Second, func() error {
			return wantText(fmt.Sprint(r.inspect(volume).Status["saved"]), "true")
		})
		r.end(session)
		// A launch may have a limit of its own.
		session = r.session("bob", "-e", "KASM_PROFILE_SIZE_LIMIT=100")
		equal(t, "limit", fmt.Sprint(r.inspect(r.volumeAt(session, home)).Status["limit_bytes"]), "100000")
		r.end(session)
		r.awaitSaved()
	})
}

// Upkeep forgets what no rule keeps, beside a session that writes, and tells what it did.
func TestS3Upkeep(t *testing.T) {
	s := onS3(newStore(t), "")
	s.s3 = "sync_interval = \"1s\"\n[s3.upkeep]\ninterval = \"1s\"\ncheck_interval = \"1s\"\ncheck_data = true\nkeep_last = 2"
	bothForms(t, s, func(t *testing.T, r *rig) {
		session := r.session("alice")
		for i := range 5 {
			r.in(session, fmt.Sprintf("echo %d >>notes; head -c 100000 /dev/urandom >random", i))
			volume := r.volumeAt(session, home)
			eventually(t, "a save", 20*time.Second, func() error {
				return wantText(fmt.Sprint(r.inspect(volume).Status["snapshot"]), fmt.Sprint(i+1))
			})
		}
		eventually(t, "old snapshots go", 40*time.Second, func() error {
			return wantText(strings.Count(r.snapshots("desktop/alice/"), "\n"), "2")
		})
		equal(t, "the session's home", r.in(session, "cat notes"), "0\n1\n2\n3\n4")
		r.end(session)
		eventually(t, "metrics", 30*time.Second, func() error {
			a, err := request(r.admin, "GET", "/metrics", nil)
			if err != nil {
				return err
			}
			for _, want := range []string{`valise_upkeep_total{operation="prune",result="ok"}`, `valise_upkeep_total{operation="check",result="ok"}`, "valise_profile_faults{"} {
				if !strings.Contains(a.body, want) {
					return errors.New(want + " is missing")
				}
			}
			if strings.Contains(a.body, `operation="check",result="failed"`) {
				t.Fatal("a check failed")
			}
			return nil
		})
		equal(t, "the next session", r.shell("alice", "cat notes").must(), "0\n1\n2\n3\n4")
		r.awaitSaved()
	})
}
