package identity

import (
	"encoding/hex"
	"strings"
)

// valiseLabels reads our own labels.
func valiseLabels(e Evidence) (claim, error) {
	return claim{
		user:      e.Labels["valise.user"],
		userID:    e.Labels["valise.user_id"],
		workspace: e.Labels["valise.workspace"],
		groups:    list(e.Labels["valise.groups"]),
		profile:   e.Labels["valise.profile"],
	}, nil
}

// kasm reads a Kasm Workspaces session: its label kasm.kasmid holds the session's
// id, the user stands in the environment.
func kasm(e Evidence) (claim, error) {
	user, err := e.EnvValue("KASM_USER")
	if err != nil {
		return claim{}, err
	}
	id, err := e.EnvValue("KASM_USER_ID")
	if err != nil {
		return claim{}, err
	}
	if user == "" {
		return claim{}, nil
	}
	return claim{user: user, userID: id}, nil
}

// coder reads the labels of Coder's Docker templates. A workspace's name there is
// its owner's choice, so it is only a hint.
func coder(e Evidence) (claim, error) {
	return claim{
		user:   e.Labels["coder.owner"],
		userID: e.Labels["coder.owner_id"],
		kind:   e.Labels["coder.workspace_name"],
	}, nil
}

// jupyterhub reads what DockerSpawner sets: the environment or, where that is
// missing, the container's name, which is "jupyter-" and the escaped user.
func jupyterhub(e Evidence) (claim, error) {
	user, err := e.EnvValue("JUPYTERHUB_USER")
	if err != nil {
		return claim{}, err
	}
	if user == "" {
		if escaped, ok := strings.CutPrefix(strings.TrimPrefix(e.ContainerName, "/"), "jupyter-"); ok {
			user = unescape(escaped)
		}
	}
	return claim{user: user}, nil
}

// unescape undoes DockerSpawner's escaping: "-" and two lower-case hexadecimal digits
// stand for a byte. A named server follows behind "--" and is cut off. What is not
// escaped so is no answer.
func unescape(s string) string {
	s, _, _ = strings.Cut(s, "--")
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '-' {
			b.WriteByte(s[i])
			continue
		}
		if i+3 > len(s) {
			return ""
		}
		raw, err := hex.DecodeString(s[i+1 : i+3])
		if err != nil {
			return ""
		}
		b.Write(raw)
		i += 2
	}
	return b.String()
}

// shinyproxy reads the labels ShinyProxy sets on its containers.
func shinyproxy(e Evidence) (claim, error) {
	return claim{
		user:   e.Labels["openanalytics.eu/sp-user-id"],
		groups: list(e.Labels["openanalytics.eu/sp-user-groups"]),
		kind:   e.Labels["openanalytics.eu/sp-spec-id"],
	}, nil
}

// containerssh reads the label of ContainerSSH's Docker backend.
func containerssh(e Evidence) (claim, error) {
	return claim{user: e.Labels["containerssh_username"]}, nil
}
