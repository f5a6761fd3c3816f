package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// These variables have the test's binary be a worker, or a supervisor of such, that
// does what the value says; see act.
const (
	workerEnv     = "SUPERVISE_TEST_WORKER"
	supervisorEnv = "SUPERVISE_TEST_SUPERVISOR"
)

func TestMain(m *testing.M) {
	if script, ok := os.LookupEnv(workerEnv); ok {
		fmt.Fprintln(os.Stderr, act(script))
		os.Exit(99)
	}
	if script, ok := os.LookupEnv(supervisorEnv); ok {
		code, err := Run(context.Background(), Config{Command: func() *exec.Cmd { return self(workerEnv, script) }, Log: slog.Default()})
		fmt.Fprintln(os.Stderr, "the supervisor was not killed:", code, err)
		os.Exit(99)
	}
	os.Exit(m.Run())
}

// self runs the test's binary.
func self(env, script string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), env+"="+script, "GORACE=atexit_sleep_ms=0")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

// act does the steps of a script; the last one ends the process.
func act(script string) error {
	w, err := Inherited()
	if err != nil {
		return err
	}
	ctx := w.Context(context.Background())
	for step := range strings.SplitSeq(script, "; ") {
		args := strings.Split(step, " ")
		if err := steps[args[0]](ctx, w, args[1:]); err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
	}
	return errors.New("the script has ended")
}

var steps = map[string]func(ctx context.Context, w *Worker, args []string) error{
	// keep INIT FILE... hands over files that hold a text, of which the first byte is
	// read.
	"keep": func(_ context.Context, w *Worker, args []string) error {
		var files []*os.File
		for _, text := range args[1:] {
			f, err := note("_" + text)
			if err != nil {
				return err
			}
			files = append(files, f)
		}
		return w.Keep([]byte(args[0]+"\x00"), files...)
	},
	// show prints what was handed over: of the files what is yet to be read.
	"show": func(_ context.Context, w *Worker, _ []string) error {
		init, files := w.Kept()
		fmt.Printf("%q", init)
		for _, f := range files {
			text, err := io.ReadAll(f)
			if err != nil {
				return err
			}
			fmt.Printf(" %s", text)
		}
		fmt.Println()
		return nil
	},
	// replace hands a pipe over, something else after it, and waits until nobody has the
	// pipe's end any more.
	"replace": func(_ context.Context, w *Worker, _ []string) error {
		r, p, err := os.Pipe()
		if err != nil {
			return err
		}
		if err := errors.Join(w.Keep([]byte("earlier"), p), p.Close(), w.Keep([]byte("later"))); err != nil {
			return err
		}
		_, err = io.ReadAll(r)
		return err
	},
	"print": func(_ context.Context, _ *Worker, args []string) error {
		_, err := fmt.Println(strings.Join(args, " "))
		return err
	},
	// group says whether a Ctrl-C in the supervisor's terminal comes here.
	"group": func(context.Context, *Worker, []string) error {
		_, err := fmt.Println("alone in its group:", unix.Getpgrp() == os.Getpid())
		return err
	},
	"wait": func(ctx context.Context, _ *Worker, _ []string) error { <-ctx.Done(); return nil },
	// orphan tells the test its process and waits until the test has killed the
	// supervisor.
	"orphan": func(ctx context.Context, w *Worker, _ []string) error {
		fmt.Println(os.Getpid())
		if _, err := io.ReadAll(os.Stdin); err != nil {
			return err
		}
		if err := w.Keep([]byte("init")); !errors.Is(err, unix.EPIPE) {
			return fmt.Errorf("keep: got %v, want EPIPE", err)
		}
		return ctx.Err()
	},
	"kill":  func(context.Context, *Worker, []string) error { return unix.Kill(os.Getpid(), unix.SIGKILL) },
	"panic": func(context.Context, *Worker, []string) error { panic("as told") },
	"exit": func(_ context.Context, _ *Worker, args []string) error {
		code, err := strconv.Atoi(args[0])
		if err == nil {
			os.Exit(code)
		}
		return err
	},
}

