package plugin

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"valise/beneath"
	"valise/fleet"
	"valise/identity"
	"valise/mapping"
	"valise/profile"
	"valise/volume"
)

// place is where a volume's files are and how they have to be there.
type place struct {
	remote *fleet.Settings // of a profile on S3, which is below no root

	root     beneath.Root
	rel      string // below root, "." is the root itself
	readOnly bool
	timeout  time.Duration

	// A profile's.
	workspace *profile.Workspace
	user      identity.Username
	userID    string
	limit     int64   // bytes, 0 = none
	points    []point // mount points of mappings inside the home

	// A mapping's.
	mapping *mapping.Mapping
}

// point is a mount point that a mapping needs inside the home.
type point struct {
	rel    string // below the home
	source place
	file   bool // the source is no directory
}

// path is the directory's as the operator sees it, or the URL of a profile on S3.
func (p place) path() string {
	if p.remote != nil {
		return p.remote.URL
	}
	return path.Join(p.root.Path, p.rel)
}

func (p place) backing() backing {
	return backing{Path: p.path(), ReadOnly: p.readOnly, Remote: p.remote != nil}
}

// lane is the directory whose users share the threads that may hang: all paths of one
// mapping, or of one workspace's profiles. A root is too wide, for below /mnt lie many
// file systems, and one that hangs must not stop the others.
func (p place) lane() string {
	switch {
	case p.remote != nil:
		return p.remote.URL
	case p.workspace != nil:
		return p.workspace.Path.Fixed()
	case p.mapping != nil:
		return p.mapping.Source.Fixed()
	default:
		return p.root.Path
	}
}

// measured reports whether the driver watches the disk usage of the place: a profile's
// it does, a shared folder's only where it has a limit. Of a profile on S3 the process
// that serves it knows the size.
func (p place) measured() bool { return p.remote == nil && (p.workspace != nil || p.limit > 0) }

// String names the place in messages.
func (p place) String() string {
	switch {
	case p.workspace != nil:
		return fmt.Sprintf("profile of %q in workspace %q", p.user, p.workspace.Name)
	case p.mapping != nil:
		return p.mapping.String()
	default:
		return fmt.Sprintf("directory %q", p.path())
	}
}

// profileTimeout bounds the making of a profile, skeleton included.
const profileTimeout = 60 * time.Second

// resolve finds the place of a volume by the rules in force.
func (d *Driver) resolve(s volume.Spec) (place, error) {
	r := d.rules.Load()
	if r.err != nil {
		return place{}, fmt.Errorf("valise has no valid configuration: %w", r.err)
	}
	switch s.Kind() {
	case volume.Path:
		p, err := r.locate(s.Path)
		p.limit, p.timeout = s.SizeLimit, profileTimeout
		return p, err
	case volume.Mapping:
		m, err := r.Policy.Find(mapping.Owner{Workspace: s.Workspace, Group: s.Group}, s.Mapping)
		if err != nil {
			return place{}, err
		}
		return r.mapping(m, identity.Tokens{Username: identity.Username(s.Username), UserID: s.UserID, ImageID: s.ImageID})
	default:
		return r.profile(s)
	}
}

func (r *ruling) profile(s volume.Spec) (place, error) {
	w, err := r.Policy.Named(s.Workspace)
	if err != nil {
		return place{}, err
	}
	if !w.HasProfile() {
		return place{}, fmt.Errorf("workspace %q has no profile path", w.Name)
	}
	tokens := r.Policy.Tokens(w, identity.Username(s.Username), s.UserID)
	if s.ImageID != "" {
		tokens.ImageID = s.ImageID
	}
	var p place
	if w.Storage != nil {
		p, err = r.onS3(w, tokens, s)
	} else {
		p, err = r.inDirectory(w, tokens)
	}
	if err != nil {
		return place{}, err
	}
	p.workspace, p.user, p.timeout = w, tokens.Username, profileTimeout
	if s.SizeLimit > 0 {
		p.limit = s.SizeLimit
	}
	p.points, err = r.points(w, s.Groups, tokens)
	return p, err
}

func (r *ruling) inDirectory(w *profile.Workspace, tokens identity.Tokens) (place, error) {
	where, err := w.Path.Expand(tokens)
	if err != nil {
		return place{}, err
	}
	p, err := r.locate(where)
	p.limit = w.SizeLimit
	return p, err
}

// points finds the mappings whose targets lie inside the home.
func (r *ruling) points(w *profile.Workspace, groups []string, tokens identity.Tokens) ([]point, error) {
	home, err := w.Home.Expand(tokens)
	if err != nil {
		return nil, fmt.Errorf("home: %w", err)
	}
	placed, _, err := r.Policy.Select(w, r.Policy.GroupsOf(tokens.Username, groups), tokens, home)
	if err != nil {
		return nil, err
	}
	var points []point
	for _, m := range placed {
		rel, inside := strings.CutPrefix(m.Target, home+"/")
		if !inside {
			continue
		}
		source, err := r.mapping(m.Mapping, m.Tokens)
		if err != nil {
			return nil, err
		}
		points = append(points, point{rel: rel, source: source})
	}
	return points, nil
}

func (r *ruling) mapping(m *mapping.Mapping, tokens identity.Tokens) (place, error) {
	where, err := m.Source.Expand(tokens)
	if err != nil {
		return place{}, fmt.Errorf("%s: %w", m, err)
	}
	p, err := r.locate(where)
	if err != nil {
		return place{}, fmt.Errorf("%s: %w", m, err)
	}
	p.mapping, p.readOnly, p.timeout = m, m.ReadOnly, m.Timeout
	return p, nil
}

// locate finds the innermost root that a path is below.
func (r *ruling) locate(where string) (place, error) {
	best := place{}
	for _, root := range r.Roots {
		rel, ok := ".", where == root.Path
		if !ok {
			rel, ok = strings.CutPrefix(where, root.Path+"/")
		}
		if ok && len(root.Path) > len(best.root.Path) {
			best = place{root: root, rel: rel}
		}
	}
	if best.root.Path == "" {
		return place{}, fmt.Errorf("%q is not below any of the configured roots", where)
	}
	if slices.ContainsFunc(strings.Split(best.rel, "/"), func(c string) bool { return strings.HasPrefix(c, identity.ReservedPrefix) }) {
		return place{}, fmt.Errorf("%q: names that begin with %s are kept for valise's own files", where, identity.ReservedPrefix)
	}
	return best, nil
}
