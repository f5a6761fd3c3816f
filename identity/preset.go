package identity

import (
	"fmt"
	"slices"
	"strings"
)

// Evidence is everything a request and its connection say of the caller.
type Evidence struct {
	Labels        map[string]string
	Env           []string // NAME=value, as in the create
	ContainerName string

	Peer   *Peer        // the Unix peer, where the socket has one
	Socket *SocketUser  // the user a listener is handed to
	TLS    *Certificate // the verified client certificate
}

// SocketUser is the user that a listener was made for.
type SocketUser struct {
	User   string
	Groups []string
}

// Certificate is the subject of a verified client certificate: CN is the user, OU
// are the groups.
type Certificate struct {
	CommonName          string
	OrganizationalUnits []string
}

// claim is one preset's answer; User "" is no answer about the user.
type claim struct {
	user, userID, workspace, kind, profile string
	groups                                 []string
}

type preset func(Evidence) (claim, error)

// presets are the names that a listener's identity list may hold.
func presets() map[string]preset {
	return map[string]preset{
		"valise":       valiseLabels,
		"kasm":         kasm,
		"coder":        coder,
		"jupyterhub":   jupyterhub,
		"shinyproxy":   shinyproxy,
		"containerssh": containerssh,
		"peercred":     peercred,
		"socket":       socketUser,
		"tls":          certificate,
	}
}

// Presets lists the known presets, sorted.
func Presets() []string {
	var names []string
	for name := range presets() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// fact is one thing that several presets may say.
type fact struct{ what, value, by string }

// Resolve asks the named presets in order and joins their answers. They must agree:
// two that give one fact two values are refused by name. Groups are united.
func Resolve(names []string, e Evidence, n Normalization) (Caller, error) {
	known := presets()
	facts := map[string]fact{}
	say := func(by, what, value string) error {
		if value == "" {
			return nil
		}
		if old, ok := facts[what]; ok && old.value != value {
			return fmt.Errorf("identity %s says the %s is %q, %s says %q; they must agree", old.by, what, old.value, by, value)
		}
		if _, ok := facts[what]; !ok {
			facts[what] = fact{what, value, by}
		}
		return nil
	}
	var groups []string
	for _, name := range names {
		ask, ok := known[name]
		if !ok {
			return Caller{}, fmt.Errorf("unknown identity preset %q", name)
		}
		c, err := ask(e)
		if err != nil {
			return Caller{}, fmt.Errorf("identity %s: %w", name, err)
		}
		user := c.user
		if user != "" {
			u, err := ParseUsername(user)
			if err != nil {
				return Caller{}, fmt.Errorf("identity %s: %w", name, err)
			}
			user = string(n.Apply(u))
		}
		for _, f := range []fact{
			{"user", user, name}, {"user id", c.userID, name}, {"workspace", c.workspace, name},
			{"kind of workspace", c.kind, name}, {"profile mode", c.profile, name},
		} {
			if err := say(f.by, f.what, f.value); err != nil {
				return Caller{}, err
			}
		}
		groups = append(groups, c.groups...)
	}
	return Caller{
		User: Username(facts["user"].value), UserID: facts["user id"].value, Groups: sortedSet(groups),
		Workspace: facts["workspace"].value, Kind: facts["kind of workspace"].value, Profile: facts["profile mode"].value,
	}, nil
}

// EnvValue returns the one value of a variable, "" where it is not set; a variable given twice is refused,
// because programs differ in which of the two they believe.
func (e Evidence) EnvValue(name string) (string, error) {
	value, seen := "", false
	for _, kv := range e.Env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			if seen {
				return "", fmt.Errorf("the environment sets %s twice", name)
			}
			value, seen = v, true
		}
	}
	return value, nil
}

func list(s string) []string {
	var out []string
	for _, f := range strings.Split(s, ",") {
		if f = strings.TrimSpace(f); f != "" {
			out = append(out, f)
		}
	}
	return out
}
