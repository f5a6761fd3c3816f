package plugin

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"valise/mapping"
	"valise/volume"

	proto "github.com/docker/go-plugins-helpers/volume"
)

func owner(t *testing.T, path string) (uid, gid int) {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	st := fi.Sys().(*syscall.Stat_t)
	return int(st.Uid), int(st.Gid)
}

func TestSkeleton(t *testing.T) {
	r := newRig(t)
	skeleton := filepath.Join(r.root, "skel")
	write(t, filepath.Join(skeleton, ".config/app"), "default")
	if err := os.Symlink("app", filepath.Join(skeleton, ".config/link")); err != nil {
		t.Fatal(err)
	}
	r.workspace().Skeleton = skeleton
	r.mustCreate("v-1", "workspace", "w", "username", "alice")
	at := r.mustMount("v-1", "1")
	for _, name := range []string{".config", ".config/app", ".config/link"} {
		if uid, gid := owner(t, filepath.Join(at, name)); uid != 1234 || gid != 1235 {
			t.Errorf("%s belongs to %d:%d", name, uid, gid)
		}
	}
	if uid, _ := owner(t, filepath.Join(skeleton, ".config")); uid == 1234 {
		t.Error("the skeleton itself changed its owner")
	}
	// Once the home is there, the skeleton has no say any more.
	if err := os.Remove(filepath.Join(at, ".config/app")); err != nil {
		t.Fatal(err)
	}
	r.mustMount("v-1", "2")
	if _, err := os.Stat(filepath.Join(at, ".config/app")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the skeleton came back: %v", err)
	}
	// A skeleton that can't be copied leaves no half home.
	r.workspace().Skeleton = filepath.Join(r.root, "gone")
	r.mustCreate("b-1", "workspace", "w", "username", "bob")
	_, err := r.Mount(&proto.MountRequest{Name: "b-1", ID: "1"})
	wantErr(t, err, "skeleton", "gone")
	entries, err := os.ReadDir(filepath.Join(r.root, "homes/w"))
	if err != nil || len(entries) != 1 {
		t.Errorf("left in homes: %v, %v, want alice alone", entries, err)
	}
	if s := r.status("b-1"); s["last_error"] == nil {
		t.Errorf("status does not tell the error: %v", s)
	}
}

func TestMountPointsInsideTheHome(t *testing.T) {
	r := newRig(t)
	write(t, filepath.Join(r.root, "share/x"), "")
	write(t, filepath.Join(r.root, "file"), "")
	r.addMapping(filepath.Join(r.root, "share"), "/home/u/docs/share", nil)
	r.addMapping(filepath.Join(r.root, "file"), "/home/u/.netrc", nil)
	r.addMapping(filepath.Join(r.root, "gone"), "/home/u/gone", nil)
	r.addMapping(filepath.Join(r.root, "share"), "/elsewhere", nil)
	r.mustCreate("v-1", "workspace", "w", "username", "alice")
	r.mustMount("v-1", "1")
	for name, dir := range map[string]bool{"docs": true, "docs/share": true, ".netrc": false} {
		path := filepath.Join(r.home("alice"), name)
		fi, err := os.Lstat(path)
		if err != nil || fi.IsDir() != dir {
			t.Errorf("%s: got %v, %v, want directory %t", name, fi, err, dir)
			continue
		}
		if uid, gid := owner(t, path); uid != 1234 || gid != 1235 {
			t.Errorf("%s belongs to %d:%d", name, uid, gid)
		}
	}
	if _, err := os.Stat(filepath.Join(r.home("alice"), "gone")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a mount point for a source that is missing: %v", err)
	}

	// bob puts a link there, to have root make a directory elsewhere.
	target := t.TempDir()
	if err := os.MkdirAll(r.home("bob"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(r.home("bob"), "docs")); err != nil {
		t.Fatal(err)
	}
	r.mustCreate("b-1", "workspace", "w", "username", "bob")
	_, err := r.Mount(&proto.MountRequest{Name: "b-1", ID: "1"})
	wantErr(t, err, `mount point "docs/share"`, "symbolic link")
	if entries, err := os.ReadDir(target); err != nil || len(entries) > 0 {
		t.Errorf("something was made behind the link: %v, %v", entries, err)
	}
}

func TestResetAndPurge(t *testing.T) {
	r := newRig(t)
	r.mustCreate("v-1", "workspace", "w", "username", "alice")
	at := r.mustMount("v-1", "1")
	write(t, filepath.Join(at, "deep/er/file"), "x")

	err := r.create("c-1", "workspace", "w", "username", "alice", "control", "reset")
	wantErr(t, err, volume.ErrInUse.Error(), "alice", "1 container")
	if _, err := r.Purge(t.Context(), Selection{User: "alice"}); !errors.Is(err, volume.ErrInUse) {
		t.Errorf("purge in use: got %v", err)
	}
	if _, err := os.Stat(filepath.Join(r.home("alice"), "deep/er/file")); err != nil {
		t.Fatalf("a refused reset touched the data: %v", err)
	}

	r.mustUnmount("v-1", "1")
	r.mustCreate("c-1", "workspace", "w", "username", "alice", "control", "reset")
	if entries, err := os.ReadDir(r.home("alice")); err != nil || len(entries) != 0 {
		t.Errorf("after reset: %v, %v, want an empty home", entries, err)
	}
	if uid, _ := owner(t, r.home("alice")); uid != 1234 {
		t.Errorf("the new home belongs to %d", uid)
	}
	eventually(t, "the old home is deleted", func() bool { return len(r.leftovers()) == 0 })

	// A mount after the reset shows the new home, not the old one that lingered.
	at = r.mustMount("v-1", "2")
	if entries, err := os.ReadDir(at); err != nil || len(entries) != 0 {
		t.Errorf("mounted after reset: %v, %v", entries, err)
	}
	r.mustUnmount("v-1", "2")

	if list, err := r.Purge(t.Context(), Selection{User: "alice", DryRun: true}); err != nil || len(list) != 1 {
		t.Errorf("dry run: got %v, %v", list, err)
	}
	if _, err := os.Stat(r.home("alice")); err != nil {
		t.Errorf("a dry run deleted: %v", err)
	}
	if list, err := r.Purge(t.Context(), Selection{User: "alice"}); err != nil || len(list) != 1 {
		t.Errorf("purge: got %v, %v", list, err)
	}
	if _, err := os.Stat(r.home("alice")); !errors.Is(err, os.ErrNotExist) || len(r.leftovers()) > 0 {
		t.Errorf("after purge: %v, leftovers %v", err, r.leftovers())
	}
	if list, err := r.Purge(t.Context(), Selection{User: "alice"}); err != nil || len(list) != 0 {
		t.Errorf("purge of nothing: got %v, %v", list, err)
	}
}

// leftovers are valise's own names beside the homes.
func (r *rig) leftovers() []string {
	var out []string
	entries, _ := os.ReadDir(filepath.Join(r.root, "homes/w"))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".valise-") {
			out = append(out, e.Name())
		}
	}
	return out
}

