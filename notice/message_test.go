package notice

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestTexts(t *testing.T) {
	const gb, gib = 1000 * 1000 * 1000, 1 << 30
	for _, c := range []struct {
		n              notice
		title, message string
	}{
		{notice{status: status{Kind: "profile", Usage: 186 * gb / 100, Limit: 2 * gb}, now: near},
			"Home almost full", "Your home is 93 % full (1.86 GB of 2 GB). Delete files you no longer need."},
		{notice{status: status{Kind: "profile", Usage: 186 * gib / 100, Limit: 2 * gib}, now: near},
			"Home almost full", "Your home is 92 % full (1.86 GB of 2 GB). Delete files you no longer need."},
		{notice{status: status{Kind: "profile", Usage: 21 * gb / 10, Limit: 2 * gb}, now: unsaved},
			"Changes are not saved", "Your home is larger than its limit (2.1 GB of 2 GB): changes are not saved until you delete files. Nothing is lost as long as you do."},
		{notice{status: status{Kind: "profile", Usage: 19 * gb / 10, Limit: 2 * gb}, now: unsaved},
			"Changes are not saved", "Your home is larger than its limit: changes are not saved until you delete files. Nothing is lost as long as you do."},
		{notice{status: status{Kind: "profile", Usage: 20*gib + 1<<20, Limit: 20 * gib}, now: over},
			"Home over its limit", "Your home is over its limit (20.001 GB of 20 GB). Delete files you no longer need."},
		{notice{status: status{Kind: "path", Usage: 1010 << 20, Limit: 1 * gib}, now: near, target: "/data"},
			"Directory almost full", "The directory /data is 98 % full (1010 MB of 1 GB). Delete files you no longer need."},
		{notice{status: status{Kind: "profile", Usage: 400 * 1000, Limit: 500 * 1000}, now: fits, before: near},
			"Home has room again", "Your home is no longer almost full (400 KB of 500 KB)."},
		{notice{status: status{Kind: "profile"}, now: fits, before: near},
			"Home has room again", "Your home is no longer almost full."},
		{notice{status: status{Kind: "profile"}, now: fits, before: unsaved},
			"Home fits its limit again", "Your home fits its limit again: changes are saved."},
		{notice{status: status{Kind: "profile", Saved: new(bool)}, now: fits, before: unsaved},
			"Home fits its limit again", "Your home fits its limit again."},
		{notice{now: fits, before: over, target: "/d"}, "Directory fits its limit again", "The directory /d fits its limit again."},
	} {
		if title, message := c.n.texts(); title != c.title || message != c.message {
			t.Errorf("%+v\ngot  %s: %s\nwant %s: %s", c.n, title, message, c.title, c.message)
		}
	}
}

// Values come as single arguments and as they are.
func TestExpand(t *testing.T) {
	n := notice{status: status{Kind: "profile", User: `{message}"; $(rm -rf ~) '`, Workspace: "-x --y", Usage: 1001, Limit: 1000}, now: over}
	got := expand([]string{"sh", "-c", `echo "${user}" {1}`, "sh", "{user}", "{workspace} {level}/{urgency}", "{usage} {limit} {percent}%"}, n.values())
	want := []string{"sh", "-c", `echo "${user}" {1}`, "sh", n.User, "-x --y over/critical", "1.001 KB 1 KB 100%"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	known := Placeholders()
	slices.Sort(known)
	if values := slices.Sorted(maps.Keys(n.values())); !slices.Equal(values, known) {
		t.Errorf("values %q, placeholders %q", values, known)
	}
}

func TestCheckCommand(t *testing.T) {
	for _, c := range []struct {
		command []string
		faults  []string
	}{
		{Default(), nil},
		{nil, nil},
		{[]string{"sh", "-c", `echo "$1" >> ${XDG_RUNTIME_DIR}/notices`, "sh", "{level}: {message}"}, nil},
		{[]string{"sh", "-c", `for t in /dev/pts/[0-9]*; do [ -w "$t" ] && printf "\n%s\n" "$1" >"$t"; done; true`, "sh", "{message}"}, nil},
		{[]string{"notify-send", "-c", "{level}", "-e", "{title}"}, nil},
		{[]string{"awk", `BEGIN { print ARGV[1] } { print }`, "{percent}"}, nil},
		{[]string{"x", "{titel}", "{user}{foo}"}, []string{"{titel}", "{foo}", "{percent}"}},
		{[]string{"{user}"}, []string{"program"}},
		{[]string{""}, []string{"empty"}},
		{[]string{"x", "a\x00b"}, []string{"NUL"}},
		{[]string{"sh", "-c", "echo {user}"}, []string{"script", `"$1"`}},
		{[]string{"/usr/bin/env", "A=1", "bash", "-lc", "echo '{message}'"}, []string{"script"}},
		{[]string{"su", "alice", "--command=echo {title}"}, []string{"script"}},
		{[]string{"python3", "-c", "print('{user}')"}, []string{"script"}},
	} {
		err := CheckCommand(c.command)
		if (err == nil) != (c.faults == nil) {
			t.Errorf("%q: %v", c.command, err)
		}
		for _, f := range c.faults {
			if !strings.Contains(fmt.Sprint(err), f) {
				t.Errorf("%q: got %v, want something with %s", c.command, err, f)
			}
		}
	}
}

func TestCheckWebhook(t *testing.T) {
	for address, ok := range map[string]bool{
		"https://hook.example.com/x?y=z": true, "http://[::1]:8080": true, "https://u:p@host/": true,
		"": false, "ftp://host": false, "https://": false, "https:host": false, "//host": false, "http://h/#f": false, "http://h\x7f/": false,
	} {
		if err := CheckWebhook(address); (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
}
