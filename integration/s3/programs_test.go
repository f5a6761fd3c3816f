//go:build integration

package s3_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// program finds a program of Debian's package of the same name.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: apt-get install -y --no-install-recommends %s", err, name)
	}
	return path
}

// shell runs a script in a directory and returns what it printed.
func shell(t *testing.T, dir, script string, env ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-eu", "-c", script)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v in %s:\n%s\n%s", err, dir, script, tail(string(out)))
	}
	return strings.TrimSpace(string(out))
}

// TestGit works on a clone, session by session, each on another host.
func TestGit(t *testing.T) {
	program(t, "git")
	p := newProfile(t)
	origin := p.mkdir("origin")
	identity := []string{"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b", "GIT_CONFIG_GLOBAL=/dev/null", "HOME=" + origin}
	shell(t, origin, `git init -q -b main .
		for i in $(seq 60); do mkdir -p d$((i % 7)); seq $i 400 >d$((i % 7))/f$i; git add .; git commit -qm "commit $i"; done
		git branch side HEAD~20`, identity...)
	for i, script := range []string{
		`git clone -q "$ORIGIN" work; cd work; git gc -q --prune=now; git checkout -q -b side origin/side`,
		`cd work; echo changed >>d1/f1; git stash -q; echo more >new; git add new; git commit -qm new`,
		`cd work; git rebase -q main; git stash pop -q; git commit -qam popped; git repack -adq`,
		`cd work; git checkout -q main; git merge -q side; git gc -q --prune=now`,
		`cd work; git reset -q --hard HEAD~1; git clean -qfdx`,
	} {
		h := p.host("host")
		m := h.mount()
		if i > 0 {
			if got := shell(t, h.dir, "cd work; git status --porcelain; git fsck --full --strict 2>&1 | grep -v dangling || :", identity...); got != "" {
				t.Fatalf("session %d: git status and git fsck on a new host: got %q, want nothing", i, got)
			}
		}
		shell(t, h.dir, script, append(identity, "ORIGIN="+origin)...)
		m.end()
	}
	if got := shell(t, p.restore("")+"/work", "git fsck --full --strict; git log --oneline | wc -l; git status --porcelain", identity...); !strings.Contains(got, "6") {
		t.Errorf("restored: got %q", got)
	}
}

// TestSQLite has a database in WAL mode written to all the while. Every snapshot holds
// one that is whole, and a later one never has less.
func TestSQLite(t *testing.T) {
	sqlite := program(t, "sqlite3")
	p := newProfile(t)
	h := p.host("a")
	m := h.mount()
	query := func(dir, sql string) string {
		t.Helper()
		return shell(t, dir, fmt.Sprintf("%s -batch db \"%s\"", sqlite, sql))
	}
	query(h.dir, "PRAGMA journal_mode=WAL; CREATE TABLE t(n INTEGER PRIMARY KEY, data BLOB, sum INTEGER); CREATE INDEX i ON t(data);")
	load := exec.Command("sh", "-c", `while :; do
		echo "PRAGMA busy_timeout=20000; BEGIN; INSERT INTO t(data, sum) SELECT randomblob(2000), 1 FROM generate_series(1, 20); COMMIT;"
		echo "UPDATE t SET sum = sum + 1 WHERE n % 10 = abs(random()) % 10;"
	done | sqlite3 -batch db`)
	load.Dir = h.dir
	load.Env = os.Environ()
	writer := startCommand(t, load)
	lastCount := 0
	for range 8 {
		before := query(h.dir, "PRAGMA busy_timeout=20000; SELECT count(*) FROM t;")
		want := number(t, before)
		h.sync()
		dir := p.restore("")
		if got := query(dir, "PRAGMA integrity_check;"); got != "ok" {
			t.Fatalf("integrity_check of a snapshot: got %q, want ok", got)
		}
		got := number(t, query(dir, "SELECT count(*) FROM t;"))
		if got < lastCount {
			t.Errorf("a snapshot has %d rows, one before it had %d", got, lastCount)
		}
		if got < want && len(h.status().Skipped) == 0 {
			t.Logf("the snapshot has %d rows, %d were committed before the sync", got, want)
		}
		lastCount = got
	}
	if writer.ended() {
		t.Fatalf("the writer has ended:\n%s", tail(writer.output()))
	}
	must(t, exec.Command("pkill", "-KILL", "-g", fmt.Sprint(writer.cmd.Process.Pid)).Run())
	<-writer.done
	want := query(h.dir, "SELECT count(*), sum(sum) FROM t;")
	m.end()
	b := p.host("b")
	m = b.mount()
	if got := query(b.dir, "PRAGMA integrity_check; SELECT count(*), sum(sum) FROM t;"); got != "ok\n"+want {
		t.Errorf("on another host: got %q, want ok and %q", got, want)
	}
	m.end()
}

func number(t *testing.T, s string) (n int) {
	t.Helper()
	if _, err := fmt.Sscan(s[strings.LastIndexByte(s, '\n')+1:], &n); err != nil {
		t.Fatalf("%v in %q", err, s)
	}
	return n
}

// TestGoBuild builds a program in the mount, with its cache there, and on another host
// again, where the cache must serve.
func TestGoBuild(t *testing.T) {
	program(t, "go")
	p := newProfile(t)
	a := p.host("a")
	m := a.mount()
	must(t, os.Mkdir(a.path("src"), 0o755))
	write(t, a.path("src/go.mod"), "module hello\n\ngo 1.26\n")
	write(t, a.path("src/main.go"), "package main\n\nimport (\n\t\"fmt\"\n\t\"strings\"\n)\n\nfunc main() { fmt.Println(strings.ToUpper(\"hello\")) }\n")
	env := []string{"CGO_ENABLED=0", "GOFLAGS=-trimpath", "GOTOOLCHAIN=local"}
	const build = `export GOCACHE=$PWD/gocache; cd src; go build -v -o ../hello . 2>&1; ../hello`
	if got := shell(t, a.dir, build, env...); !strings.HasSuffix(got, "HELLO") {
		t.Errorf("go build: got %q", got)
	}
	m.end()
	b := p.host("b")
	m = b.mount()
	if got := shell(t, b.dir, "./hello", env...); got != "HELLO" {
		t.Errorf("the program on another host: got %q", got)
	}
	// Other paths, the same content: the cache has all but the main package's directory.
	if got := shell(t, b.dir, "rm hello; "+build, env...); strings.Contains(got, "fmt\n") || !strings.HasSuffix(got, "HELLO") {
		t.Errorf("go build with the cache of another host: got %q, want nothing of the library built again", got)
	}
	m.end()
}

// TestChromium keeps a browser's profile in the home: what a page stored is there on
// another host.
func TestChromium(t *testing.T) {
	p := newProfile(t)
	page := p.mkdir("page") + "/page.html"
	write(t, page, `<body><script>
		document.body.textContent = "before: " + localStorage.getItem("key");
		localStorage.setItem("key", "kept");
	</script>`)
	a := p.host("a")
	m := a.mount("--filter", "")
	for _, want := range []string{"before: null", "before: kept"} {
		if got := visit(t, a, page, "before: "); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	want := list(t, a.dir)
	m.end()
	b := p.host("b")
	m = b.mount("--filter", "")
	same(t, "the browser's profile on another host", list(t, b.dir), want)
	if got := visit(t, b, page, "before: "); got != "before: kept" {
		t.Errorf("on another host: got %q, want what the page had stored", got)
	}
	m.end()
}
