package plugin

import (
	"bytes"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"valise/beneath"
)

// lockedBuffer is a log that can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestDiskUsage(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a/b"), strings.Repeat("x", 100_000))
	if err := os.Link(filepath.Join(dir, "a/b"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/", filepath.Join(dir, "everything")); err != nil {
		t.Fatal(err)
	}
	sparse, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	if err := sparse.Truncate(1 << 40); err != nil {
		t.Fatal(err)
	}
	sparse.Close()
	n, err := beneath.Root{Path: dir}.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	got, err := diskUsage(t.Context(), n)
	if err != nil || got < 100_000 || got > 150_000 {
		t.Errorf("got %d, %v, want the one file's 100,000 bytes and some directories", got, err)
	}
}

// TestSharesAreNotWalked: a shared folder may hold millions of files.
func TestSharesAreNotWalked(t *testing.T) {
	r := newRig(t)
	for _, dir := range []string{"share", "limited"} {
		if err := os.Mkdir(filepath.Join(r.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.addMapping(filepath.Join(r.root, "share"), "/share", nil)
	r.mustCreate("share", "workspace", "w", "mapping", filepath.Join(r.root, "share"))
	r.mustCreate("limited", "path", filepath.Join(r.root, "limited"), "size_limit", "1m")
	r.mustMount("share", "1")
	r.mustMount("limited", "1")
	r.measureMounted()
	eventually(t, "a directory with a limit is measured", func() bool { return r.status("limited")["usage_bytes"] != nil })
	if s := r.status("share"); s["usage_bytes"] != nil {
		t.Errorf("the share was measured: %v", s)
	}
}

func TestLimitIsToldInStatusLogAndMetrics(t *testing.T) {
	r := newRig(t)
	log := &lockedBuffer{}
	r.Driver.cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	r.mustCreate("v-1", "workspace", "w", "username", "alice", "size_limit", "100k")
	at := r.mustMount("v-1", "1")
	eventually(t, "the first measurement", func() bool { return r.status("v-1")["usage_bytes"] != nil })
	if s := r.status("v-1"); s["fill"] != "fits" || s["limit_bytes"] != int64(100<<10) {
		t.Errorf("status of an empty home: %v", s)
	}
	write(t, filepath.Join(at, "big"), strings.Repeat("x", 200_000))
	r.measureMounted()
	if s := r.status("v-1"); s["fill"] != "over the limit" {
		t.Errorf("status: %v", s)
	}
	r.measureMounted()
	if n := strings.Count(log.String(), "profile is over the limit"); n != 1 {
		t.Errorf("the log warns %d times, want once:\n%s", n, log)
	}
	w := httptest.NewRecorder()
	r.AdminHandler(nil).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{
		`valise_profile_usage_bytes{path="` + r.home("alice") + `"} 2`, `valise_profile_limit_bytes{`,
		`valise_profile_mounts{path="` + r.home("alice") + `"} 1`, "valise_volumes 1", "valise_mount_seconds_count 1",
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}
