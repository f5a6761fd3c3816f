package plugin

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"valise/volume"

	proto "github.com/docker/go-plugins-helpers/volume"
)

func TestRestartKnowsVolumesAndMounts(t *testing.T) {
	r := newRig(t)
	r.mustCreate("a1", "workspace", "w", "username", "alice")
	r.mustCreate("a2", "workspace", "w", "username", "alice", "size_limit", "1g")
	r.mustCreate("b1", "workspace", "w", "username", "bob")
	at := r.mustMount("a1", "1")
	if other := r.mustMount("a2", "2"); other != at {
		t.Errorf("two volumes of one profile are mounted at %q and %q", at, other)
	}
	stray := r.mustMount("b1", "3")
	r.mustUnmount("b1", "3")
	write(t, filepath.Join(at, "x"), "")
	r.crash()
	r.start()
	if res, err := r.List(); err != nil || len(res.Volumes) != 3 {
		t.Fatalf("after restart: %v, %v, want 3 volumes", res, err)
	}
	if _, err := os.Stat(stray); err == nil {
		t.Error("a mount that nobody refers to is still there")
	}
	if _, err := os.Stat(filepath.Join(at, "x")); err != nil {
		t.Errorf("a mount in use is gone: %v", err)
	}
	r.mustUnmount("a1", "1")
	if mounted, err := isMountpoint(at); err != nil || !mounted {
		t.Errorf("unmounted with a reference left: %t, %v", mounted, err)
	}
	r.mustUnmount("a2", "2")
	eventually(t, "the last reference unmounts", func() bool {
		mounted, err := isMountpoint(at)
		return err == nil && !mounted
	})
}

func TestAMountThatWentIsMadeAnew(t *testing.T) {
	r := newRig(t)
	r.mustCreate("v-1", "workspace", "w", "username", "alice")
	at := r.mustMount("v-1", "1")
	r.crash()
	if err := syscall.Unmount(at, syscall.MNT_DETACH); err != nil { // as disable -f does
		t.Fatal(err)
	}
	r.start()
	if s := r.status("v-1"); s["mounts"] != 1 {
		t.Errorf("status: %v, want the container's reference kept", s)
	}
	r.mustMount("v-1", "2")
	if mounted, err := isMountpoint(at); err != nil || !mounted {
		t.Errorf("mounted again: %t, %v", mounted, err)
	}
}

func TestRebootEndsEveryMount(t *testing.T) {
	r := newRig(t)
	r.mustCreate("v-1", "workspace", "w", "username", "alice")
	at := r.mustMount("v-1", "1")
	r.crash()
	path := r.records.path("v-1")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(data), r.boot, "another-boot")), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	if s := r.status("v-1"); s["mounts"] != 0 {
		t.Errorf("status: %v, want no mounts", s)
	}
	if _, err := os.Stat(at); err == nil {
		t.Error("the mount point is still there")
	}
}

func TestUnreadableRecordsAreSetAside(t *testing.T) {
	r := newRig(t)
	r.mustCreate("good", "workspace", "w", "username", "alice")
	r.crash()
	for name, content := range map[string]string{
		"torn.json": `{"version": 1, "na`, "future.json": `{"version": 2, "name": "future"}`,
		"other.json": `{"version": 1, "name": "good"}`, ".tmp-123": "half",
	} {
		write(t, filepath.Join(r.records.dir, name), content)
	}
	r.start()
	if res, err := r.List(); err != nil || len(res.Volumes) != 1 || res.Volumes[0].Name != "good" {
		t.Errorf("got %v, %v, want good alone", res, err)
	}
	if _, err := os.Stat(filepath.Join(r.records.dir, ".tmp-123")); err == nil {
		t.Error("a half-written file stays")
	}
	for _, name := range []string{"torn", "future", "other"} {
		if _, err := os.Stat(filepath.Join(r.records.dir, name+".json.unreadable")); err != nil {
			t.Errorf("%s is lost: %v", name, err)
		}
	}
}

// TestReferencesAreReconciled: a reference stays as long as a process in another mount
// namespace has the profile mounted, and goes when there is none.
func TestReferencesAreReconciled(t *testing.T) {
	r := newRig(t)
	r.mustCreate("v-1", "workspace", "w", "username", "alice")
	at := r.mustMount("v-1", "1")
	home := t.TempDir()
	// What a container is to the driver: a mount namespace that has a bind of the mount
	// and not the mount itself.
	script := `mount --bind "$1" "$2" && umount -l "$1" && echo ready && read _`
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", at, home)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if n, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatalf("container: %d, %v", n, err)
	}
	everything := func(backing) bool { return true }

	r.advance(startGrace + time.Second)
	if err := r.reconcile(everything); err != nil {
		t.Fatal(err)
	}
	if s := r.status("v-1"); s["mounts"] != 1 {
		t.Fatalf("dropped a reference that is held: %v", s)
	}
	_, err = r.Reset(t.Context(), Selection{User: "alice", Workspace: "w"})
	wantErr(t, err, volume.ErrInUse.Error())

	stdin.Close() // the container exits, and Unmount never comes
	if err := cmd.Wait(); err != nil {
		t.Logf("container: %v", err)
	}
	if _, err = r.Reset(t.Context(), Selection{User: "alice", Workspace: "w"}); err != nil {
		t.Errorf("reset after the container went: %v", err)
	}
	if s := r.status("v-1"); s["mounts"] != 0 {
		t.Errorf("a reference that nobody holds stays: %v", s)
	}
}

func TestAYoungReferenceIsBelieved(t *testing.T) {
	r := newRig(t)
	r.mustCreate("v-1", "workspace", "w", "username", "alice")
	r.mustMount("v-1", "1")
	if err := r.reconcile(func(backing) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if s := r.status("v-1"); s["mounts"] != 1 {
		t.Errorf("dropped while its container may be starting: %v", s)
	}
}

func TestARecordThatCantBeSavedIsNoMount(t *testing.T) {
	r := newRig(t)
	r.mustCreate("v-1", "workspace", "w", "username", "alice")
	p, err := r.resolve(volume.Spec{Workspace: "w", Username: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(r.records.dir); err != nil { // stands for a full disk
		t.Fatal(err)
	}
	_, err = r.Mount(&proto.MountRequest{Name: "v-1", ID: "1"})
	wantErr(t, err, `save the record of volume "v-1"`)
	if mounted, err := isMountpoint(r.mountpoint(p.backing())); err != nil || mounted {
		t.Errorf("the mount was not undone: %t, %v", mounted, err)
	}
	if s := r.status("v-1"); s["mounts"] != 0 {
		t.Errorf("status: %v", s)
	}
}
