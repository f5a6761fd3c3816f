//go:build integration

package integration

import (
	"strings"
	"testing"
)

const allPresets = `["valise", "kasm", "coder", "jupyterhub", "shinyproxy", "containerssh"]`

// presetListener is a listener that believes every platform.
const presetListener = `
[[proxy.listen]]
address  = "unix://@dir/all.sock"
policy   = "trusted"
identity = ` + allPresets + "\n"

// at is the proxy's listener of that name.
func (r *rig) at(socket string) string { return "unix://" + r.dir + "/" + socket }

// launch is a create as a platform would send it.
type launch struct {
	labels map[string]string
	env    []string
	name   string // of the container
}

// launched sends a launch to a listener.
func (r *rig) launched(listener string, l launch) answer {
	r.t.Helper()
	c := r.container(l.labels)
	c["Env"] = l.env
	path := "/v1.41/containers/create"
	if l.name != "" {
		path += "?name=" + l.name
	}
	a, err := request(r.at(listener), "POST", path, c)
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

// homeOf starts a created container and names the profile that is its home by writing
// a file into it.
func (r *rig) homeOf(id string) string {
	r.t.Helper()
	mark := unique("mark")
	r.direct("start", id).must()
	r.in(id, "touch "+mark)
	r.direct("rm", "-f", id).must()
	out := command{t: r.t, name: "find", args: []string{r.mnt, "-name", mark, "-printf", "%P"}}.must()
	return strings.TrimSuffix(out, "/"+mark)
}

func TestPresets(t *testing.T) {
	tables := desktop + `
[workspaces.dev]
profile = "@mnt/dev/{username}/{user_id}"
[users]
eve = "99"
`
	r := plainForm(t, settings{tables: tables, listen: presetListener})
	for _, c := range []struct {
		name string
		launch
		home string
	}{
		{"valise", launch{labels: map[string]string{"valise.user": "ann", "valise.user_id": "7", "valise.workspace": "dev"}}, "dev/ann/7"},
		{"kasm", launch{labels: map[string]string{"kasm.kasmid": "1f"}, env: []string{"KASM_USER=user@kasm.local", "KASM_USER_ID=abc"}}, "desktop/user@kasm.local"},
		{"coder", launch{labels: map[string]string{"coder.owner": "bea", "coder.owner_id": "5", "coder.workspace_name": "dev"}}, "dev/bea/5"},
		{"coder, a name of the owner's", launch{labels: map[string]string{"coder.owner": "bea", "coder.workspace_name": "my-box"}}, "desktop/bea"},
		{"jupyterhub", launch{env: []string{"JUPYTERHUB_USER=cal"}}, "desktop/cal"},
		{"jupyterhub, by name", launch{name: "jupyter-d-2de"}, "desktop/d-e"},
		{"shinyproxy", launch{labels: map[string]string{"openanalytics.eu/sp-user-id": "dan", "openanalytics.eu/sp-spec-id": "dev"}}, "dev/dan/dan"},
		{"containerssh", launch{labels: map[string]string{"containerssh_username": "eve"}}, "desktop/eve"},
		{"an id of [users]", launch{labels: map[string]string{"containerssh_username": "eve", "valise.workspace": "dev"}}, "dev/eve/99"},
		{"two that agree", launch{labels: map[string]string{"valise.user": "fay", "coder.owner": "fay"}}, "desktop/fay"},
	} {
		id, warnings := r.launched("all.sock", c.launch).created(t, c.name)
		equal(t, c.name+": warnings", len(warnings), 0)
		equal(t, c.name+": profile", r.homeOf(id), c.home)
	}
}

func TestIdentityRefused(t *testing.T) {
	r := plainForm(t, settings{listen: presetListener})
	for _, c := range []struct {
		name string
		launch
		words []string
	}{
		{"disagreement", launch{labels: map[string]string{"valise.user": "ann", "coder.owner": "bea"}}, []string{"valise", `"ann"`, "coder", `"bea"`, "agree"}},
		{"a variable twice", launch{env: []string{"KASM_USER=ann", "KASM_USER=bea"}}, []string{"KASM_USER", "twice"}},
		{"slash", launch{labels: map[string]string{"valise.user": "a/b"}}, []string{`"a/b"`, "slash"}},
		{"climbing", launch{labels: map[string]string{"valise.user": ".."}}, []string{`".."`}},
		{"climbing by kasm", launch{env: []string{"KASM_USER=../../etc"}}, []string{"../../etc"}},
		{"climbing by jupyterhub", launch{name: "jupyter--2e-2e"}, []string{""}},
		{"control character", launch{labels: map[string]string{"valise.user": "a\nb"}}, []string{"control character"}},
		{"too long", launch{labels: map[string]string{"valise.user": strings.Repeat("x", 256)}}, []string{"255"}},
		{"kept name", launch{labels: map[string]string{"valise.user": ".valise-trash-1"}}, []string{".valise-"}},
		{"unknown workspace", launch{labels: map[string]string{"valise.user": "ann", "valise.workspace": "office"}}, []string{`unknown workspace "office"`, "desktop"}},
		{"workspace without a user", launch{labels: map[string]string{"valise.workspace": "desktop"}}, []string{"who the user is"}},
		{"mode", launch{labels: map[string]string{"valise.user": "ann", "valise.profile": "new"}}, []string{`"new"`}},
	} {
		if c.name == "climbing by jupyterhub" {
			continue // "--" begins a named server: no answer, no user
		}
		r.launched("all.sock", c.launch).refused(t, c.name, 400, append(c.words, "valise: ")...)
	}
	equal(t, "containers", r.direct("ps", "-aq", "--filter", "label=rig="+r.name).must(), "")
	equal(t, "directories", names(t, r.mnt), "")
	equal(t, "volumes", len(r.volumes()), 0)
}

// A listener believes its own presets and nothing else.
func TestPresetsNotListed(t *testing.T) {
	r := plainForm(t, settings{})
	c := r.container(map[string]string{"coder.owner": "bea"})
	c["Env"] = []string{"KASM_USER=ann"}
	id, _ := r.api("POST", "/containers/create", c).created(t, "create")
	equal(t, "mounts", r.direct("inspect", "-f", "{{len .Mounts}}", id).must(), "0")
}

func TestNormalization(t *testing.T) {
	bothForms(t, settings{general: `normalize = ["lowercase", "strip-domain"]`}, func(t *testing.T, r *rig) {
		r.shell("Alice@corp", "echo mine >notes").must()
		equal(t, "alice's notes", r.shell("alice", "cat notes").must(), "mine")
		equal(t, "ALICE's notes", r.shell("ALICE", "cat notes").must(), "mine")
		equal(t, "profiles", names(t, r.path("desktop")), "alice")
	})
}

func TestUnmatched(t *testing.T) {
	other := "valise-other/" + unique("image")
	pass := plainForm(t, settings{})
	refuse := newRig(t, pass.engine, plain, settings{proxy: `unmatched = "refuse"`})
	pass.direct("tag", image, other).must()
	t.Cleanup(func() { pass.direct("rmi", other).must() })

	o := pass.create("run", "alice", "--rm", other, "sh", "-c", "ls -A; grep -c kasm-user /proc/mounts").run()
	equal(t, "another image", o.stdout, "0\n")
	equal(t, "nobody's container", pass.create("run", "", "--rm", image, "sh", "-c", "grep -c kasm-user /proc/mounts").run().stdout, "0\n")

	refuse.create("run", "alice", other).refused(other, "belongs to no workspace")
	refuse.create("run", "", image).refused(`"desktop"`, "who the user is")
	refuse.api("POST", "/containers/create", refuse.container(nil)).refused(t, "nobody's container", 403, "who the user is")
	equal(t, "alice's", refuse.shell("alice", "grep -c kasm-user /proc/mounts").must(), "1")
	equal(t, "another image as a workspace's", refuse.create("run", "alice", "--rm", "--label", "valise.workspace=desktop", other, "sh", "-c", "grep -c kasm-user /proc/mounts").must(), "1")
}
