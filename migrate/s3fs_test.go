package migrate_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"valise/migrate"
	"valise/store/storetest/server"
)

// mount runs a program of FUSE that mounts something until the returned function is
// called.
func mount(t *testing.T, at string, program string, args ...string) (unmount func()) {
	t.Helper()
	cmd := exec.Command(program, args...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	unmount = func() {
		_ = unix.Unmount(at, 0)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			_ = unix.Unmount(at, unix.MNT_DETACH)
			t.Errorf("%s does not end:\n%s", program, output.String())
		}
		ended <- nil
	}
	t.Cleanup(unmount)
	for range 200 {
		var here, above unix.Stat_t
		if err := errors.Join(unix.Stat(at, &here), unix.Stat(filepath.Dir(at), &above)); err == nil && here.Dev != above.Dev {
			return unmount
		}
		select {
		case err := <-ended:
			ended <- nil
			t.Fatalf("%s: %v\n%s", program, err, output.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Fatalf("%s does not mount:\n%s", program, output.String())
	return nil
}

// sample makes a home with files of all sorts.
func sample(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	in := func(rel string) string { return filepath.Join(dir, rel) }
	for _, d := range []string{"d/empty", "sp ace/ü", "private"} {
		if err := os.MkdirAll(in(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	odd := "sp ace/ü/#?%+&=;,!$'()* .txt"
	for rel, body := range map[string]string{
		"d/f": "hi\n", "zero": "", odd: "odd", "plus+": "+", "percent%41": "%", "private/key": "secret",
		"large": strings.Repeat("0123456789abcdef", 1<<20), "run.sh": "#!/bin/sh\n", "日本語": "utf-8",
	} {
		if err := os.WriteFile(in(rel), []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	set := func(rel, name, value string) error { return unix.Setxattr(in(rel), name, []byte(value), 0) }
	then := time.Date(2001, 2, 3, 4, 5, 6, 123456789, time.UTC)
	err := errors.Join(
		os.Symlink("../nowhere", in("d/dangling")), os.Symlink("f", in("d/link")), os.Symlink("ü/#?", in("sp ace/l")),
		os.Chmod(in("run.sh"), 0o750), os.Chmod(in("private/key"), 0o400), os.Chmod(in("zero"), 0), os.Chmod(in("private"), 0o700),
		os.Chmod(in("d/empty"), 0o777|os.ModeSticky),
		set("d/f", "user.comment", "hi ü"), set("large", "user.xdg.origin.url", "http://example.org/?a=b&c=%20"),
		os.Chtimes(in("d/f"), then, then), os.Chtimes(in(odd), then, then.Add(time.Hour)),
	)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range []string{"d/empty", "d", "sp ace/ü", "sp ace", "private"} {
		at := then.Add(time.Duration(i) * time.Minute)
		if err := os.Chtimes(in(d), at, at); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// mapped is what a home looks like that belongs to uid and gid.
func mapped(t *testing.T, dir string) map[string]migrate.File {
	out := migrate.Look(t, dir)
	for path, f := range out {
		f.Owner = "1234:4321"
		out[path] = f
	}
	return out
}

func TestWhatS3FSWrites(t *testing.T) {
	s := server.MinIO(t)
	s.Bucket(t, bucket)
	put(t, client(s, newGate(t, s).endpoint), "home/", "", "application/x-directory", nil)
	password := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(password, []byte(s.AccessKey+":"+s.SecretKey), 0o600); err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	unmount := mount(t, at, "s3fs", bucket+":/home", at, "-f", "-o",
		"passwd_file="+password+",url="+newGate(t, s).endpoint+",use_path_request_style,use_xattr,del_cache")
	home := sample(t)
	if err := errors.Join(unix.Setxattr(filepath.Join(home, "d"), "user.dir", []byte{0, 255, '"'}, 0),
		unix.Setxattr(filepath.Join(home, "zero"), "user.ü", []byte("value"), 0)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(home, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	entries, err := filepath.Glob(filepath.Join(home, "*"))
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-a", "--no-preserve=ownership", "-t", at}, entries...)
	if out, err := exec.Command("cp", args...).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	if err := unix.Mknod(filepath.Join(at, "null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	unmount()

	dir, r := fetch(t, source(t, s, s.User(t, readOnly), s.Endpoint, "home/"))
	if diff := cmp.Diff(mapped(t, home), migrate.Look(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%.4000s", diff)
	}
	want := []migrate.Skipped{{Key: "null", Reason: "it is a device"}}
	if !slices.Equal(r.Skipped, want) || len(r.Notes) > 0 {
		t.Errorf("skipped %v, notes %q", r.Skipped, r.Notes)
	}
}
