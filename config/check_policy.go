package config

import (
	"maps"
	"slices"
	"strings"

	"valise/identity"
	"valise/mapping"
	"valise/profile"
)

// defaultID is the owner where nothing else is said, as documented.
const defaultID = 1000

// policy checks workspaces, groups and users.
func (c *checker) policy(f file) {
	p := &mapping.Policy{Policy: profile.Policy{
		Workspaces: map[string]*profile.Workspace{},
		Groups:     map[string]*profile.Group{},
		UserIDs:    map[identity.Username]string{},
	}}
	c.cfg.Policy = p
	var err error
	if p.Normalize, err = identity.ParseNormalization(f.Normalize.value); err != nil {
		c.fault("normalize", "%s", err)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Users)) {
		u, err := identity.ParseUsername(name)
		if err == nil {
			_, err = identity.ParseUsername(f.Users[name].value)
		}
		if err != nil {
			c.fault(dotted("users", name), "%s", err)
		}
		p.UserIDs[p.Normalize.Apply(u)] = f.Users[name].value
	}
	for _, name := range slices.Sorted(maps.Keys(f.Workspaces)) {
		t, key := f.Workspaces[name], dotted("workspaces", name)
		w := c.workspace(key, name, t)
		p.Workspaces[name] = w
		c.mappings(key, mapping.Owner{Workspace: name}, t.Mappings, t.MappingsFile)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Groups)) {
		t, key := f.Groups[name], dotted("groups", name)
		p.Groups[name] = c.group(key, name, t)
		c.mappings(key, mapping.Owner{Group: name}, t.Mappings, t.MappingsFile)
	}
	c.warnPaths(p)
	c.warnGroups(p)
}

func (c *checker) workspace(key, name string, t workspaceTable) *profile.Workspace {
	w := &profile.Workspace{
		Name: name, ImageID: t.ImageID.or(name),
		UID: int(t.UID.or(defaultID)), GID: int(t.GID.or(defaultID)),
		Mode:      c.fileMode(key+".mode", t.Mode, 0o700),
		Skeleton:  c.absolute(key+".skeleton", t.Skeleton, ""),
		SizeLimit: c.size(key+".size_limit", t.SizeLimit),
	}
	for _, image := range t.Images.value {
		pattern, err := profile.ParseImagePattern(image)
		if err != nil {
			c.fault(key+".images", "%s", err)
			continue
		}
		w.Images = append(w.Images, pattern)
	}
	w.Home = c.template(key+".home", t.Home.or("/home/kasm-user"))
	if w.Home.String() == "/" {
		c.fault(key+".home", "a profile at / would cover the whole container")
	}
	c.profilePlaces(key, w, t)
	if w.Skeleton != "" && !c.below(w.Skeleton) {
		c.fault(key+".skeleton", "%q is not below any of the roots; add [roots.%q]", w.Skeleton, w.Skeleton)
	}
	c.errs(key+".profile", w.Validate())
	return w
}

func (c *checker) group(key, name string, t groupTable) *profile.Group {
	g := &profile.Group{Name: name, Priority: int(t.Priority.value), Allow: t.Allow.pointerTo()}
	if strings.ContainsAny(name, ", ") || name == "" {
		c.fault(key, "a group's name holds neither comma nor space")
	}
	for _, m := range t.Members.value {
		u, err := identity.ParseUsername(m)
		if err != nil {
			c.fault(key+".members", "%s", err)
		}
		g.Members = append(g.Members, u)
	}
	return g
}

func (c *checker) template(key, s string) identity.Template {
	t, err := identity.ParseTemplate(s)
	if err != nil {
		c.fault(key, "%s", err)
	}
	return t
}

// needsRoot reports a path that no root allows.
func (c *checker) needsRoot(key string, t identity.Template) {
	if t.IsZero() {
		return
	}
	if !c.below(t.Fixed()) {
		c.fault(key, "%q is not below any of the roots; add [roots.%q] or a directory above it", t, t.Fixed())
	}
}

func (c *checker) rootPaths() []string {
	var paths []string
	for _, r := range c.cfg.Roots {
		paths = append(paths, r.Path)
	}
	return paths
}
