package extract

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"valise/tree"
)

// asUser is set in the process that TestAsAnotherUser starts, to the directory.
const asUser = "EXTRACT_TEST_AS_USER"

// TestAsAnotherUser restores without the right to give files away.
func TestAsAnotherUser(t *testing.T) {
	h := newHome(t)
	d := h.dir(0, "d", 0o2550)
	for _, name := range []string{"a", "b"} {
		h.text(d, name, name)
	}
	h.file(0, "setuid", 0o4711, 0, nil, tree.Xattr{Name: "user.x", Value: []byte("1")}, tree.Xattr{Name: "trusted.x", Value: []byte("1")})
	cfg := h.config()
	if dir := os.Getenv(asUser); dir != "" {
		res, err := ToDir(t.Context(), cfg, "", dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.NewEncoder(os.Stderr).Encode(res); err != nil {
			t.Fatal(err)
		}
		return
	}
	dir, res := runAsUser(t, 4242)
	for i, note := range res.Notes { // which file is the first is chance
		if strings.HasPrefix(note, "set the owner") {
			res.Notes[i] = note[strings.Index(note, " and"):]
		}
	}
	want := Result{Files: 3, Dirs: 1, Bytes: 2, Notes: []string{
		`set the attribute trusted.x of "setuid": operation not permitted`,
		` and 4 more: operation not permitted`,
		`set the set-id bits of "setuid": its owner is another`,
	}}
	if d := cmp.Diff(want, res); d != "" {
		t.Errorf("result (-want +got):\n%s", d)
	}
	st := mustStat(t, filepath.Join(dir, "setuid"))
	if st.Mode&0o7777 != 0o711 || st.Uid != 4242 {
		t.Errorf("setuid: mode %o, owner %d", st.Mode, st.Uid)
	}
	n, _ := cfg.Tree.LookupPath([]byte("d"))
	if st := mustStat(t, filepath.Join(dir, "d")); st.Mode&0o777 != 0o550 || st.Mtim.Nano() != cfg.Tree.Attr(n).Mtime {
		t.Errorf("d: mode %o, time %d", st.Mode, st.Mtim.Nano())
	}
}

// runAsUser runs TestAsAnotherUser as uid in a process of its own, for a new directory.
func runAsUser(t *testing.T, uid uint32) (dir string, res Result) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to become another user")
	}
	dir, err := os.MkdirTemp("", "extract-test-") // t.TempDir is in a closed directory
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, int(uid), int(uid)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestAsAnotherUser$")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), asUser+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	var out strings.Builder
	cmd.Stderr = &out
	if stdout, err := cmd.Output(); err != nil {
		t.Fatalf("%v\n%s%s", err, stdout, out.String())
	}
	if err := json.Unmarshal([]byte(out.String()), &res); err != nil {
		t.Fatal(err)
	}
	return dir, res
}

// TestNoXattrs restores where there are no ACLs.
func TestNoXattrs(t *testing.T) {
	h := newHome(t)
	h.file(0, "a", 0o664, 0, nil, tree.Xattr{Name: "system.posix_acl_access", Value: []byte(acl(6, 4, 4, 6, 4))})
	cfg, dir := h.config(), t.TempDir()
	mount(t, dir, "ramfs", "")
	res, err := ToDir(t.Context(), cfg, "", dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`set the attribute system.posix_acl_access of "a": operation not supported`}
	if d := cmp.Diff(want, res.Notes); d != "" {
		t.Errorf("notes (-want +got):\n%s", d)
	}
	if st := mustStat(t, filepath.Join(dir, "a")); st.Mode&0o7777 != 0o664 {
		t.Errorf("mode %o", st.Mode)
	}
}

// TestLinksThatCannotBe has the two names of a file in two file systems.
func TestLinksThatCannotBe(t *testing.T) {
	h := newHome(t)
	f := h.text(0, "a", "content")
	h.link(h.dir(0, "mounted", 0o755), "b", f)
	cfg, dir := h.config(), t.TempDir()
	cfg.Overwrite = true
	if err := os.Mkdir(filepath.Join(dir, "mounted"), 0o755); err != nil {
		t.Fatal(err)
	}
	mount(t, filepath.Join(dir, "mounted"), "tmpfs", "")
	res, err := ToDir(t.Context(), cfg, "", dir)
	if err != nil {
		t.Fatal(err)
	}
	want := Result{Files: 2, Dirs: 1, Bytes: 14, Notes: []string{`make a hard link, not a copy, of "mounted/b": invalid cross-device link`}}
	if d := cmp.Diff(want, res); d != "" {
		t.Errorf("result (-want +got):\n%s", d)
	}
	if p, err := os.ReadFile(filepath.Join(dir, "mounted/b")); err != nil || string(p) != "content" {
		t.Errorf("got %q, %v", p, err)
	}
	wantNames(t, dir, "a", "mounted", "mounted/b")
}
