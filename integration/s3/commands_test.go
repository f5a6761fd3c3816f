//go:build integration

package s3_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"valise/session"
)

// TestCommandLine: what is refused, by which exit code, and what is said.
func TestCommandLine(t *testing.T) {
	p := newProfile(t)
	h := p.host("a")
	t.Cleanup(func() { must(t, os.RemoveAll("/dev/shm/valise-test")) }) // tmpfs has no project quotas
	nobody := slices.Concat(p.env, []string{"AWS_SECRET_ACCESS_KEY=wrong"})
	nosuch := strings.Replace(p.url, "/homes@", "/nosuch@", 1)
	for _, c := range []struct {
		args []string
		env  []string
		code int
		said string
	}{
		{args: []string{"mount", p.url}, code: 2, said: "want 2 argument"},
		{args: []string{"mount", "--no-such-flag", p.url, h.dir}, code: 2, said: "no-such-flag"},
		{args: []string{"mount", "/not/a/url", h.dir}, code: 2, said: "does not begin with s3://"},
		{args: []string{"mount", "s3://homes", h.dir}, code: 2, said: "prefix"},
		{args: []string{"mount", "--lease", "1s", p.url, h.dir}, code: 2, said: "--lease at least 5s"},
		{args: []string{"mount", "--snapshot", "1", p.url, h.dir}, code: 2, said: "--read-only"},
		{args: []string{"mount", "--filter", "../x", p.url, h.dir}, code: 2, said: "out of the home"},
		{args: []string{"mount", "--size-limit", "much", p.url, h.dir}, code: 2, said: "--size-limit"},
		{args: []string{"mount", "--enforce-limit", p.url, h.dir}, code: 2, said: "goes with --size-limit"},
		{args: []string{"mount", "--enforce-limit", "--size-limit", "1g", "--state-dir", "/dev/shm/valise-test", p.url, h.dir}, code: 1, said: "/dev/shm/valise-test"},
		{args: []string{"mount", "--on-second-host", "panic", p.url, h.dir}, code: 2, said: "none of fail, wait, readonly"},
		{args: []string{"mount", "--state-dir", h.state, p.url, h.dir + "/nowhere"}, code: 1, said: "existing directory"},
		{args: []string{"mount", "--state-dir", h.state, p.url, h.dir}, env: nobody, code: 1, said: "SignatureDoesNotMatch"},
		{args: []string{"mount", "--state-dir", h.state, nosuch, h.dir}, code: 1, said: "nosuch"},
		{args: []string{"mount", "--read-only", "--state-dir", h.state, p.url, h.dir}, code: 1, said: "no profile"},
		{args: []string{"sync", "--state-dir", h.state, h.dir}, code: 1, said: "no profile is mounted there"},
		{args: []string{"unmount", h.dir}, code: 1, said: "no profile is mounted there"},
		{args: []string{"status", h.dir, h.dir}, code: 2, said: "argument"},
		{args: []string{"status", "--state-dir", h.state, h.dir}, code: 1, said: "no profile is mounted there"},
		{args: []string{"snapshots", p.url}, code: 1, said: "valise mount and valise import make one"},
		{args: []string{"restore", p.url, h.dir}, code: 1, said: "valise mount and valise import make one"},
		{args: []string{"check", p.url}, code: 1, said: "valise mount and valise import make one"},
	} {
		env := p.env
		if c.env != nil {
			env = c.env
		}
		run(t, env, c.args...).wants(t, c.code, c.said)
		if h.mounted() {
			t.Fatalf("valise %s: mounted", c.args)
		}
	}
}

