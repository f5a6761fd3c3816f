package layer

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"valise/tree"
)

// sqlite runs commands on a database.
func sqlite(t testing.TB, path, commands string) string {
	t.Helper()
	cmd := exec.Command(sqliteCLI(t), "-batch", "-bail", path)
	cmd.Stdin = strings.NewReader(commands)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("sqlite3 %s: %v: %s", path, err, out)
	}
	return strings.TrimSpace(string(out))
}

func sqliteCLI(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Fatal("sqlite3 is not there: apt-get install sqlite3")
	}
	return path
}

// transfer moves money between accounts: their sum stays.
const transfer = `BEGIN IMMEDIATE;
INSERT INTO log(text) VALUES (hex(randomblob(3000)));
UPDATE account SET balance = balance - 7 WHERE id = abs(random()) % 200;
UPDATE account SET balance = balance + 7 * changes() WHERE id = 200 + abs(random()) % 200;
DELETE FROM log WHERE id < (SELECT max(id) FROM log) - 300 AND id % 7 <> 0;
COMMIT;
`

// load writes to a database until stop is called. Each statement must succeed.
func load(t *testing.T, path, setup string, timeout time.Duration) (stop func()) {
	t.Helper()
	cmd := exec.Command(sqliteCLI(t), "-batch", "-bail", path)
	in, err := cmd.StdinPipe()
	must(t, err)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = io.Discard, &said
	must(t, cmd.Start())
	done := make(chan bool)
	end := make(chan bool)
	go func() {
		defer close(done)
		_, _ = io.WriteString(in, fmt.Sprintf("PRAGMA busy_timeout=%d; PRAGMA synchronous=OFF; %s\n", timeout.Milliseconds(), setup))
		for {
			select {
			case <-end:
				_ = in.Close()
				return
			default:
				if _, err := io.WriteString(in, transfer); err != nil {
					return
				}
			}
		}
	}()
	return func() {
		close(end)
		<-done
		if err := cmd.Wait(); err != nil {
			t.Errorf("a writer was disturbed: %v: %s", err, said.String())
		}
	}
}

// Databases are copied while others write to them; each copy is whole. The first writer
// has to wait for readers, as SQLite's writers have without a write-ahead log; with one,
// a writer that waits for nobody never finds the database locked.
func TestSQLiteUnderLoad(t *testing.T) {
	for name, c := range map[string]struct {
		setup   string
		writers []time.Duration // how long each waits for locks
	}{
		"delete":     {"PRAGMA journal_mode=DELETE;", []time.Duration{10 * time.Second}},
		"truncate":   {"PRAGMA journal_mode=TRUNCATE;", []time.Duration{10 * time.Second}},
		"persist":    {"PRAGMA journal_mode=PERSIST;", []time.Duration{10 * time.Second}},
		"wal":        {"PRAGMA journal_mode=WAL;", []time.Duration{0}},
		"wal, small": {"PRAGMA page_size=1024; PRAGMA journal_mode=WAL;", []time.Duration{30 * time.Second, 30 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStack(t, nil)
			must(t, os.Mkdir(s.path("dir"), 0o755))
			db := s.path("dir/data.db")
			sqlite(t, db, c.setup+`CREATE TABLE account(id INTEGER PRIMARY KEY, balance INTEGER);
				CREATE TABLE log(id INTEGER PRIMARY KEY, text TEXT); CREATE INDEX by_text ON log(text);
				WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i+1 FROM n WHERE i<399) INSERT INTO account SELECT i, 1000 FROM n;`)
			var stops []func()
			for _, timeout := range c.writers {
				stops = append(stops, load(t, db, c.setup, timeout))
			}
			const scans = 8
			seen := map[int]bool{}
			for range scans {
				scan, whole := s.take(Regular)
				seen[s.checkCopy(whole)] = true
				s.scan.Committed(scan)
				s.progress("dir/data.db")
			}
			for _, stop := range stops {
				stop()
			}
			if len(seen) < scans/2 {
				t.Errorf("%d scans have only %d states of the database", scans, len(seen))
			}
			must(t, s.Unmount())
			scan, whole := s.take(Final)
			if last := s.checkCopy(whole); !scan.Quiescent || seen[last] {
				t.Errorf("the final scan: quiescent %v, %d transactions, seen before: %v", scan.Quiescent, last, seen[last])
			}
		})
	}
}