func TestADeletionIsFinishedAfterACrash(t *testing.T) {
	r := newRig(t)
	write(t, filepath.Join(r.home("alice"), "x"), "")
	p, err := r.resolve(volume.Spec{Workspace: "w", Username: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	r.crash()
	if _, found, err := r.discard(t.Context(), p); err != nil || !found { // the last it did
		t.Fatalf("discard: %t, %v", found, err)
	}
	if len(r.leftovers()) != 1 {
		t.Fatalf("leftovers: %v, want one", r.leftovers())
	}
	r.start()
	eventually(t, "the deletion is finished", func() bool { return len(r.leftovers()) == 0 })
}

// TestADeletionThatIsBeingNoted: whoever finishes deletions meanwhile does not take it for
// done.
func TestADeletionThatIsBeingNoted(t *testing.T) {
	r := newRig(t)
	p, err := r.resolve(volume.Spec{Workspace: "w", Username: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	end, finished := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(finished)
		for {
			select {
			case <-end:
				return
			default:
				r.finishTrash()
			}
		}
	}()
	for range 100 {
		write(t, filepath.Join(r.home("alice"), "x"), "")
		if _, found, err := r.discard(t.Context(), p); err != nil || !found {
			t.Errorf("discard: %t, %v", found, err)
		}
	}
	close(end)
	<-finished
	r.finishTrash()
	if left := r.leftovers(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestPurgeTellsWhatIsNotGone: a purge that could not delete everything says so, and
// the rest goes when it can.
func TestPurgeTellsWhatIsNotGone(t *testing.T) {
	r := newRig(t)
	kept := filepath.Join(r.home("alice"), "kept")
	write(t, kept, "x")
	chattr := func(flag, path string) {
		t.Helper()
		if out, err := exec.Command("chattr", flag, path).CombinedOutput(); err != nil {
			t.Fatalf("chattr: %s, %v", out, err)
		}
	}
	chattr("+i", kept)
	_, err := r.Purge(t.Context(), Selection{User: "alice"})
	left := r.leftovers()
	if len(left) != 1 {
		t.Fatalf("set aside: %v, want one", left)
	}
	chattr("-i", filepath.Join(r.root, "homes/w", left[0], "kept"))
	wantErr(t, err, "not deleted yet", left[0])
	r.finishTrash()
	if left := r.leftovers(); len(left) > 0 {
		t.Errorf("still there: %v", left)
	}
}

// TestADeletionWaitsForItsFileSystem: while a root is not mounted, nothing in it counts
// as deleted.
func TestADeletionWaitsForItsFileSystem(t *testing.T) {
	r := newRig(t)
	item := trash{ID: "x", Root: r.root, Rel: "homes/w/.valise-trash-x"}
	if err := r.trash.add(item); err != nil {
		t.Fatal(err)
	}
	rules := r.rules()
	rules.Roots[0].RequireMount = true
	r.SetRules(rules)
	r.finishTrash()
	if items, err := r.trash.list(); err != nil || len(items) != 1 {
		t.Errorf("noted after a try without the file system: %v, %v, want one", items, err)
	}
	r.SetRules(r.rules())
	r.finishTrash()
	if items, err := r.trash.list(); err != nil || len(items) != 0 {
		t.Errorf("noted after it is gone: %v, %v", items, err)
	}
}

// TestAResetThatNobodyWaitsForTouchesNothing: its file system answered too late.
func TestAResetThatNobodyWaitsForTouchesNothing(t *testing.T) {
	r := newRig(t)
	write(t, filepath.Join(r.home("alice"), "x"), "")
	p, err := r.resolve(volume.Spec{Workspace: "w", Username: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, found, err := r.discard(ctx, p); err == nil {
		t.Errorf("discard: %t without an error", found)
	}
	eventually(t, "the late call ends", func() bool { return !r.guard.busy(p.path()) })
	if _, err := os.Stat(filepath.Join(r.home("alice"), "x")); err != nil {
		t.Errorf("the home is gone: %v", err)
	}
	if items, err := r.trash.list(); err != nil || len(items) != 0 {
		t.Errorf("a deletion is noted: %v, %v", items, err)
	}
}

func TestProfilesAreListed(t *testing.T) {
	r := newRig(t)
	for _, user := range []string{"alice", "bob@corp", ".valise-new-x"} {
		write(t, filepath.Join(r.home(user), "x"), "")
	}
	list, err := r.Profiles(t.Context())
	if err != nil || len(list) != 2 || list[0].User != "alice" || list[1].User != "bob@corp" {
		t.Errorf("got %+v, %v, want alice and bob@corp", list, err)
	}
	shown, err := r.Show(t.Context(), Selection{User: "bob@corp"})
	if err != nil || len(shown) != 1 || shown[0].Path != r.home("bob@corp") {
		t.Errorf("show: got %+v, %v", shown, err)
	}
	if _, err := r.Show(t.Context(), Selection{User: "../x"}); err == nil {
		t.Error("show takes ../x")
	}
	if _, err := r.Reset(t.Context(), Selection{User: "alice"}); err == nil {
		t.Error("reset without a workspace")
	}
}

func TestMappings(t *testing.T) {
	r := newRig(t)
	write(t, filepath.Join(r.root, "share/x"), "")
	write(t, filepath.Join(r.root, "file"), "")
	r.addMapping(filepath.Join(r.root, "share"), "/share", func(m *mapping.Mapping) { m.ReadOnly = true })
	r.addMapping(filepath.Join(r.root, "file"), "/file", nil)
	r.addMapping(filepath.Join(r.root, "per/{username}"), "/mine", nil)
	r.addMapping(filepath.Join(r.root, "untouched"), "/untouched", func(m *mapping.Mapping) { m.SkipCheck = true })
	if err := os.Mkdir(filepath.Join(r.root, "untouched"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"share", "file", "untouched"} {
		r.mustCreate(name+"-volume", "workspace", "w", "mapping", filepath.Join(r.root, name))
	}
	r.mustCreate("mine", "workspace", "w", "mapping", filepath.Join(r.root, "per/{username}"), "username", "alice")

	at := r.mustMount("share-volume", "1")
	if err := os.WriteFile(filepath.Join(at, "y"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
		t.Errorf("write to a read-only mapping: got %v", err)
	}
	for name, want := range map[string]int{"share": 1234, "share/x": 0, "file": 0, "untouched": 0, "per/alice": 1234} {
		if uid, _ := owner(t, filepath.Join(r.root, name)); uid != want {
			t.Errorf("%s belongs to %d, want %d", name, uid, want)
		}
	}
	if fi, err := os.Stat(r.mustMount("file-volume", "1")); err != nil || fi.IsDir() {
		t.Errorf("mounted file: %v, %v", fi, err)
	}

	// The source becomes a link between create and start.
	if err := os.Rename(filepath.Join(r.root, "per/alice"), filepath.Join(r.root, "per/old")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(r.root, "per/alice")); err != nil {
		t.Fatal(err)
	}
	_, err := r.Mount(&proto.MountRequest{Name: "mine", ID: "1"})
	wantErr(t, err, "symbolic link", "/per/alice")
}
