package plugin

import (
	"slices"
	"time"

	"valise/profile"
	"valise/session"
	"valise/volume"

	proto "github.com/docker/go-plugins-helpers/volume"
)

// describe is what `docker volume inspect` shows of a volume; remotes is how its profile
// is if that lies on S3. The caller holds mu.
func (d *Driver) describe(r *record, remotes map[string]session.Status) *proto.Volume {
	v := &proto.Volume{Name: string(r.Name), CreatedAt: r.CreatedAt.Format(time.RFC3339)}
	status := map[string]any{"mounts": len(r.Mounts)}
	v.Status = status
	if e := d.errs[r.Name]; e != "" {
		status["last_error"] = e
	}
	spec, p, err := d.recall(r)
	if err != nil {
		status["last_error"] = err.Error()
		return v
	}
	status["kind"] = spec.Kind().String()
	status["path"] = p.path()
	if p.workspace != nil {
		status["workspace"], status["user"] = p.workspace.Name, string(p.user)
	}
	if p.mapping != nil {
		status["mapping"], status["read_only"] = p.mapping.String(), p.readOnly
	}
	if p.limit > 0 {
		status["limit_bytes"] = p.limit
	}
	if m, ok := d.usage[p.path()]; ok {
		status["usage_bytes"], status["usage_at"] = m.Bytes, m.At.UTC().Format(time.RFC3339)
		status["fill"] = string(profile.Judge(m.Bytes, p.limit))
	}
	if p.remote != nil {
		if st, ok := remotes[p.path()]; ok {
			describeRemote(status, p, st)
		}
	}
	if slices.ContainsFunc(r.Mounts, func(ref reference) bool { return ref.Backing == p.backing() }) {
		v.Mountpoint = d.mountpoint(p.backing())
	}
	return v
}

// recall resolves a record by the rules in force.
func (d *Driver) recall(r *record) (volume.Spec, place, error) {
	spec, err := volume.Parse(r.Options)
	if err != nil {
		return spec, place{}, err
	}
	p, err := d.resolve(spec)
	return spec, p, err
}

func (d *Driver) limit(r *record) int64 {
	_, p, err := d.recall(r)
	if err != nil {
		return 0
	}
	return p.limit
}
