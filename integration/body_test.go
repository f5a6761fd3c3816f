//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// What the proxy can't read in one way only is refused, and nothing is made.
func TestBadBodies(t *testing.T) {
	r := plainForm(t, settings{})
	head := `{"Image":"` + image + `","Labels":{"rig":"` + r.name + `","valise.user":"alice"}`
	for _, c := range []struct {
		name, body string
		status     int
		words      []string
	}{
		{"over the cap", head + `,"Env":["X=` + strings.Repeat("x", 4<<20) + `"]}`, 413, []string{"larger than 4194304 bytes"}},
		{"empty", " ", 400, []string{"empty"}},
		{"no JSON", `{"Image":`, 400, []string{"no JSON"}},
		{"no object", `["Image"]`, 400, []string{"object"}},
		{"trailing data", head + `} {}`, 400, []string{"after top-level value"}},
		{"a member twice", head + `,"HostConfig":{},"HostConfig":{"Privileged":true}}`, 400, []string{`"HostConfig"`, "twice"}},
		{"twice when folded", head + `,"HostConfig":{},"hostconfig":{"Privileged":true}}`, 400, []string{"HostConfig", `"hostconfig"`, "twice"}},
		{"twice by a long s", head + `,"HostConfig":{},"Ho\u017ftConfig":{"Privileged":true}}`, 400, []string{"HostConfig", "twice"}},
		{"inner member twice", head + `,"HostConfig":{"Binds":[],"binds":["/:/host"]}}`, 400, []string{"HostConfig.Binds", "twice"}},
		{"label twice", `{"Image":"` + image + `","Labels":{"valise.user":"alice","valise.user":"bob"}}`, 400, []string{"valise.user", "twice"}},
		{"number for a string", `{"Image":7}`, 400, []string{"Image", "string", "number"}},
		{"string for an object", head + `,"HostConfig":"none"}`, 400, []string{"HostConfig", "object"}},
		{"string for a list", head + `,"HostConfig":{"Mounts":"all"}}`, 400, []string{"HostConfig.Mounts", "array"}},
		{"number for a label", `{"Image":"` + image + `","Labels":{"valise.user":7}}`, 400, []string{"Labels"}},
		{"too deep", head + `,"X":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, 400, []string{"deeper"}},
	} {
		for _, path := range []string{"/containers/create", "/v1.24/containers/create", "/v1.41//containers/./create", "/containers%2fcreate"} {
			r.api("POST", path, c.body).refused(t, c.name+" at "+path, c.status, c.words...)
		}
	}
	equal(t, "containers", r.direct("ps", "-aq", "--filter", "label=rig="+r.name).must(), "")
	equal(t, "volumes", len(r.volumes()), 0)
	equal(t, "directories", names(t, r.mnt), "")
}

// Every spelling of the path and of a member's name gets the profile.
func TestCreateOnEveryPath(t *testing.T) {
	r := plainForm(t, settings{})
	for _, path := range []string{"/containers/create", "/v1.24/containers/create", "/v1.30/containers/create", "/v1.41/containers/create?name=" + r.name} {
		id, _ := r.api("POST", path, r.container(map[string]string{"valise.user": "alice"})).created(t, path)
		r.volumeAt(id, home)
		r.direct("rm", id).must()
	}
	text := `{"image":%q,"labels":{"rig":%q,"valise.user":"alice"},"cmd":["true"],"Ho\u017ftConfig":{"networkmode":"none","memory":9007199254740993,"x-unknown":{"A":1,"a":2}}}`
	id, _ := r.api("POST", "/containers/create", fmt.Sprintf(text, image, r.name)).created(t, "folded names")
	r.volumeAt(id, home)
	equal(t, "a number that no float64 holds", r.direct("inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.NetworkMode}}", id).must(), "9007199254740993 none")
}

// Nothing else in a create is changed.
func TestCreateKeepsTheRest(t *testing.T) {
	r := plainForm(t, settings{})
	args := []string{"--hostname", "box", "-e", "A=b=c", "--memory", "64m", "--cap-drop", "ALL", "--read-only", "-w", "/tmp",
		"--tmpfs", "/scratch:size=1m", "--ulimit", "nofile=100:200", "--entrypoint", "sh", "--stop-signal", "INT", "-u", "1000:1000"}
	line := append([]string{"create", "--net", "none", "--label", "rig=" + r.name, "--label", "valise.user=alice"}, args...)
	line = append(line, image, "-c", "true")
	ids := [2]string{r.direct(line...).must(), r.docker(line...).must()}
	var got [2]map[string]any
	for i, id := range ids {
		if err := json.Unmarshal([]byte(r.direct("inspect", "-f", `{"Config": {{json .Config}}, "HostConfig": {{json .HostConfig}}}`, id).must()), &got[i]); err != nil {
			t.Fatal(err)
		}
	}
	mounts, _ := got[1]["HostConfig"].(map[string]any)["Mounts"].([]any)
	equal(t, "mounts put in", len(mounts), 1)
	delete(got[1]["HostConfig"].(map[string]any), "Mounts")
	want, _ := json.Marshal(got[0])
	have, _ := json.Marshal(got[1])
	equal(t, "the rest", string(have), string(want))
}

// Below API 1.24 a start could carry a whole HostConfig.
func TestStartWithBody(t *testing.T) {
	r := plainForm(t, settings{})
	id := r.create("create", "alice", image, "true").must()
	for _, path := range []string{"/containers/" + id + "/start", "/v1.23/containers/" + id + "/start", "//v1.41/containers/" + id + "/start"} {
		r.api("POST", path, body{"Binds": []string{"/:/host"}}).refused(t, path, 400, "start with a body")
	}
	equal(t, "status", r.direct("inspect", "-f", "{{.State.Status}}", id).must(), "created")
	equal(t, "a start without a body", r.api("POST", "/v1.41/containers/"+id+"/start", nil).status, 204)
}
