package fleet

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/google/go-cmp/cmp"

	"valise/durable"
	"valise/session"
)

// acts tells a process that is started as valise what to do.
const acts = "VALISE_FLEET_TEST"

func TestMain(m *testing.M) {
	switch os.Getenv(acts) {
	case "":
		os.Exit(m.Run())
	case "ready":
		_, _ = daemon.SdNotify(false, "READY=1")
	case "fails":
		_, _ = daemon.SdNotify(false, "STATUS=the store is on fire")
		os.Exit(1)
	case "silent":
		os.Exit(7)
	case "hangs":
		_, _ = daemon.SdNotify(false, "STATUS=waiting for host two")
		time.Sleep(time.Hour)
	case "works":
	}
	os.Exit(0)
}

func newFleet(t *testing.T, does string) *Fleet {
	t.Helper()
	t.Setenv(acts, does)
	return New(Config{StateDir: t.TempDir(), RunDir: t.TempDir(), Program: os.Args[0], Log: slog.New(slog.DiscardHandler)})
}

func settings(t *testing.T) Settings {
	return Settings{URL: "s3://bucket/alice/", Dir: t.TempDir(), User: "alice", Filter: ".cache"}
}

func TestMountTellsWhatTheProcessSays(t *testing.T) {
	for _, tt := range []struct{ does, want string }{
		{"ready", ""},
		{"fails", "the store is on fire"},
		{"silent", "exit status 7"},
		{"hangs", "waiting for host two: context deadline exceeded"},
	} {
		t.Run(tt.does, func(t *testing.T) {
			f := newFleet(t, tt.does)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			err := f.Mount(ctx, settings(t), false)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestMountWithoutTheProgram(t *testing.T) {
	f := newFleet(t, "ready")
	f.cfg.Program = "/nonexistent"
	if err := f.Mount(t.Context(), settings(t), false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
}

// What a process is started with can be read again, and holds what it was.
func TestSettingsLast(t *testing.T) {
	f := newFleet(t, "ready")
	want := settings(t)
	want.Access = Access{AccessKeyID: "A", SecretAccessKeyFile: "/etc/secret", Role: &Role{ARN: "arn:x", Duration: time.Hour}}
	want.Source = &Source{Directory: &Directory{Root: "/mnt", Rel: "alice"}}
	s := want
	s.StateDir, s.RunDir = f.cfg.StateDir, f.cfg.RunDir
	if err := s.save(); err != nil {
		t.Fatal(err)
	}
	got, err := f.Last(want.URL)
	if diff := cmp.Diff(s, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if !f.fits(s) {
		t.Error("the same settings do not fit")
	}
	if s.Filter = "other"; f.fits(s) {
		t.Error("other settings fit")
	}
	if err := os.WriteFile(s.Path(), []byte(`{"url": "x", "more": 1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Last(want.URL); err == nil || !strings.Contains(err.Error(), "more") {
		t.Errorf("an unknown member: got %v", err)
	}
	if _, err := f.Last("s3://bucket/bob/"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("never mounted: got %v", err)
	}
}

// pending leaves what a mount would that died with unsaved changes.
func pending(t *testing.T, f *Fleet, s Settings) {
	t.Helper()
	s.StateDir, s.RunDir = f.cfg.StateDir, f.cfg.RunDir
	if err := s.save(); err != nil {
		t.Fatal(err)
	}
	state := map[string]any{"version": 1, "url": s.URL, "dir": s.Dir, "mount": "m"}
	if err := durable.WriteJSON(filepath.Join(filepath.Dir(s.Path()), "state.json"), state); err != nil {
		t.Fatal(err)
	}
}

// What can't be saved is told, and tried again less and less often; what is in use is left.
func TestFinishPending(t *testing.T) {
	f := newFleet(t, "fails")
	s := settings(t)
	pending(t, f, s)
	f.FinishPending(t.Context(), func(string) bool { return true })
	if len(f.failed) > 0 {
		t.Error("what is in use was worked on")
	}
	f.FinishPending(t.Context(), func(string) bool { return false })
	st, ok := f.Look(t.Context(), s.URL, s.Dir)
	if !ok || st.State != session.StatePending || st.Error != "the store is on fire" {
		t.Errorf("got %+v, %v, want it pending with the reason", st, ok)
	}
	first := f.failed[s.URL]
	t.Setenv(acts, "works")
	f.FinishPending(t.Context(), func(string) bool { return false })
	if f.failed[s.URL] != first {
		t.Error("it was tried again at once")
	}
	f.failed[s.URL] = failure{reason: "old", wait: first.wait}
	t.Setenv(acts, "fails")
	f.FinishPending(t.Context(), func(string) bool { return false })
	if got := f.failed[s.URL].wait; got != 2*first.wait {
		t.Errorf("waits %s, then %s", first.wait, got)
	}
	t.Setenv(acts, "works")
	var told []Drained
	err := f.Drain(t.Context(), func(session.Status) bool { return true }, func(d Drained) { told = append(told, d) })
	want := []Drained{{URL: s.URL, State: session.StatePending, Error: "it is not saved yet"}} // the process did nothing
	if diff := cmp.Diff(want, told); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestEndOfNothing(t *testing.T) {
	f, dir := newFleet(t, "ready"), t.TempDir()
	if err := errors.Join(f.End(t.Context(), dir), f.Idle(t.Context(), dir)); err != nil {
		t.Error(err)
	}
	if _, err := f.Status(t.Context(), dir); !errors.Is(err, session.ErrNotMounted) {
		t.Errorf("got %v, want %v", err, session.ErrNotMounted)
	}
	if dead, err := f.Abandoned(dir); dead || err != nil {
		t.Errorf("got %v, %v", dead, err)
	}
}
