package identity

import (
	"os"
	"os/user"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestResolve(t *testing.T) {
	every := []string{"valise", "kasm", "coder", "jupyterhub", "shinyproxy", "containerssh"}
	tests := []struct {
		name     string
		presets  []string
		evidence Evidence
		norm     Normalization
		want     Caller
		wantErr  string
	}{
		{"nothing", every, Evidence{}, Normalization{}, Caller{}, ""},
		{
			"own labels", every,
			Evidence{Labels: map[string]string{
				"valise.user": "alice", "valise.user_id": "7", "valise.workspace": "desktop",
				"valise.groups": "ops, eng,ops", "valise.profile": "reset",
			}},
			Normalization{},
			Caller{User: "alice", UserID: "7", Workspace: "desktop", Groups: []string{"eng", "ops"}, Profile: "reset"}, "",
		},
		{
			"kasm", every,
			Evidence{Labels: map[string]string{"kasm.kasmid": "abc"}, Env: []string{"KASM_USER=user@kasm.local", "KASM_USER_ID=44f"}},
			Normalization{}, Caller{User: "user@kasm.local", UserID: "44f"}, "",
		},
		{
			"coder", every,
			Evidence{Labels: map[string]string{"coder.owner": "alice", "coder.owner_id": "9", "coder.workspace_name": "dev"}},
			Normalization{}, Caller{User: "alice", UserID: "9", Kind: "dev"}, "",
		},
		{"jupyterhub by environment", every, Evidence{Env: []string{"JUPYTERHUB_USER=alice"}}, Normalization{}, Caller{User: "alice"}, ""},
		{"jupyterhub by name", every, Evidence{ContainerName: "/jupyter-alice-2db-40corp--lab"}, Normalization{}, Caller{User: "alice-b@corp"}, ""},
		{"no escaped name", every, Evidence{ContainerName: "jupyter-a-zz"}, Normalization{}, Caller{}, ""},
		{
			"shinyproxy", every,
			Evidence{Labels: map[string]string{
				"openanalytics.eu/sp-user-id": "jack", "openanalytics.eu/sp-user-groups": "SCIENTISTS,USERS",
				"openanalytics.eu/sp-spec-id": "01_hello",
			}},
			Normalization{}, Caller{User: "jack", Groups: []string{"SCIENTISTS", "USERS"}, Kind: "01_hello"}, "",
		},
		{"containerssh", every, Evidence{Labels: map[string]string{"containerssh_username": "eve"}}, Normalization{}, Caller{User: "eve"}, ""},
		{
			"agreement after normalisation", every,
			Evidence{Labels: map[string]string{"valise.user": "Alice@corp"}, Env: []string{"KASM_USER=alice"}},
			Normalization{Lowercase: true, StripDomain: true}, Caller{User: "alice"}, "",
		},
		{
			"disagreement", every,
			Evidence{Labels: map[string]string{"valise.user": "alice"}, Env: []string{"KASM_USER=bob"}},
			Normalization{}, Caller{}, `identity valise says the user is "alice", kasm says "bob"`,
		},
		{"twice", every, Evidence{Env: []string{"KASM_USER=a", "KASM_USER=a"}}, Normalization{}, Caller{}, "sets KASM_USER twice"},
		{"climbing", every, Evidence{Labels: map[string]string{"valise.user": ".."}}, Normalization{}, Caller{}, `user name ".."`},
		{"slash", every, Evidence{Labels: map[string]string{"valise.user": "a/b"}}, Normalization{}, Caller{}, "slash"},
		{"not believed", []string{"kasm"}, Evidence{Labels: map[string]string{"valise.user": "root"}}, Normalization{}, Caller{}, ""},
		{"socket", []string{"socket"}, Evidence{Socket: &SocketUser{User: "bob", Groups: []string{"g"}}}, Normalization{}, Caller{User: "bob", Groups: []string{"g"}}, ""},
		{"no socket user", []string{"socket"}, Evidence{}, Normalization{}, Caller{}, "names no user"},
		{"certificate", []string{"tls"}, Evidence{TLS: &Certificate{CommonName: "carol", OrganizationalUnits: []string{"ops"}}}, Normalization{}, Caller{User: "carol", Groups: []string{"ops"}}, ""},
		{"no certificate", []string{"tls"}, Evidence{}, Normalization{}, Caller{}, "no verified certificate"},
		{"foreign peer", []string{"peercred"}, Evidence{Peer: &Peer{UID: 0, Foreign: "user"}}, Normalization{}, Caller{}, "another user namespace"},
		{"no peer", []string{"peercred"}, Evidence{}, Normalization{}, Caller{}, "no peer credentials"},
		{"unknown preset", []string{"ldap"}, Evidence{}, Normalization{}, Caller{}, `unknown identity preset "ldap"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Resolve(tt.presets, tt.evidence, tt.norm)
			checkErr(t, err, tt.wantErr)
			if len(got.Groups) == 0 {
				got.Groups = nil
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("caller (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPeerIsTheUserOfItsUID(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(me.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Resolve([]string{"peercred"}, Evidence{Peer: &Peer{UID: uint32(uid)}}, Normalization{})
	if err != nil {
		t.Fatal(err)
	}
	if string(got.User) != me.Username || got.UserID != me.Uid || len(got.Groups) == 0 {
		t.Errorf("got %+v, want user %s of pid %d with groups", got, me.Username, os.Getpid())
	}
}

func TestNormalize(t *testing.T) {
	both := Normalization{Lowercase: true, StripDomain: true}
	for in, want := range map[Username]Username{"Alice": "alice", "alice@corp": "alice", "A@B@c": "a", "@corp": "@corp"} {
		if got := both.Apply(in); got != want || both.Apply(got) != want {
			t.Errorf("Apply(%q): got %q, want %q", in, got, want)
		}
	}
	if _, err := ParseNormalization([]string{"upper"}); err == nil {
		t.Error(`ParseNormalization takes "upper"`)
	}
}
