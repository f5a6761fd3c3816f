package s3

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"valise/store"
	"valise/store/storetest/server"
)

func TestFolders(t *testing.T) {
	s := server.MinIO(t)
	s.Bucket(t, "bucket")
	for _, user := range []string{"alice", "bob", "carol"} {
		b := open(t, configOf(s, s.Credentials, Location{"bucket", s.Endpoint, "homes/" + user + "/"}))
		for _, key := range []store.Key{"lease/1", "packs/1"} {
			if err := b.Put(t.Context(), key, nil); err != nil {
				t.Fatal(err)
			}
			if user == "bob" {
				if err := b.Delete(t.Context(), key); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	b := open(t, configOf(s, s.Credentials, Location{"bucket", s.Endpoint, "x/"}))
	got, err := b.Folders(t.Context(), "homes/")
	if diff := cmp.Diff([]string{"alice", "carol"}, got); err != nil || diff != "" {
		t.Errorf("error %v; -want +got:\n%s", err, diff)
	}
}

// MinIO goes on listing a folder in which it left a file of its own.
func TestEmptyFoldersAreNone(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r request, n int) {
		query, _ := url.ParseQuery(r.query)
		fmt.Fprint(w, `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false</IsTruncated>`)
		switch {
		case query.Get("delimiter") == "/":
			fmt.Fprint(w, `<CommonPrefixes><Prefix>homes/alice/</Prefix></CommonPrefixes><CommonPrefixes><Prefix>homes/gone/</Prefix></CommonPrefixes>`)
		case query.Get("prefix") == "homes/alice/":
			fmt.Fprint(w, `<Contents><Key>homes/alice/valise.json</Key><Size>1</Size></Contents>`)
		}
		fmt.Fprint(w, `</ListBucketResult>`)
	})
	got, err := f.open(t).Folders(t.Context(), "homes/")
	if diff := cmp.Diff([]string{"alice"}, got); err != nil || diff != "" {
		t.Errorf("error %v; -want +got:\n%s", err, diff)
	}
}
