package fusefs

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"valise/tree"
)

// TestAMountOfManyFilesIsSmall logs what a mount costs its process when all of its
// files have been looked at.
func TestAMountOfManyFilesIsSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a large tree")
	}
	const files = 500_000
	p := newPlan()
	shared := p.content.add(pattern(1, 8))
	var d tree.Ref
	for i := range files {
		if i%100 == 0 {
			d = p.dir(0, fmt.Sprint("directory", i))
		}
		p.entry(d, fmt.Sprint("a file's name ", i), 0o100644, func(e *tree.Entry) {
			e.Extents = []tree.Extent{{Blob: shared}}
			e.Size = 8
		})
	}
	dir, path := t.TempDir(), t.TempDir()+"/tree"
	tr := p.finish(t)
	if err := os.WriteFile(path, tr.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	s, device := mountInProcess(t, dir, path)
	device.Close()
	memory := func() string {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for line := range strings.Lines(string(status)) {
			if strings.HasPrefix(line, "Rss") || strings.HasPrefix(line, "VmRSS") {
				out = append(out, strings.Join(strings.Fields(line), " "))
			}
		}
		return strings.Join(out, ", ")
	}
	t.Logf("tree of %d rows, %d MiB; mounted: %s", tr.Len(), len(tr.Bytes())/mib, memory())
	for range 2 {
		out, took := run(t, "sh", "-c", `find "$1" -size -100 | wc -l`, "sh", dir)
		if strings.TrimSpace(string(out)) != fmt.Sprint(tr.Len()) {
			t.Errorf("found %s", out)
		}
		t.Logf("find: %s; then %s", took, memory())
	}
	s.ends(t, dir)
}
