//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const twoWorkspaces = desktop + `
size_limit = "1g"
[workspaces.other]
profile = "@mnt/other/{user_id}"
[users]
alice = "42"
`

// profileLine is a line of `valise profile ls --json`.
type profileLine struct {
	Workspace, User, Path string
	UserID                string `json:"user_id"`
	Mounts                int
	Usage                 *int64 `json:"usage_bytes"`
	Limit                 int64  `json:"limit_bytes"`
}

func (r *rig) profiles(args ...string) []profileLine {
	r.t.Helper()
	var list []profileLine
	out := r.valise(append([]string{"profile"}, append(args, "--json")...)...).must()
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		r.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return list
}

func TestProfileCommands(t *testing.T) {
	bothForms(t, settings{tables: twoWorkspaces}, func(t *testing.T, r *rig) {
		equal(t, "ls of nothing", len(r.profiles("ls")), 0)
		session := r.session("alice")
		r.shell("bob", "echo bobs >notes").must()
		r.shell("alice", "echo other >notes", "--label", "valise.workspace=other").must()

		list := r.profiles("ls")
		var lines []string
		for _, p := range list {
			lines = append(lines, fmt.Sprint(p.Workspace, " ", p.User, " ", p.UserID, " ", strings.TrimPrefix(p.Path, r.seen), " ", p.Mounts, " ", p.Limit))
		}
		equal(t, "ls", strings.Join(lines, "\n"), "desktop alice  /desktop/alice 1 1073741824\ndesktop bob  /desktop/bob 0 1073741824\nother  42 /other/42 0 0")
		contains(t, "ls as a table", r.valise("profile", "ls").must(), "WORKSPACE", "1GiB", r.seen+"/desktop/bob")
		equal(t, "show", len(r.profiles("show", "alice")), 2)
		equal(t, "show in one workspace", r.profiles("show", "alice", "-w", "desktop")[0].Path, r.seen+"/desktop/alice")
		r.valise("profile", "show", "carol").refused("carol", "no such profile")
		r.valise("profile", "show", "../alice").refused("../alice")
		r.valise("profile", "show", "alice", "-w", "office").refused("office")
		eventually(t, "usage is measured", 20*time.Second, func() error {
			if r.profiles("show", "alice", "-w", "desktop")[0].Usage == nil {
				return fmt.Errorf("not yet")
			}
			return nil
		})

		r.valise("profile", "reset", "alice", "-w", "desktop").refused("is in use")
		r.valise("profile", "reset", "alice").refused("workspace")
		r.valise("profile", "purge", "alice", "--yes").refused("is in use")
		equal(t, "alice's other home after the refusal", names(t, r.path("other/42")), "notes")
		r.end(session)

		o := r.valise("profile", "purge", "bob").run()
		equal(t, "purge without --yes: exit code", o.code, 0)
		contains(t, "purge without --yes", o.stdout+o.stderr, "would purge "+r.seen+"/desktop/bob", "nothing was deleted")
		equal(t, "bob's home after it", names(t, r.path("desktop/bob")), "notes")

		contains(t, "reset", r.valise("profile", "reset", "alice", "-w", "other").must(), "reset "+r.seen+"/other/42")
		equal(t, "alice's other home after the reset", names(t, r.path("other/42")), "")
		contains(t, "purge", r.valise("profile", "purge", "bob", "--yes").must(), "purged "+r.seen+"/desktop/bob")
		absent(t, r.path("desktop/bob"))
		r.valise("profile", "purge", "bob", "--yes").refused("bob", "no such profile")
		equal(t, "purge of all", len(r.profiles("purge", "alice", "--yes")), 2)
		eventually(t, "nothing is left", 20*time.Second, func() error {
			return wantText(names(t, r.path("desktop"))+names(t, r.path("other")), "")
		})
		equal(t, "bob's next home", r.shell("bob", "ls -A").must(), "")
	})
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	dir := tempDir(t, theEngine(t))
	valise := func(args ...string) command { return command{t: t, name: binary(t), args: args} }
	good, bad := filepath.Join(dir, "good.toml"), filepath.Join(dir, "bad.toml")
	write(t, good, "[roots.\"/mnt\"]\n[workspaces.a]\nprofile = \"/mnt/x/{username}\"\n[workspaces.b]\nprofile = \"/mnt/x/{username}\"\n")
	write(t, bad, "log_levl = \"info\"\n[workspaces.a]\nprofile = \"/mnt/x\"\nuid = \"root\"\n")
	for _, c := range []struct {
		args   []string
		code   int
		stdout []string
		stderr []string
	}{
		{[]string{"config", "check", good}, 0, []string{"warning: " + good + ":5: workspaces.b.profile", `"a"`, "is good"}, nil},
		{[]string{"config", "check", bad}, 1, []string{bad + ":1: log_levl", `"log_level"`, bad + ":3: ", "{username}", bad + ":4: workspaces.a.uid", "whole number"}, []string{"faults"}},
		{[]string{"config", "check", bad, "--json"}, 1, []string{`"line": 4`, `"key": "workspaces.a.uid"`}, nil},
		{[]string{"config", "check", dir + "/none.toml"}, 1, nil, []string{"none.toml"}},
		{[]string{"config", "check"}, 2, nil, []string{"usage"}},
		{[]string{"profile", "ls", "--wrong"}, 2, nil, []string{"--wrong"}},
		{[]string{"plugin", "extra"}, 2, nil, []string{"extra"}},
		{[]string{"plugin", "--config", bad}, 1, nil, []string{"log_levl"}},
		{[]string{"proxy", "--config", bad}, 1, nil, []string{"log_levl"}},
		{[]string{"proxy", "--config", good}, 1, nil, []string{"proxy.listen"}},
		{[]string{"profile", "ls", "--admin", "unix://" + dir + "/none.sock"}, 1, nil, []string{"none.sock", "is it running?"}},
		{[]string{"version"}, 0, nil, nil},
	} {
		o := valise(c.args...).run()
		what := strings.Join(c.args, " ")
		equal(t, what+": exit code ("+o.stderr+")", o.code, c.code)
		contains(t, what+": stdout", o.stdout, c.stdout...)
		contains(t, what+": stderr", o.stderr, c.stderr...)
	}
	write(t, bad, "[[proxy.listen]]\naddress = \"unix://"+dir+"/p.sock\"\npolicy = \"confined\"\nidentity = [\"peercred\"]\n")
	valise("proxy", "--config", bad).refused("confined")
	absent(t, dir+"/p.sock")
}