// TestStatus: what people and programs are told, mounted and afterwards.
func TestStatus(t *testing.T) {
	p := newProfile(t)
	h := p.host("a")
	m := h.mount("--size-limit", "1g")
	write(t, h.path("file"), "12345")
	h.sync()
	st := h.status()
	got := []any{st.URL, st.Dir, st.Host, st.State, st.ReadOnly, st.Base, st.Snapshot, st.Size, st.Limit, st.OverLimit, st.Conflict, st.Error}
	want := []any{p.url, h.dir, "a", "mounted", false, "0", "1", int64(5), int64(1 << 30), false, false, ""}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("status --json: got %v, want %v", got, want)
	}
	if st.LastSave.IsZero() || st.SavedAt.IsZero() || st.LeaseS <= 0 {
		t.Errorf("status --json: got last_save %s, saved_at %s, lease_seconds %f", st.LastSave, st.SavedAt, st.LeaseS)
	}
	h.run("status", "--state-dir", h.state).wants(t, 0, h.dir, "mounted", p.url)
	h.run("status", h.dir).wants(t, 0, h.dir, "5B", "ago")

	h.run("unmount", h.dir).wants(t, 0)
	m.wants(0)
	var list []session.Status
	h.run("status", "--json", "--state-dir", h.state).decode(t, &list)
	for _, st := range list {
		if st.Dir == h.dir {
			t.Errorf("after an unmount status still lists %s: %s", h.dir, st.State)
		}
	}
}

// TestOneMountAtATime: the profile is refused a second time on one host, and so is a
// second profile in the same place; the first goes on.
func TestOneMountAtATime(t *testing.T) {
	p := newProfile(t)
	h := p.host("a")
	m := h.mount()
	other := newProfile(t)
	for _, c := range []struct {
		what, url, dir, said string
		code                 int
	}{
		{"the same", p.url, h.dir, "another process has the profile mounted on this host", 4},
		{"the same elsewhere", p.url, h.mkdir("elsewhere"), "another process has the profile mounted on this host", 4},
		{"another in the same place", other.url, h.dir, "a profile is mounted there already", 1},
	} {
		from := p
		if c.url == other.url {
			from = other
		}
		from.run("mount", "--state-dir", h.state, c.url, c.dir).wants(t, c.code, c.said)
		write(t, h.path("file"), c.what)
		h.sync()
	}
	wantFile(t, p.restore("")+"/file", "another in the same place")
	m.end()
}

// TestRestore: any snapshot, or a part of it, comes back, into a directory or as tar.
func TestRestore(t *testing.T) {
	p := newProfile(t)
	h := p.host("a")
	m := h.mount()
	var states []tree
	for i := range 3 {
		write(t, h.path("file"), fmt.Sprint("version ", i))
		fill(t, h.path(fmt.Sprint("dir", i)))
		h.sync()
		states = append(states, list(t, h.dir))
	}
	snapshots := p.snapshots()
	if len(snapshots) != 3 {
		t.Fatalf("got %d snapshots, want 3: %v", len(snapshots), snapshots)
	}
	p.run("snapshots", p.url).wants(t, 0, "SNAPSHOT", snapshots[0].Name, "a")
	for i, s := range snapshots {
		want := states[len(states)-1-i]
		if s.Host != "a" || s.Conflict || s.Time.IsZero() {
			t.Errorf("snapshot %s: got %+v", s.Name, s)
		}
		same(t, "snapshot "+s.Name, list(t, p.restore(s.Name)), want)
	}
	newest, oldest := states[2], snapshots[2].Name

	part := p.mkdir("part")
	p.run("restore", "--path", "dir1", p.url, part).wants(t, 0)
	same(t, "restore --path dir1", list(t, part), within(newest, "dir1"))
	single := p.mkdir("single")
	p.run("restore", "--path", "file", "--snapshot", oldest, p.url, single).wants(t, 0)
	wantFile(t, single+"/file", "version 0")
	p.run("restore", "--path", "file", p.url, single).wants(t, 1, "empty")
	p.run("restore", "--path", "file", "--overwrite", p.url, single).wants(t, 0)
	wantFile(t, single+"/file", "version 2")
	p.run("restore", "--path", "nowhere", p.url, p.mkdir("none")).wants(t, 1, "nowhere")
	p.run("restore", "--snapshot", "99", p.url, p.mkdir("none")).wants(t, 1, "99")

	// Into the mounted home itself, as a user who wants an old file back.
	p.run("restore", "--snapshot", oldest, "--path", "file", "--overwrite", p.url, h.dir).wants(t, 0)
	wantFile(t, h.path("file"), "version 0")
	m.end()

	exported := filepath.Join(p.mkdir("export"), "new")
	p.run("export", "--snapshot", snapshots[0].Name, p.url, exported).wants(t, 0)
	same(t, "export", list(t, exported), newest)
}

