//go:build rclone

package migrate_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"valise/migrate"
	"valise/store/storetest/server"
)

// With the program of `scripts/s3.sh install bench`: go test -tags rclone ./migrate
func TestWhatRcloneWrites(t *testing.T) {
	s := server.MinIO(t)
	s.Bucket(t, bucket)
	config := filepath.Join(t.TempDir(), "rclone.conf")
	text := "[m]\ntype = s3\nprovider = Minio\nregion = us-east-1\naccess_key_id = " + s.AccessKey +
		"\nsecret_access_key = " + s.SecretKey + "\nendpoint = " + newGate(t, s).endpoint + "\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	home := sample(t)
	for name, c := range map[string]struct {
		args []string
		edit func(path string, f *migrate.File) (keep bool) // of what is wanted
	}{
		"metadata": {[]string{"copy", "--metadata", "--links", "--s3-upload-cutoff", "5M"}, nil},
		"markers":  {[]string{"copy", "--metadata", "--links", "--create-empty-src-dirs", "--s3-directory-markers"}, nil},
		"plain": {[]string{"sync", "--links"}, func(_ string, f *migrate.File) bool {
			if f.Mode[:2] == "10" {
				f.Mode, f.Xattrs = "100644", nil
			}
			return true
		}},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"--config", config}, c.args...)
			cmd := exec.Command("../build/s3/bin/rclone", append(args, home, "m:"+bucket+"/"+name)...)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("rclone: %v\n%s", err, out)
			}
			dir, r := fetch(t, source(t, s, s.User(t, readOnly), s.Endpoint, name+"/"))
			got, want := migrate.Look(t, dir), mapped(t, home)
			for path, f := range want {
				if c.edit != nil {
					c.edit(path, &f)
				}
				if f.Mode[:1] == "4" { // rclone keeps nothing of directories
					f = migrate.File{Mode: "40755", Owner: f.Owner, Mtime: got[path].Mtime}
				}
				want[path] = f
			}
			if name != "markers" {
				delete(want, "d/empty")
			}
			if diff := cmp.Diff(want, got); diff != "" || len(r.Skipped) > 0 || len(r.Notes) > 0 {
				t.Errorf("skipped %v, notes %q (-want +got):\n%.4000s", r.Skipped, r.Notes, diff)
			}
		})
	}
}
