//go:build integration

package integration

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"valise/store/storetest/server"
)

// bucket is the one that tests have on a server of their own.
const bucket = "profiles"

// onS3 is a rig's settings whose workspace desktop lies on a server of S3. In tables
// @s3 is a URL there that the rig has to itself, @bucket is BUCKET@ENDPOINT, and @rig is
// a name of the rig's own.
func onS3(s *server.Server, tables string) settings {
	if tables == "" {
		tables = `
[workspaces.desktop]
images  = ["valise-demo/desktop"]
profile = "@s3/desktop/{username}/"
`
	}
	at := bucket + "@" + strings.TrimPrefix(s.Endpoint, "https://")
	tables = strings.NewReplacer("@s3", "s3://"+at+"/@rig", "@bucket", at).Replace(tables)
	return settings{store: s, tables: tables}
}

// newStore starts an S3 server with a bucket.
func newStore(t *testing.T) *server.Server {
	t.Helper()
	s := server.MinIO(t)
	s.Bucket(t, bucket)
	return s
}

// s3Table is the configuration's [s3], with the files that it names beside the file.
func (r *rig) s3Table() string {
	if r.settings.store == nil {
		return ""
	}
	seen, s := r.etc(), r.settings.store
	write(r.t, filepath.Join(r.dir, "etc/s3.secret"), s.SecretKey+"\n")
	write(r.t, filepath.Join(r.dir, "etc/ca.pem"), read(r.t, s.CAFile))
	return fmt.Sprintf("[s3]\naccess_key_id = %q\nsecret_access_key_file = %q\nca_file = %q\nregion = \"us-east-1\"\n%s\n",
		cmp.Or(r.settings.accessKey, s.AccessKey), seen+"/s3.secret", seen+"/ca.pem", r.settings.s3)
}

// awaitSaved waits until nothing of the rig's sessions is mounted or unsaved on this host.
func (r *rig) awaitSaved() {
	r.t.Helper()
	eventually(r.t, "everything is saved", 2*time.Minute, func() error {
		left, err := filepath.Glob(filepath.Join(r.dir, "lib/valise/s3/*/state.json"))
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("unsaved: %v", left)
		}
		return err
	})
}

func TestS3Home(t *testing.T) {
	store := newStore(t)
	bothForms(t, onS3(store, ""), func(t *testing.T, r *rig) {
		session := r.session("alice")
		equal(t, "owner and mode", r.in(session, "stat -c '%u:%g %a' ."), "1000:1000 700")
		r.in(session, "mkdir docs && echo mine >docs/notes && ln docs/notes docs/link")
		volume := r.volumeAt(session, home)
		st := r.inspect(volume)
		equal(t, "state", st.Status["state"], "mounted")
		second := r.session("alice")
		equal(t, "a second session", r.in(second, "cat docs/notes; echo too >>docs/link"), "mine")
		equal(t, "the first", r.in(session, "cat docs/notes"), "mine\ntoo")
		r.end(session)
		r.end(second)
		r.awaitSaved()
		equal(t, "the next session", r.shell("alice", "cat docs/notes; stat -c %h docs/link").must(), "mine\ntoo\n2")
		equal(t, "bob's", r.shell("bob", "ls -A").must(), "")
		r.awaitSaved()
	})
}

// Reset, purge and the operator's listings work on S3 as in directories.
func TestS3ResetAndPurge(t *testing.T) {
	bothForms(t, onS3(newStore(t), ""), func(t *testing.T, r *rig) {
		session := r.session("alice")
		r.in(session, "echo mine >notes")
		r.shell("alice", "true", "--label", "valise.profile=reset").refused("is in use")
		r.valise("profile", "purge", "alice", "--yes").refused("in use")
		r.end(session)
		equal(t, "after a reset at launch", r.shell("alice", "ls -A; stat -c '%u:%g %a' .", "--label", "valise.profile=reset").must(), "1000:1000 700")
		equal(t, "and after it", r.shell("alice", "echo new >notes; ls -A").must(), "notes")
		r.shell("bob", "echo his >notes").must()
		r.awaitSaved()
		equal(t, "users with profiles", r.users(), "[alice bob]")
		out := r.valise("profile", "purge", "alice").must()
		contains(t, "the dry run", out, "would purge s3://", "/desktop/alice/")
		r.valise("profile", "purge", "alice", "--yes").must()
		equal(t, "users who are left", r.users(), "[bob]")
		equal(t, "alice's next session", r.shell("alice", "ls -A").must(), "")
		equal(t, "bob's", r.shell("bob", "cat notes").must(), "his")
		r.awaitSaved()
	})
}

// users are those who have profiles.
func (r *rig) users() string {
	r.t.Helper()
	var users []string
	for _, p := range r.profiles("ls") {
		users = append(users, p.User)
	}
	return fmt.Sprint(users)
}

// snapshots is what `valise snapshots` shows of a profile below the rig's prefix.
func (r *rig) snapshots(below string) string {
	r.t.Helper()
	s := r.settings.store
	url := "s3://" + bucket + "@" + strings.TrimPrefix(s.Endpoint, "https://") + "/" + cmp.Or(r.settings.prefix, r.name) + "/" + below
	c := r.valise("snapshots", url)
	c.env = append(c.env, "AWS_ACCESS_KEY_ID="+s.AccessKey, "AWS_SECRET_ACCESS_KEY="+s.SecretKey, "AWS_CA_BUNDLE="+s.CAFile, "AWS_REGION=us-east-1")
	return c.must()
}