// note makes a file in memory, of which the first byte is read.
func note(text string) (*os.File, error) {
	fd, err := unix.MemfdCreate("note", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "note")
	_, err = f.WriteString(text)
	_, seekErr := f.Seek(1, io.SeekStart)
	return f, errors.Join(err, seekErr)
}

// told is what came of Run.
type told struct {
	code int
	err  error
	out  string // what the workers said
	runs int
}

// run supervises workers that do what scripts say, one after the other; further ones do
// what the last says. Before each but the first, between is called, if set. ctx ends
// when a worker says "end".
func run(t *testing.T, ctx context.Context, between func(), scripts ...string) (got told) {
	t.Helper()
	ctx, end := context.WithCancel(ctx)
	defer end()
	var out strings.Builder
	before := descriptors(t)
	got.code, got.err = Run(ctx, Config{
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Command: func() *exec.Cmd {
			if got.runs > 0 && between != nil {
				between()
			}
			cmd := self(workerEnv, scripts[min(got.runs, len(scripts)-1)])
			cmd.Stdin, cmd.Stderr = nil, t.Output()
			cmd.Stdout = writer(func(p []byte) {
				out.Write(p)
				if strings.HasSuffix(out.String(), "end\n") {
					end()
				}
			})
			got.runs++
			return cmd
		},
	})
	got.out = out.String()
	if after := descriptors(t); !slices.Equal(before, after) {
		t.Errorf("descriptors: got %q, want %q as before", after, before)
	}
	return got
}

type writer func(p []byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }

// descriptors are what this process has open, without what the runtime polls with,
// which it opens when it needs it.
func descriptors(t *testing.T) (open []string) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, fd := range list {
		target, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err == nil && !strings.HasPrefix(target, "anon_inode:[event") { // not that of ReadDir
			open = append(open, fd.Name()+" "+target)
		}
	}
	return open
}

func TestRun(t *testing.T) {
	long := strings.Repeat("i", maxMessage-1)
	for name, c := range map[string]struct {
		scripts   []string
		cancelled bool // before it begins

		code int
		err  string // part of it
		out  string
	}{
		"exit 0":                 {scripts: []string{"exit 0"}},
		"exit code":              {scripts: []string{"group; exit 7"}, code: 7, out: "alone in its group: true\n"},
		"exit after Keep":        {scripts: []string{"keep one a; exit 3"}, code: 3},
		"nothing kept at first":  {scripts: []string{"show; exit 0"}, out: "\"\"\n"},
		"killed":                 {scripts: []string{"keep one a b; kill", "show; exit 4"}, code: 4, out: "\"one\\x00\" a b\n"},
		"panic":                  {scripts: []string{"keep one a; panic", "show; exit 0"}, out: "\"one\\x00\" a\n"},
		"no files":               {scripts: []string{"keep one; kill", "show; exit 0"}, out: "\"one\\x00\"\n"},
		"the most that fits":     {scripts: []string{"keep " + long + " a b c d; kill", "show; exit 0"}, out: fmt.Sprintf("%q a b c d\n", long+"\x00")},
		"killed twice":           {scripts: []string{"keep one a b; kill", "panic", "show; exit 0"}, out: "\"one\\x00\" a b\n"},
		"the later Keep counts":  {scripts: []string{"keep one a; keep two b c; kill", "show; exit 0"}, out: "\"two\\x00\" b c\n"},
		"that of another worker": {scripts: []string{"keep one a b; kill", "keep two c; kill", "show; exit 0"}, out: "\"two\\x00\" c\n"},
		"the earlier is closed":  {scripts: []string{"replace; kill", "show; exit 0"}, out: "\"later\"\n"},

		"killed before Keep": {scripts: []string{"kill"}, code: 1, err: "the process that serves the mount: signal: killed"},
		"panic before Keep":  {scripts: []string{"panic"}, code: 2},

		"told to end":       {scripts: []string{"print end; wait; exit 5"}, code: 5, out: "end\n"},
		"told at the start": {scripts: []string{"wait; exit 5"}, cancelled: true, code: 5},
		"killed at the end": {scripts: []string{"keep one a; wait; kill", "show; wait; exit 6"}, cancelled: true, code: 6, out: "\"one\\x00\" a\n"},
		"told after Keep":   {scripts: []string{"keep one; print end; wait; print done; exit 0"}, out: "end\ndone\n"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.cancelled {
				cancel()
			}
			got := run(t, ctx, nil, c.scripts...)
			if got.code != c.code || (got.err != nil) != (c.err != "") || got.err != nil && !strings.Contains(got.err.Error(), c.err) {
				t.Errorf("got exit code %d, error %v, want %d, %q", got.code, got.err, c.code, c.err)
			}
			if got.out != c.out || got.runs != len(c.scripts) {
				t.Errorf("got %d workers that said %q, want %d, %q", got.runs, got.out, len(c.scripts), c.out)
			}
		})
	}
}

