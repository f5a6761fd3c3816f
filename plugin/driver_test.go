package plugin

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"valise/beneath"
	"valise/fleet"
	"valise/identity"
	"valise/mapping"
	"valise/profile"

	proto "github.com/docker/go-plugins-helpers/volume"
)

// rig is a driver over temporary directories.
type rig struct {
	*Driver
	t    *testing.T
	root string // the configured root
	cfg  Config

	mu   sync.Mutex // guards ahead
	past time.Duration
}

// now lets a test move the driver's clock.
func (r *rig) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Add(r.past)
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.past += d
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{t: t, root: filepath.Join(dir, "root")}
	if err := os.Mkdir(r.root, 0o755); err != nil {
		t.Fatal(err)
	}
	r.cfg = Config{
		StateDir: filepath.Join(dir, "state"), MountDir: filepath.Join(dir, "mounts"),
		Linger: time.Millisecond, UsageInterval: time.Hour, Now: r.now,
		Fleet: fleet.New(fleet.Config{StateDir: t.TempDir(), RunDir: t.TempDir(), Program: "/bin/false", Log: slog.New(slog.DiscardHandler)}),
		Log:   slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	r.start()
	t.Cleanup(func() {
		r.Close()
		entries, _ := os.ReadDir(r.cfg.MountDir)
		for _, e := range entries {
			beneath.Unbind(filepath.Join(r.cfg.MountDir, e.Name()))
		}
	})
	return r
}

// start makes a driver over what is there; the old one is gone as after kill -9.
func (r *rig) start() {
	r.t.Helper()
	d, err := New(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Driver = d
	r.SetRules(r.rules())
	if err := d.Restore(); err != nil {
		r.t.Fatal(err)
	}
}

// crash ends the driver without its clean-up.
func (r *rig) crash() {
	r.stop()
	r.running.Wait()
}

func (r *rig) template(format string, args ...any) identity.Template {
	r.t.Helper()
	tmpl, err := identity.ParseTemplate(fmt.Sprintf(format, args...))
	if err != nil {
		r.t.Fatal(err)
	}
	return tmpl
}

// rules: workspace w with profiles at ROOT/homes/w/{username}.
func (r *rig) rules() Rules {
	w := &profile.Workspace{
		Name: "w", ImageID: "w", Home: r.template("/home/u"), Path: r.template("%s/homes/w/{username}", r.root),
		UID: 1234, GID: 1235, Mode: 0o700,
	}
	return Rules{
		Policy: &mapping.Policy{Policy: profile.Policy{
			Workspaces: map[string]*profile.Workspace{"w": w},
			Groups:     map[string]*profile.Group{"g": {Name: "g", Members: []identity.Username{"*"}}},
		}},
		Roots: []beneath.Root{{Path: r.root}},
	}
}

// addMapping puts a mapping of workspace w in force.
func (r *rig) addMapping(source, bind string, change func(*mapping.Mapping)) {
	r.t.Helper()
	rules := r.Driver.rules.Load().Rules
	m, err := mapping.New(mapping.Owner{Workspace: "w"}, source, mapping.Settings{Bind: bind}, 1234, 1235)
	if err != nil {
		r.t.Fatal(err)
	}
	if change != nil {
		change(m)
	}
	policy := *rules.Policy
	policy.Mappings = append(policy.Mappings, m)
	r.SetRules(Rules{Policy: &policy, Roots: rules.Roots})
}

func (r *rig) workspace() *profile.Workspace { return r.Driver.rules.Load().Policy.Workspaces["w"] }

func (r *rig) create(name string, options ...string) error {
	o := map[string]string{}
	for i := 0; i < len(options); i += 2 {
		o[options[i]] = options[i+1]
	}
	return r.Create(&proto.CreateRequest{Name: name, Options: o})
}

func (r *rig) mustCreate(name string, options ...string) {
	r.t.Helper()
	if err := r.create(name, options...); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) mustMount(name, id string) string {
	r.t.Helper()
	res, err := r.Mount(&proto.MountRequest{Name: name, ID: id})
	if err != nil {
		r.t.Fatal(err)
	}
	return res.Mountpoint
}

func (r *rig) mustUnmount(name, id string) {
	r.t.Helper()
	if err := r.Unmount(&proto.UnmountRequest{Name: name, ID: id}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) status(name string) map[string]any {
	r.t.Helper()
	res, err := r.Get(&proto.GetRequest{Name: name})
	if err != nil {
		r.t.Fatal(err)
	}
	return res.Volume.Status
}

func (r *rig) home(user string) string { return filepath.Join(r.root, "homes/w", user) }

func wantErr(t *testing.T, err error, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("got error %v, want one with %q", err, text)
		}
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never came: %s", what)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestVolumeLife(t *testing.T) {
	r := newRig(t)
	r.mustCreate("home-alice", "workspace", "w", "username", "alice")
	if _, err := os.Stat(r.home("alice")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Create made the profile already: %v", err)
	}
	at := r.mustMount("home-alice", "1")
	if again := r.mustMount("home-alice", "1"); again != at {
		t.Errorf("second mount of one id: got %q, want %q", again, at)
	}
	write(t, filepath.Join(at, "note"), "hi")
	if data, err := os.ReadFile(filepath.Join(r.home("alice"), "note")); err != nil || string(data) != "hi" {
		t.Errorf("note in the profile: got %q, %v", data, err)
	}
	fi, err := os.Stat(r.home("alice"))
	if err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("profile: got %v, %v, want mode 0700", fi.Mode(), err)
	}
	if s := r.status("home-alice"); s["mounts"] != 1 || s["user"] != "alice" || s["path"] != r.home("alice") {
		t.Errorf("status: got %v", s)
	}
	wantErr(t, r.Remove(&proto.RemoveRequest{Name: "home-alice"}), "is mounted 1 times")
	r.mustUnmount("home-alice", "1")
	r.mustUnmount("home-alice", "1") // no error
	eventually(t, "the mount point goes after the last reference", func() bool {
		_, err := os.Stat(at)
		return errors.Is(err, os.ErrNotExist)
	})
	if err := r.Remove(&proto.RemoveRequest{Name: "home-alice"}); err != nil {
		t.Error(err)
	}
	if _, err := r.Get(&proto.GetRequest{Name: "home-alice"}); !errors.Is(err, errNoVolume) {
		t.Errorf("after Remove: got %v", err)
	}
	if _, err := os.Stat(filepath.Join(r.home("alice"), "note")); err != nil {
		t.Errorf("Remove touched the data: %v", err)
	}
}

