package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// killHelper makes the test binary fetch into the directory it names.
const killHelper = "VALISE_TEST_MIGRATE_DIR"

// slow is a body that comes slowly.
type slow struct{ io.ReadCloser }

func (s slow) Read(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return s.ReadCloser.Read(p[:min(len(p), 4096)])
}

// home is a source of which every process makes the same.
func home() *fake {
	objects := map[string]stored{"big": plain(strings.Repeat("0123456789abcdef", 10_000)), "d/": {user: map[string]string{"mtime": "12345"}}}
	for i := range 1500 {
		key := fmt.Sprintf("d/%d/%d", i%40, i)
		objects[key] = stored{body: strings.Repeat(key+"\n", i%300), user: map[string]string{"mtime": fmt.Sprint(i), "mode": "33261", "ctime": "1"}}
		if i%50 == 0 {
			objects[key+"-link.rclonelink"] = stored{body: "../" + key, user: map[string]string{"mtime": fmt.Sprint(i)}}
		}
		if i%40 == 0 {
			objects[fmt.Sprintf("d/%d/", i%40)] = stored{user: map[string]string{"mtime": fmt.Sprint(i), "mode": "16832", "ctime": "1"}}
		}
	}
	f := newFake(objects)
	f.page = 1000
	f.onBody = func(_ string, _ int, body io.ReadCloser) io.ReadCloser { return slow{body} }
	return f
}

func TestKilledAtAnyTime(t *testing.T) {
	if dir := os.Getenv(killHelper); dir != "" {
		flushEvery = 20 * time.Millisecond
		_, err := Fetch(context.Background(), configFor(t, home(), dir))
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	dir := staging(t)
	inJournal := func() (n int64) {
		if err := readJournal(filepath.Join(Sidecar(dir), "journal"), func(record) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	last, killed := int64(0), 0
	for range 25 {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), killHelper+"="+dir)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(40*time.Millisecond+rand.N(120*time.Millisecond), func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		timer.Stop()
		if err == nil {
			break
		}
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.Exited() {
			t.Fatalf("%v\n%s", err, out.String())
		}
		killed++
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			continue // it had not got that far
		}
		now := inJournal()
		if now < last {
			t.Errorf("the journal had %d objects and has %d", last, now)
		}
		last = now
		source := home()
		for path, f := range look(t, dir) { // whatever has a name is whole
			o, ok := source.objects[path]
			if strings.HasPrefix(filepath.Base(path), ".valise-") || !ok {
				continue
			}
			if f.Content != o.body || f.Mode != "100755" && path != "big" {
				t.Fatalf("%s is not whole: mode %s, %d bytes", path, f.Mode, len(f.Content))
			}
		}
	}
	t.Logf("killed %d times, the journal has %d objects", killed, last)
	if killed == 0 {
		t.Error("it was never killed")
	}
	source := home()
	source.onBody = nil
	got := fetched(t, configFor(t, source, dir))
	if want := int64(len(source.objects)) - last; got.Fetched != want && last > 0 && got.Fetched != 0 {
		t.Errorf("fetched %d objects, want the %d that the journal did not have", got.Fetched, want)
	}
	at := staging(t)
	whole := fetched(t, configFor(t, source, at))
	got.Fetched, got.FetchedBytes = whole.Fetched, whole.FetchedBytes
	if diff := cmp.Diff(whole, got); diff != "" {
		t.Errorf("(-one in one go +killed):\n%s", diff)
	}
	if diff := cmp.Diff(look(t, at), look(t, dir)); diff != "" {
		t.Errorf("(-one in one go +killed):\n%s", diff)
	}
}