// TestExportTar: tar reads what export writes, of all kinds of files.
func TestExportTar(t *testing.T) {
	p := newProfile(t)
	h := p.host("a")
	m := h.mount()
	for _, k := range kinds {
		// tar itself loses what is before 1970 and what no extended header can say.
		if k.name == "huge sparse file" || k.name == "many in one directory" {
			continue
		}
		must(t, os.Mkdir(h.path(k.name), 0o755))
		k.make(t, h.path(k.name))
	}
	want := list(t, h.dir)
	m.end()
	dir := p.mkdir("untarred")
	export := exec.Command(suite.binary, "export", p.url, "-")
	export.Env = p.env
	untar := exec.Command("tar", "-x", "--numeric-owner", "-p", "--xattrs", "--xattrs-include=*", "-C", dir)
	var said bytes.Buffer
	var err error
	export.Stderr, untar.Stderr = &said, &said
	untar.Stdin, err = export.StdoutPipe()
	must(t, err, untar.Start(), export.Run(), untar.Wait())
	same(t, "export - | tar", list(t, dir), want)
}

// TestImport: a directory becomes a profile, as it is.
func TestImport(t *testing.T) {
	p := newProfile(t)
	src := p.mkdir("import")
	for _, k := range kinds {
		must(t, os.Mkdir(filepath.Join(src, k.name), 0o755))
		k.make(t, filepath.Join(src, k.name))
	}
	must(t, os.Mkdir(src+"/.cache", 0o700))
	write(t, src+"/.cache/x", "not saved")
	must(t, exec.Command("mkfifo", src+"/pipe").Run())
	p.run("import", src, p.url).wants(t, 0, "snapshot 1")
	p.run("import", src, p.url).wants(t, 1, "has snapshots already")
	want := list(t, src)
	delete(want, ".cache/x")
	h := p.host("a")
	m := h.mount()
	same(t, "mounted after an import", list(t, h.dir), want)
	m.end()
}

// TestPrune forgets snapshots and deletes what they alone needed, beside a mount that
// reads an old one, and never anything else.
func TestPrune(t *testing.T) {
	p := newProfile(t)
	h := p.host("a")
	m := h.mount()
	for i := range 4 {
		write(t, h.path("changes"), noise(2<<20))
		write(t, h.path(fmt.Sprint("stays", i)), noise(1<<20))
		h.sync()
	}
	want := list(t, h.dir)
	m.end()
	prune := func(args ...string) (res struct {
		Forgotten       []string
		Marked, Deleted int
	}) {
		t.Helper()
		p.run(append(append([]string{"prune", "--json", "--grace", "0s"}, args...), p.url)...).decode(t, &res)
		return res
	}
	if dry := prune("--keep-last", "1", "--dry-run"); len(dry.Forgotten) != 3 || len(p.snapshots()) != 4 {
		t.Errorf("prune --dry-run: got %+v and %d snapshots, want 3 to be forgotten and 4 there", dry, len(p.snapshots()))
	}
	// Another host reads the oldest meanwhile: what it needs stays.
	old := p.host("old")
	reader := old.mount("--read-only", "--snapshot", "1", "--prefetch", "off")
	if first := prune("--keep-last", "1"); len(first.Forgotten) != 3 || first.Deleted != 0 {
		t.Errorf("first prune: got %+v, want 3 snapshots forgotten and nothing deleted", first)
	}
	deleted := func(after string) {
		t.Helper()
		eventually(t, 20*time.Second, "deletion after "+after, func() bool { return prune().Deleted > 0 })
	}
	deleted("the first prune")
	list(t, old.dir)
	reader.end()
	deleted("the end of the reader")
	p.check()
	if got := p.snapshots(); len(got) != 1 {
		t.Errorf("got %d snapshots, want 1", len(got))
	}
	b := p.host("b")
	m = b.mount()
	same(t, "mounted after prunes", list(t, b.dir), want)
	m.end()
}