func TestCreateRefuses(t *testing.T) {
	r := newRig(t)
	r.mustCreate("v-1", "workspace", "w", "username", "alice")
	r.mustCreate("v-1", "workspace", "w", "username", "alice")
	wantErr(t, r.create("v-1", "workspace", "w", "username", "bob"), "exists with other options")
	wantErr(t, r.create("../x", "path", r.root), "does not match")
	wantErr(t, r.create("x-1", "workspace", "nope", "username", "bob"), `unknown workspace "nope" (known: w)`)
	wantErr(t, r.create("x-1", "path", "/etc"), `"/etc" is not below any of the configured roots`)
	wantErr(t, r.create("x-1", "path", r.root+"/missing"), "no such file")
	wantErr(t, r.create("x-1", "mapping", "/m", "workspace", "w"), `workspace "w" has no volume mapping "/m"`)
	wantErr(t, r.create("x-1", "pth", "/m"), `unknown option "pth"`)
	if err := os.RemoveAll(r.root); err != nil {
		t.Fatal(err)
	}
	wantErr(t, r.create("x-1", "workspace", "w", "username", "bob"), r.root, "does not exist")
	r.SetFault(errors.New("line 3: broken"))
	wantErr(t, r.create("x-1", "workspace", "w", "username", "bob"), "no valid configuration", "line 3: broken")
}

func TestOwnerAndModeAreReasserted(t *testing.T) {
	r := newRig(t)
	r.mustCreate("v-1", "workspace", "w", "username", "alice")
	r.mustMount("v-1", "1")
	if err := errors.Join(os.Chown(r.home("alice"), 0, 0), os.Chmod(r.home("alice"), 0o755)); err != nil {
		t.Fatal(err)
	}
	r.mustMount("v-1", "2")
	n, err := beneath.Root{Path: r.home("alice")}.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if st, err := n.Stat(); err != nil || st.UID != 1234 || st.GID != 1235 || st.Mode&0o777 != 0o700 {
		t.Errorf("got %+v, %v, want 1234:1235 0700", st, err)
	}
}

func TestControlVolumes(t *testing.T) {
	r := newRig(t)
	r.mustCreate("c-1", "workspace", "w", "username", "alice", "control", "check")
	if _, err := r.Mount(&proto.MountRequest{Name: "c-1", ID: "1"}); err == nil || !strings.Contains(err.Error(), "control volume") {
		t.Errorf("mount of a control volume: got %v", err)
	}
	if res, err := r.List(); err != nil || len(res.Volumes) != 0 {
		t.Errorf("List shows it: %v, %v", res, err)
	}
	if err := r.Remove(&proto.RemoveRequest{Name: "c-1"}); err != nil {
		t.Error(err)
	}
	r.mustCreate("c-1", "workspace", "w", "username", "alice", "control", "check")
	r.advance(controlLife + time.Second)
	r.expireControls()
	if _, err := r.Get(&proto.GetRequest{Name: "c-1"}); !errors.Is(err, errNoVolume) {
		t.Errorf("a forgotten control volume: got %v", err)
	}
}
