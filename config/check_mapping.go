package config

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"valise/mapping"
	"valise/profile"
)

// mappings checks an owner's mappings: those of the table, then those of the file.
func (c *checker) mappings(key string, o mapping.Owner, tables map[string]mappingTable, file opt[string]) {
	var entries []mapping.Entry
	at := map[string]string{} // source → key
	for _, source := range slices.Sorted(maps.Keys(tables)) {
		entries = append(entries, mapping.Entry{Source: source, Settings: tables[source].settings()})
		at[source] = dotted(key+".volume_mappings", source)
	}
	if file.value != "" {
		fileKey := key + ".volume_mappings_file"
		listed, err := c.mappingFile(file.value)
		if err != nil {
			c.fault(fileKey, "%s", err)
		}
		for _, e := range listed {
			if _, twice := at[e.Source]; twice {
				c.fault(fileKey, "%q stands in volume_mappings already", e.Source)
				continue
			}
			at[e.Source] = fileKey
			entries = append(entries, e)
		}
	}
	targets := map[string]string{}
	for _, e := range entries {
		m, err := mapping.New(o, e.Source, e.Settings, defaultID, defaultID)
		if err != nil && at[e.Source] == key+".volume_mappings_file" {
			err = fmt.Errorf("%q: %w", e.Source, err)
			c.fault(at[e.Source], "%s", err)
			continue
		}
		c.errs(at[e.Source], err)
		c.needsRoot(at[e.Source], m.Source)
		if first, ok := targets[m.Bind.String()]; ok && err == nil {
			c.warn(at[e.Source], "it is never mounted: %q has the same target %s", first, m.Bind)
		}
		targets[m.Bind.String()] = e.Source
		c.cfg.Policy.Mappings = append(c.cfg.Policy.Mappings, m)
	}
}

func (c *checker) mappingFile(path string) ([]mapping.Entry, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(c.path), path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	entries, err := mapping.ParseFile(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return entries, nil
}

// warnPaths warns of workspaces that share one profile path.
func (c *checker) warnPaths(p *mapping.Policy) {
	first := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(p.Workspaces)) {
		w := p.Workspaces[name]
		path := w.Path.String()
		if w.Storage != nil {
			path = w.Storage.String()
		}
		if path == "" {
			continue
		}
		path = strings.ReplaceAll(path, "{image_id}", w.ImageID)
		if other, ok := first[path]; ok {
			c.warn(dotted("workspaces", name)+".profile", "workspace %q has the same profile path; their users' homes are one", other)
			continue
		}
		first[path] = name
	}
}

// warnGroups warns of groups whose settings disagree without an order between them.
func (c *checker) warnGroups(p *mapping.Policy) {
	byPriority := map[int]*profile.Group{}
	for _, name := range slices.Sorted(maps.Keys(p.Groups)) {
		g := p.Groups[name]
		if g.Allow == nil {
			continue
		}
		if other, ok := byPriority[g.Priority]; ok && *other.Allow != *g.Allow {
			c.warn(dotted("groups", name)+".priority", "group %q has the same priority and another allow_persistent_profile; for members of both, the first by name wins", other.Name)
			continue
		}
		byPriority[g.Priority] = g
	}
}