// In a bubble the clock stands still while processes run.
func TestDeaths(t *testing.T) {
	t.Run("at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			got := run(t, t.Context(), nil, "keep one a; kill", "kill")
			if !errors.Is(got.err, ErrGaveUp) || !strings.Contains(got.err.Error(), "signal: killed") || got.code != 1 {
				t.Errorf("got exit code %d, error %v, want 1, ErrGaveUp with the cause", got.code, got.err)
			}
			if got.runs != maxDeaths {
				t.Errorf("got %d workers, want %d", got.runs, maxDeaths)
			}
		})
	})
	t.Run("now and then", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			scripts := append([]string{"keep one a; kill"}, slices.Repeat([]string{"kill"}, 2*maxDeaths)...)
			scripts = append(scripts, "show; exit 0")
			got := run(t, t.Context(), func() { time.Sleep(deathsTime / (maxDeaths - 1)) }, scripts...)
			if got.err != nil || got.code != 0 || got.runs != len(scripts) || got.out != "\"one\\x00\" a\n" {
				t.Errorf("got %+v, want %d workers, the last with what the first handed over", got, len(scripts))
			}
		})
	})
}

func TestNothingToStart(t *testing.T) {
	before := descriptors(t)
	code, err := Run(t.Context(), Config{Command: func() *exec.Cmd { return &exec.Cmd{Path: "/missing"} }})
	if code != 1 || !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "start /missing") {
		t.Errorf("got exit code %d, error %v, want 1, ErrNotExist of /missing", code, err)
	}
	if after := descriptors(t); !slices.Equal(before, after) {
		t.Errorf("descriptors: got %q, want %q as before", after, before)
	}
}

func TestWorkerOutlivesTheSupervisor(t *testing.T) {
	// The worker becomes this process's child when the supervisor is dead.
	must(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
	defer func() { must(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)) }()
	stdin, let, err := os.Pipe()
	must(t, err)
	defer let.Close()
	said, stdout, err := os.Pipe()
	must(t, err)
	defer said.Close()
	cmd := self(supervisorEnv, "keep one a; orphan; exit 8")
	cmd.Stdin, cmd.Stdout = stdin, stdout
	must(t, errors.Join(cmd.Start(), stdin.Close(), stdout.Close()))
	var worker int
	_, err = fmt.Fscanln(said, &worker)
	must(t, errors.Join(err, cmd.Process.Kill()))
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Fatalf("the supervisor: got %v, want that it was killed", err)
	}
	must(t, let.Close())
	var status unix.WaitStatus
	_, err = unix.Wait4(worker, &status, 0, nil)
	if err != nil || status.ExitStatus() != 8 {
		t.Errorf("the worker: got exit status %d, error %v, want 8", status.ExitStatus(), err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What a worker that died had handed over counts, though it left a message unread.
func TestLastMessageOfTheDead(t *testing.T) {
	ours, theirs, err := socketpair()
	must(t, err)
	defer ours.Close()
	must(t, send(theirs, []byte("init")))
	must(t, send(ours, []byte(endMessage)))
	must(t, theirs.Close())
	if data, _, err := receive(ours); string(data) != "init" || err != nil {
		t.Errorf("got %q, %v, want the message", data, err)
	}
	if _, _, err := receive(ours); err == nil {
		t.Error("after it: no error")
	}
}
