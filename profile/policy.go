package profile

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"valise/identity"
)

// Workspace is a kind of session: an image or a family of images, with one profile
// path for all its users.
type Workspace struct {
	Name    string
	Images  []ImagePattern
	ImageID string            // fills {image_id}; defaults to Name
	Home    identity.Template // the profile's target in the container
	Path    identity.Template // the directory where profiles lie; zero = there is none
	Storage *Storage          // profiles lie on S3; nil = they do not

	// Source is where profiles lay on S3 before they moved to Storage; from Path they
	// move as well. nil = nowhere.
	Source *Storage

	UID, GID  int         // owner of the profile
	Mode      fs.FileMode // permission bits of the profile's directory
	Skeleton  string      // directory copied into a new profile, "" = none
	SizeLimit int64       // bytes, 0 = no limit
}

// Validate reports every fault that makes the workspace unusable.
func (w *Workspace) Validate() error {
	var errs []error
	if !w.Path.IsZero() && !w.Path.PerUser() {
		errs = append(errs, fmt.Errorf("profile path %q needs {username} or {user_id}: without one all users would share one home", w.Path))
	}
	if w.Storage != nil {
		errs = append(errs, w.Storage.Validate())
	}
	if w.UID < 0 || w.GID < 0 {
		errs = append(errs, fmt.Errorf("uid %d and gid %d must not be negative", w.UID, w.GID))
	}
	return errors.Join(errs...)
}

// Group is a set of users with settings of its own.
type Group struct {
	Name     string
	Priority int                 // the lowest number wins
	Members  []identity.Username // beside those whom the platform names; "*" = everyone
	Allow    *bool               // allow_persistent_profile; nil = not set here
}

// Policy is what the operator decided about profiles.
type Policy struct {
	Workspaces map[string]*Workspace
	Groups     map[string]*Group
	UserIDs    map[identity.Username]string // for callers whose platform gives no id
	Normalize  identity.Normalization
}

// ErrUnknownWorkspace is a workspace that no configuration names.
var ErrUnknownWorkspace = errors.New("unknown workspace")

// Workspace finds the workspace of a container: the one the caller named outright,
// which must exist, else the one with the platform's word for it, else the one whose
// image pattern fits best. nil without an error is a container of no workspace.
func (p *Policy) Workspace(c identity.Caller, image string) (*Workspace, error) {
	if c.Workspace != "" {
		return p.Named(c.Workspace)
	}
	if w, ok := p.Workspaces[c.Kind]; ok {
		return w, nil
	}
	var best *Workspace
	var weight int
	for _, name := range sortedKeys(p.Workspaces) {
		w := p.Workspaces[name]
		for _, pattern := range w.Images {
			if !pattern.Match(image) || pattern.weight() < weight || (pattern.weight() == weight && best != nil) {
				continue
			}
			best, weight = w, pattern.weight()
		}
	}
	return best, nil
}

// Named returns the workspace of that name or ErrUnknownWorkspace with the names there are.
func (p *Policy) Named(name string) (*Workspace, error) {
	if w, ok := p.Workspaces[name]; ok {
		return w, nil
	}
	known := strings.Join(sortedKeys(p.Workspaces), ", ")
	if known == "" {
		known = "none is configured"
	}
	return nil, fmt.Errorf("%w %q (known: %s)", ErrUnknownWorkspace, name, known)
}

// GroupsOf returns the configured groups of a user, the one that wins first: those
// the platform named and those whose members the user is among.
func (p *Policy) GroupsOf(user identity.Username, named []string) []*Group {
	var out []*Group
	for _, name := range sortedKeys(p.Groups) {
		g := p.Groups[name]
		member := slices.ContainsFunc(g.Members, func(m identity.Username) bool {
			return m == "*" || p.Normalize.Same(m, user)
		})
		if member || slices.Contains(named, name) {
			out = append(out, g)
		}
	}
	slices.SortStableFunc(out, func(a, b *Group) int { return a.Priority - b.Priority })
	return out
}

// Tokens are what fills the templates of workspace w for a user.
func (p *Policy) Tokens(w *Workspace, user identity.Username, userID string) identity.Tokens {
	user = p.Normalize.Apply(user)
	if userID == "" {
		userID = p.UserIDs[user]
	}
	if userID == "" {
		userID = string(user)
	}
	t := identity.Tokens{Username: user, UserID: userID}
	if w != nil {
		t.ImageID = w.ImageID
	}
	return t
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
