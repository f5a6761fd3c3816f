package proxy

import (
	"fmt"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
)

// inject puts volumes into a create, in the place of mounts of the caller's own at the
// same targets, or refuses those.
func inject(doc document, injections []injection, driver string, refuse bool) (warnings []string, err error) {
	ours := map[string]string{}
	for _, in := range injections {
		ours[path.Clean(in.target)] = in.what
	}
	host := doc.ensure("HostConfig")
	own := removeMounts(doc, host, ours)
	for _, o := range own {
		if refuse {
			return nil, faultf(http.StatusConflict, "valise: %s is at %s, where %s goes; leave it out", o.what, o.target, ours[o.target])
		}
		warnings = append(warnings, fmt.Sprintf("%s at %s is replaced by %s", o.what, o.target, ours[o.target]))
	}
	mounts := host.list("Mounts")
	for _, in := range injections {
		mounts = append(mounts, mount(in, driver))
	}
	if len(mounts) > 0 {
		host["Mounts"] = mounts
	}
	return warnings, nil
}

// mount is the injection as a member of HostConfig.Mounts. NoCopy keeps the image's
// content, and the owner of its directory, out of the profile.
func mount(in injection, driver string) map[string]any {
	options := map[string]any{}
	for k, v := range in.spec.Options() {
		options[k] = v
	}
	m := map[string]any{
		"Type": "volume", "Source": string(in.spec.Name(driver)), "Target": in.target,
		"VolumeOptions": map[string]any{
			"NoCopy":       true,
			"DriverConfig": map[string]any{"Name": driver, "Options": options},
		},
	}
	if in.readOnly {
		m["ReadOnly"] = true
	}
	return m
}

// ownMount is a mount of the caller's.
type ownMount struct{ what, target string }

// removeMounts takes the caller's mounts at our targets out of the four places a
// create can have them in.
func removeMounts(doc, host document, ours map[string]string) []ownMount {
	var removed []ownMount
	taken := func(target, what string) bool {
		target = path.Clean("/" + target)
		if _, ok := ours[target]; !ok {
			return false
		}
		removed = append(removed, ownMount{what, target})
		return true
	}
	filter(host, "Binds", func(v any) bool {
		bind, _ := v.(string)
		return taken(bindTarget(bind), fmt.Sprintf("the bind %q", bind))
	})
	filter(host, "Mounts", func(v any) bool {
		m := document(nil)
		if o, ok := v.(map[string]any); ok {
			m = o
		}
		return m != nil && taken(m.text("Target"), "the mount")
	})
	for _, at := range []struct {
		in         document
		name, what string
	}{{host, "Tmpfs", "the tmpfs"}, {doc, "Volumes", "the anonymous volume"}} {
		targets := at.in.object(at.name)
		for _, target := range slices.Sorted(maps.Keys(targets)) {
			if taken(target, at.what) {
				delete(targets, target)
			}
		}
	}
	return removed
}

// filter drops the elements of a member list that drop wants gone.
func filter(in document, name string, drop func(any) bool) {
	list := in.list(name)
	if list == nil {
		return
	}
	kept := make([]any, 0, len(list))
	for _, v := range list {
		if !drop(v) {
			kept = append(kept, v)
		}
	}
	in[name] = kept
}

// bindTarget is the container's side of SOURCE:TARGET[:OPTIONS]; a bind without
// source is a target.
func bindTarget(bind string) string {
	parts := strings.SplitN(bind, ":", 3)
	if len(parts) == 1 {
		return parts[0]
	}
	return parts[1]
}
