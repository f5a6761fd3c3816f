//go:build integration

package integration

import (
	"fmt"
	"os"
	"testing"
	"time"
)

const (
	inDirectory = `
[workspaces.desktop]
images  = ["valise-demo/desktop"]
profile = "@mnt/desktop/{username}"
`
	fromDirectory = inDirectory + `
[storage_providers.sync]
filter = "Private"
[workspaces.desktop.storage_mapping]
provider = "sync"
bucket = "@bucket"
prefix = "@rig/desktop/{username}/"
`
	fromS3 = `
[workspaces.desktop]
images  = ["valise-demo/desktop"]
profile = "@s3/old/{username}/"
[storage_providers.sync]
[workspaces.desktop.storage_mapping]
provider = "sync"
bucket = "@bucket"
prefix = "@rig/desktop/{username}/"
`
)

// A directory profile moves to S3 at its first use there, with all its attributes, and
// stays as it was.
func TestS3MigratesDirectory(t *testing.T) {
	bothForms(t, onS3(newStore(t), inDirectory), func(t *testing.T, r *rig) {
		fill := "mkdir -p docs Private && echo mine >docs/notes && ln docs/notes docs/link && ln -s notes docs/soft && mkfifo pipe && echo x >Private/x && chmod 640 docs/notes && touch -d '2001-02-03 04:05:06' docs/notes"
		show := "find . -path ./Private -prune -o -print | sort | xargs stat -c '%n %F %a %u %h %y' | sed 's/ [0-9]* 20[0-9-]* .*//'; stat -c %Y docs/notes; cat docs/soft"
		r.shell("alice", fill).must()
		want := r.shell("alice", show).must()
		session := r.session("alice")
		tables := onS3(r.settings.store, fromDirectory).tables
		r.reload(tables)
		// Nobody must write to the source meanwhile.
		r.shell("alice", "true").refused("still use", "stop them first")
		r.end(session)
		equal(t, "the home", r.shell("alice", show).must(), want)
		r.shell("alice", "echo new >docs/new; rm docs/link").must()
		equal(t, "the source", names(t, r.path("desktop", "alice", "docs")), "link notes soft")
		r.awaitSaved()
		equal(t, "the next session", r.shell("alice", "ls docs").must(), "new\nnotes\nsoft")
		equal(t, "who had none", r.shell("bob", "ls -A").must(), "")
		r.awaitSaved()
	})
}

// A profile on S3 moves from plain objects, as rclone leaves them, and from a profile of
// the same form at another place.
func TestS3MigratesS3(t *testing.T) {
	bothForms(t, onS3(newStore(t), fromS3), func(t *testing.T, r *rig) {
		store := r.settings.store
		put := func(key, body string, meta map[string]string) {
			t.Helper()
			store.Put(t, bucket, r.name+"/old/alice/"+key, []byte(body), meta)
		}
		put("docs/notes", "mine\n", map[string]string{"mtime": "981173106.5"})
		for i := range 30 {
			put(fmt.Sprintf("many/%d", i), fmt.Sprint(i), nil)
		}
		equal(t, "alice's home", r.shell("alice", "cat docs/notes; stat -c '%Y %u' docs/notes; ls many | wc -l").must(), "mine\n981173106 1000\n30")
		r.awaitSaved()
		put("docs/later", "x", nil)
		equal(t, "it is done once", r.shell("alice", "ls docs").must(), "notes")
		r.awaitSaved()
	})
}

// A migration that is killed, with the driver, is begun anew; nothing half-made is seen.
func TestS3MigrationKilled(t *testing.T) {
	bothForms(t, onS3(newStore(t), fromDirectory), func(t *testing.T, r *rig) {
		mkdir(t, r.path("desktop"))
		mkdir(t, r.path("desktop", "alice"))
		for i := range 2000 {
			write(t, r.path("desktop", "alice", fmt.Sprintf("f%d", i)), fmt.Sprintf("%d\n", i))
		}
		if err := os.WriteFile(r.path("desktop", "alice", "big"), make([]byte, 60<<20), 0o644); err != nil {
			t.Fatal(err)
		}
		run := r.shell("alice", "ls | wc -l")
		ended := make(chan outcome, 1)
		go func() { ended <- run.run() }()
		pid := 0
		eventually(t, "the migration", 20*time.Second, func() (err error) {
			pid, err = r.processWith("\x00import\x00--settings\x00", "_desktop_alice-")
			return err
		})
		killProcess(t, pid)
		<-ended // it fails, or has begun anew by itself: the driver mounts ahead of the container
		equal(t, "the home", r.shell("alice", "ls | wc -l; md5sum big | cut -c1-8; cat f1999").must(), "2001\n"+zeros60+"\n1999")
		r.awaitSaved()
	})
}

// zeros60 begins the MD5 of 60 MiB of zeros.
const zeros60 = "76c136bc"
