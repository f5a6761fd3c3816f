//go:build integration

package integration

import (
	"strings"
	"testing"
	"time"

	"valise/store/storetest/server"
)

// keyed are workspaces with keys of their own beside those of [s3].
const keyed = `
[storage_providers.own]
backend_storage = "s3"
[workspaces.desktop]
images  = ["valise-demo/desktop"]
profile = "@mnt/desktop/{username}"
[workspaces.desktop.storage_mapping]
provider = "own"
bucket = "@bucket"
prefix = "@rig/desktop/{username}/"
access_key_id = "@id"
@secret
[workspaces.stray]
profile = "@mnt/stray/{username}"
[workspaces.stray.storage_mapping]
provider = "own"
bucket = "@bucket"
prefix = "@rig/stray/{username}/"
`

// The keys of a storage mapping go before those of [s3]; checksums can be had without.
func TestS3KeysOfAMapping(t *testing.T) {
	store := newStore(t)
	own := strings.NewReplacer("@id", store.AccessKey, "@secret", `secret_access_key_file = "@etc/s3.secret"`)
	s := onS3(store, own.Replace(keyed))
	s.accessKey = "nobody"
	s.s3 = "request_checksum_calculation = \"when_required\"\nresponse_checksum_validation = \"when_required\""
	bothForms(t, s, func(t *testing.T, r *rig) {
		r.shell("alice", "echo mine >notes").must()
		r.awaitSaved()
		equal(t, "the next session", r.shell("alice", "cat notes").must(), "mine")
		r.awaitSaved()
		volume := r.name + "-stray"
		r.volume(volume, "workspace=stray", "username=alice").must()
		r.direct("run", "--rm", "-v", volume+":/home", image, "true").refused("s3://", "access denied")
		r.direct("volume", "rm", volume).must()
	})
}

// {IAM} takes the credentials of the instance's role, which another program gives out.
func TestS3KeysOfAnInstance(t *testing.T) {
	store := newStore(t)
	instance := server.Metadata(t, func() (server.Credentials, time.Time) {
		return store.User(t, server.Policy(bucket, "")), time.Now().Add(time.Hour)
	})
	s := onS3(store, strings.NewReplacer("@id", "{IAM}", "@secret", "").Replace(keyed))
	s.accessKey = "nobody"
	s.env = []string{"AWS_EC2_METADATA_SERVICE_ENDPOINT=" + instance.Endpoint}
	bothForms(t, s, func(t *testing.T, r *rig) {
		before := instance.Asked()
		r.shell("alice", "echo mine >notes").must()
		r.awaitSaved()
		equal(t, "the next session", r.shell("alice", "cat notes").must(), "mine")
		r.awaitSaved()
		if asked := instance.Asked(); asked.Credentials == before.Credentials || asked.Tokens == before.Tokens || asked.Refused > 0 {
			t.Errorf("the instance was asked %+v, before it %+v: want credentials to be had by IMDSv2", asked, before)
		}
	})
}