// progress waits until a database or its log has changed.
func (s *stack) progress(name string) {
	s.t.Helper()
	sum := func() (sum int64) {
		for _, part := range []string{"", walSuffix} {
			var st unix.Stat_t
			if unix.Stat(s.upper(name)+part, &st) == nil {
				sum += st.Ctim.Nano()
			}
		}
		return sum
	}
	for before := sum(); sum() == before; {
		must(s.t, pause(s.t.Context(), time.Millisecond))
	}
}

// checkCopy writes the database of a tree out, and has SQLite check it; it returns the
// number of its last transaction.
func (s *stack) checkCopy(whole *tree.Tree) int {
	s.t.Helper()
	dir := s.t.TempDir()
	for _, part := range []string{"", walSuffix, undoSuffix, shmSuffix} {
		if n, ok := whole.LookupPath([]byte("dir/data.db" + part)); ok {
			must(s.t, os.WriteFile(dir+"/data.db"+part, content(s.t, s.sink, whole, n), 0o600))
		}
	}
	out := sqlite(s.t, dir+"/data.db", "PRAGMA integrity_check; SELECT sum(balance) FROM account; SELECT max(id) FROM log;")
	lines := strings.Fields(out)
	if len(lines) < 2 || lines[0] != "ok" || lines[1] != "400000" {
		s.t.Errorf("the copy is damaged: %s", out)
		return 0
	}
	if len(lines) < 3 {
		return 0 // no transaction yet
	}
	n, err := strconv.Atoi(lines[2])
	must(s.t, err)
	return n
}

// A process that never lets go of a database holds up a scan for about a second. Where
// nothing changes meanwhile, the files are good all the same.
func TestSQLiteThatStaysLocked(t *testing.T) {
	s := newStack(t, nil)
	must(t, os.Mkdir(s.path("dir"), 0o755))
	sqlite(t, s.path("dir/data.db"), `CREATE TABLE account(balance); INSERT INTO account VALUES (400000); CREATE TABLE log(id);`)
	f, err := os.OpenFile(s.path("dir/data.db"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	exclusive := unix.Flock_t{Type: unix.F_WRLCK, Start: pendingByte, Len: 2 + sharedSize}
	must(t, unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &exclusive))
	start := time.Now()
	scan, whole := s.take(Regular)
	if took := time.Since(start); took > 5*lockTime {
		t.Errorf("the scan took %s", took)
	}
	s.checkCopy(whole)
	if scan.Hot != 1 || !scan.Quiescent {
		t.Errorf("got %+v", scan)
	}
	start = time.Now()
	s.take(Regular)
	if took := time.Since(start); took > lockTime/2 {
		t.Errorf("the next scan, which knows, took %s", took)
	}
}

// Locks that are taken in upper are not those of the merged file, which is why the
// scanner takes them in the merged home.
func TestLocksAreNotPassedToUpper(t *testing.T) {
	s := newStack(t, nil)
	write(t, s.path("f"), "x")
	var files []*os.File
	for _, path := range []string{s.path("f"), s.upper("f"), s.path("f")} {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		defer f.Close()
		files = append(files, f)
	}
	var got []error
	for _, f := range files {
		l := unix.Flock_t{Type: unix.F_WRLCK, Len: 1}
		got = append(got, unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l))
	}
	if want := "[<nil> <nil> resource temporarily unavailable]"; fmt.Sprint(got) != want {
		t.Errorf("locks on merged, upper, merged: got %v, want %s", got, want)
	}
}
