package tree

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata anew; never what a release has written: that must stay readable")

// TestGolden reads trees as each version of the format has written them.
func TestGolden(t *testing.T) {
	for name, kind := range map[string]Kind{"v1-whole": Whole, "v1-patch": Patch} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name)
			if *update {
				tr := everything(t, kind)
				write(t, path+".tree", tr.Bytes())
				write(t, path+".txt", []byte(dump(tr)))
			}
			tr, err := Map(path + ".tree")
			if err != nil {
				t.Fatal(err)
			}
			defer tr.Close()
			want, err := os.ReadFile(path + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), dump(tr)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
