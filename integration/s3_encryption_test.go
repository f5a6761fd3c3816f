//go:build integration

package integration

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// encryptedTables are a workspace for each mode of encryption.
const encryptedTables = `
[storage_providers.by-client]
encryption = "client"
master_key_file = "@etc/master.key"
[storage_providers.by-store]
encryption = "sse-c"
master_key_file = "@etc/master.key"
[workspaces.client]
[workspaces.client.storage_mapping]
provider = "by-client"
bucket = "@bucket"
prefix = "@rig/client/{username}/"
[workspaces.store]
[workspaces.store.storage_mapping]
provider = "by-store"
bucket = "@bucket"
prefix = "@rig/store/{username}/"
`

// masterKey is a key of 32 bytes, and its line in a file.
func masterKey(name string) (raw []byte, line string) {
	raw = []byte(strings.Repeat(name, 32)[:32])
	return raw, name + " " + base64.StdEncoding.EncodeToString(raw) + "\n"
}

// What users write can't be read on the store, keys are nowhere to be seen, and the master
// key can be exchanged under sessions.
func TestS3Encryption(t *testing.T) {
	store := newStore(t)
	old, oldLine := masterKey("old-key")
	next, nextLine := masterKey("new-key")
	s := onS3(store, encryptedTables)
	s.extra = map[string]string{"master.key": oldLine}
	bothForms(t, s, func(t *testing.T, r *rig) {
		file := filepath.Join(r.dir, "etc/master.key")
		for _, workspace := range []string{"client", "store"} {
			in := []string{"--label", "valise.workspace=" + workspace}
			session := r.session("alice", in...)
			r.in(session, "mkdir name-of-a-directory && echo marker-of-the-content >name-of-a-directory/f; head -c 2000000 /dev/urandom >big; md5sum big >sum")
			r.seek(t, session, old, next)
			r.end(session)
			r.awaitSaved()
			equal(t, "the next session in "+workspace, r.shell("alice", "cat name-of-a-directory/f; md5sum -c sum", in...).must(), "marker-of-the-content\nbig: OK")
			r.awaitSaved()
		}
		for _, word := range []string{"marker-of-the-content", "name-of-a-directory"} {
			if path := onDisk(t, filepath.Join(store.Dir, bucket, r.name), word); path != "" {
				t.Errorf("%q can be read in %s", word, path)
			}
		}

		// Rotation, beside a session.
		session := r.session("alice", "--label", "valise.workspace=client")
		write(t, file, nextLine+oldLine)
		url := "s3://" + bucket + "@" + strings.TrimPrefix(store.Endpoint, "https://") + "/" + r.name + "/"
		rekey := r.valise("rekey", url, "--master-key-file", file)
		rekey.env = append(rekey.env, "AWS_ACCESS_KEY_ID="+store.AccessKey, "AWS_SECRET_ACCESS_KEY="+store.SecretKey, "AWS_CA_BUNDLE="+store.CAFile, "AWS_REGION=us-east-1")
		contains(t, "rekey", rekey.must(), "2 profiles, 2 wrapped anew")
		contains(t, "rekey again", rekey.must(), "2 profiles, 0 wrapped anew")
		write(t, file, nextLine)
		r.in(session, "echo later >later")
		r.end(session)
		r.awaitSaved()
		for _, workspace := range []string{"client", "store"} {
			contains(t, "after the rotation", r.shell("alice", "ls", "--label", "valise.workspace="+workspace).must(), "name-of-a-directory")
		}
		r.awaitSaved()
		// The wrong key is said to be wrong, by its name.
		_, wrong := masterKey("other")
		write(t, file, wrong)
		r.shell("alice", "true", "--label", "valise.workspace=client").refused("new-key", "master key file")
		write(t, file, strings.Replace(wrong, "other ", "new-key ", 1))
		r.shell("alice", "true", "--label", "valise.workspace=store").refused("new-key", "is another one")
		write(t, file, nextLine)
	})
}

// seek looks for keys where others could see them: in what Docker and the driver tell, in
// processes' arguments and environment, and on the store.
func (r *rig) seek(t *testing.T, session string, keys ...[]byte) {
	t.Helper()
	seen := map[string]string{
		"docker inspect": r.direct("inspect", session).must(), "the driver's log": r.driverLog(), "the proxy's log": r.serving.output(),
		"docker volume inspect": fmt.Sprint(r.inspect(r.volumeAt(session, home))),
	}
	settings, err := filepath.Glob(filepath.Join(r.dir, "lib/valise/s3/*/*.json"))
	if err != nil || len(settings) == 0 {
		t.Fatal("no settings: ", err)
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range append(settings, processes...) {
		data, _ := os.ReadFile(path) // it may have ended
		seen[path] = string(data)
		if filepath.Base(path) == "cmdline" && strings.Contains(string(data), "valise") {
			env, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "environ"))
			seen[path+" (environment)"] = string(env)
		}
	}
	for _, key := range keys {
		for _, form := range []string{string(key), hex.EncodeToString(key), base64.StdEncoding.EncodeToString(key)} {
			for where, text := range seen {
				if strings.Contains(text, form) {
					t.Errorf("a master key stands in %s", where)
				}
			}
			if path := onDisk(t, r.settings.store.Dir, form); path != "" {
				t.Errorf("a master key stands on the store, in %s", path)
			}
		}
	}
	secret := r.settings.store.SecretKey
	for where, text := range seen {
		if strings.Contains(text, secret) && !strings.Contains(text, "minio") && !strings.Contains(where, "environment") {
			t.Errorf("the secret access key stands in %s", where)
		}
	}
}

// onDisk returns a file below dir that has the word in it.
func onDisk(t *testing.T, dir, word string) (found string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // it is being replaced
		}
		data, err := os.ReadFile(path)
		if err == nil && bytes.Contains(data, []byte(word)) {
			found = path
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
