//go:build integration

package s3_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"valise/session"
	"valise/store/storetest/server"
)

// profile is a place on the S3 server, and what is needed to use it.
type profile struct {
	t    *testing.T
	url  string
	path string // within the bucket
	env  []string
	dir  string // for what the test makes on this machine
}

var profiles atomic.Int64

// newProfile returns a place where nothing is yet.
func newProfile(t *testing.T) *profile {
	t.Helper()
	path := fmt.Sprintf("test-%d/", profiles.Add(1))
	c := suite.minio.User(t, server.Policy(bucket, path))
	// What is mounted in it is gone by then: of clean-ups, the last registered runs first.
	dir, err := os.MkdirTemp(suite.dir, "")
	must(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	p := &profile{t: t, path: path, dir: dir, env: append(os.Environ(),
		"AWS_ACCESS_KEY_ID="+c.AccessKey, "AWS_SECRET_ACCESS_KEY="+c.SecretKey, "AWS_SESSION_TOKEN="+c.SessionToken,
		"AWS_REGION=us-east-1", "AWS_CA_BUNDLE="+suite.minio.CAFile, "TMPDIR="+filepath.Join(suite.dir, "tmp"),
	)}
	return p.at(suite.minio.Endpoint)
}

// at is the same profile by way of another endpoint.
func (p *profile) at(endpoint string) *profile {
	q := *p
	q.url = fmt.Sprintf("s3://%s@%s/%s", bucket, strings.TrimPrefix(endpoint, "https://"), p.path)
	return &q
}

// host is a machine: a state directory with a name, and where it mounts the profile.
type host struct {
	*profile
	name, state, dir string
}

// host returns a machine that has never seen the profile.
func (p *profile) host(name string) *host {
	p.t.Helper()
	h := &host{profile: p, name: name, dir: p.mkdir("home"), state: p.mkdir("state")}
	p.t.Cleanup(h.cleanUp)
	return h
}

// mkdir makes a new directory for the test.
func (p *profile) mkdir(name string) string {
	p.t.Helper()
	dir, err := os.MkdirTemp(p.dir, name)
	must(p.t, err)
	return dir
}

// cleanUp takes away what a test that failed has left mounted.
func (h *host) cleanUp() {
	for _, m := range mounts() {
		if m.Mountpoint == h.dir || strings.HasPrefix(m.Mountpoint, h.state) {
			if !h.t.Failed() {
				h.t.Errorf("left behind: %s mounted at %s", m.FSType, m.Mountpoint)
			}
			_ = unix.Unmount(m.Mountpoint, unix.MNT_DETACH)
		}
	}
	if err := os.Remove(h.socket()); err == nil && !h.t.Failed() {
		h.t.Errorf("left behind: %s", h.socket())
	}
}

// socket is what the process that serves the mount listens on.
func (h *host) socket() string {
	sum := sha256.Sum256([]byte(h.dir))
	return filepath.Join(session.DefaultRunDir, hex.EncodeToString(sum[:12])+".sock")
}

// mount is a running `valise mount`.
type mount struct {
	*process
	host  *host
	t     *testing.T
	stale bool // dead processes had left something mounted there
}

// mount mounts the profile and waits until it can be used. Saves are the test's own
// unless flags say otherwise.
func (h *host) mount(flags ...string) *mount {
	h.t.Helper()
	m := h.start(flags...)
	m.ready()
	return m
}

// start runs the command and does not wait.
func (h *host) start(flags ...string) *mount {
	h.t.Helper()
	args := append([]string{"mount", "--state-dir", h.state, "--host", h.name, "--sync-interval", "1h", "--patience", "1m"}, flags...)
	m := &mount{host: h, t: h.t, stale: h.mounted()}
	m.process = start(h.t, h.env, append(args, h.url, h.dir)...)
	h.t.Cleanup(m.cleanUp)
	return m
}

// ready waits for the mount point.
func (m *mount) ready() {
	m.t.Helper()
	eventually(m.t, 30*time.Second, "a mount at "+m.host.dir, func() bool {
		if m.ended() {
			m.t.Fatalf("valise mount ended with code %d before anything was mounted:\n%s", m.code(), m.output())
		}
		return m.host.mounted() && (!m.stale || strings.Contains(m.output(), "msg=mounted"))
	})
}

// mounted reports whether something is mounted at the host's directory.
func (h *host) mounted() bool {
	return slices.ContainsFunc(mounts(), func(m *mountinfo.Info) bool { return m.Mountpoint == h.dir })
}

func (m *mount) cleanUp() {
	if m.t.Failed() {
		m.t.Logf("valise mount on %s said:\n%s", m.host.name, tail(m.output()))
	}
	if !m.ended() {
		if !m.t.Failed() {
			m.t.Error("the test left valise mount running")
		}
		m.killAll() // at once: the supervisor would start another worker
	}
}

// path is a file of the mounted home.
func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

// sync saves as a user does.
func (h *host) sync(flags ...string) {
	h.t.Helper()
	h.run(append(append([]string{"sync"}, flags...), h.dir)...).wants(h.t, 0)
}

// finish saves what an earlier mount of the host left.
func (h *host) finish() result {
	return h.run("sync", "--state-dir", h.state, "--host", h.name, h.dir)
}

// end unmounts and wants everything saved.
func (m *mount) end() {
	m.t.Helper()
	m.signal(unix.SIGTERM)
	m.wants(0)
	if m.host.mounted() {
		m.t.Errorf("%s is mounted after valise mount has ended", m.host.dir)
	}
}

// wants waits for the end of the process and compares its exit code.
func (m *mount) wants(code int) {
	m.t.Helper()
	if got := m.wait(m.t, 2*time.Minute); got != code {
		m.t.Fatalf("valise mount: got exit code %d, want %d:\n%s", got, code, m.output())
	}
}

// status asks the process that serves the mount.
func (h *host) status() session.Status {
	h.t.Helper()
	var list []session.Status
	h.run("status", "--json", "--state-dir", h.state, h.dir).decode(h.t, &list)
	if len(list) != 1 {
		h.t.Fatalf("valise status --json %s: got %d entries, want 1", h.dir, len(list))
	}
	return list[0]
}

// run runs valise to its end.
func (p *profile) run(args ...string) result {
	p.t.Helper()
	return run(p.t, p.env, args...)
}

// snapshot is an element of what `valise snapshots --json` prints.
type snapshot struct {
	Name, Host, Mount string
	Time              time.Time
	Files, Size       int64
	Conflict          bool
}

func (p *profile) snapshots() []snapshot {
	p.t.Helper()
	var out []snapshot
	p.run("snapshots", "--json", p.url).decode(p.t, &out)
	return out
}

// restore writes a snapshot, "" for the newest, into a new directory.
func (p *profile) restore(name string) string {
	p.t.Helper()
	dir := p.mkdir("restored")
	p.run("restore", "--snapshot", name, p.url, dir).wants(p.t, 0)
	return dir
}

// check wants everything that S3 has to be right.
func (p *profile) check() {
	p.t.Helper()
	p.run("check", "--read-data", p.url).wants(p.t, 0)
}

// decode reads what a command that succeeded printed.
func (r result) decode(t *testing.T, v any) {
	t.Helper()
	r.wants(t, 0)
	if err := json.Unmarshal([]byte(r.stdout), v); err != nil {
		t.Fatalf("%s: %v in %q", r.command, err, r.stdout)
	}
}

func mounts() []*mountinfo.Info {
	list, err := mountinfo.GetMounts(nil)
	if err != nil {
		panic(err) // /proc is there
	}
	return list
}

// eventually waits until done.
func eventually(t *testing.T, within time.Duration, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within %s", what, within)
		}
	}
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func tail(s string) string { return s[max(0, len(s)-6000):] }
