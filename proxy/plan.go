package proxy

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"valise/endpoint"
	"valise/identity"
	"valise/mapping"
	"valise/profile"
	"valise/volume"
)

// plan is what a create of a workspace's container gets.
type plan struct {
	caller     identity.Caller
	workspace  *profile.Workspace
	mode       profile.Mode
	injections []injection // the profile first
	warnings   []string
}

// injection is a volume of the driver at a target.
type injection struct {
	what     string // for messages: "the profile" or the mapping
	target   string
	spec     volume.Spec
	readOnly bool
	optional bool // the container may start without it
}

// plan decides what a create gets; nil without an error means that it passes as it is.
func (p *Proxy) plan(l Listener, r *http.Request, doc document) (*plan, error) {
	policy := p.policy.Load()
	evidence := gather(l, r, doc)
	caller, err := identity.Resolve(l.Identity, evidence, policy.Normalize)
	if err != nil {
		return nil, faultf(http.StatusBadRequest, "valise: %v", err)
	}
	w, err := policy.Workspace(caller, doc.text("Image"))
	if err != nil {
		return nil, faultf(http.StatusBadRequest, "valise: %v", err)
	}
	if w == nil || !caller.Known() {
		return nil, p.unmatched(caller, w, doc.text("Image"))
	}
	pl := &plan{caller: caller, workspace: w}
	groups := policy.GroupsOf(caller.User, caller.Groups)
	if err := pl.decideMode(groups); err != nil {
		return nil, err
	}
	tokens := policy.Tokens(w, caller.User, caller.UserID)
	home := ""
	if pl.mode != profile.Disabled && w.HasProfile() {
		if home, err = w.Home.Expand(tokens); err != nil {
			return nil, faultf(http.StatusBadRequest, "valise: home of workspace %q: %v", w.Name, err)
		}
	}
	placed, warnings, err := policy.Select(w, groups, tokens, home)
	if err != nil {
		return nil, faultf(http.StatusBadRequest, "valise: %v", err)
	}
	pl.warnings = append(pl.warnings, warnings...)
	if home != "" {
		spec, err := profileSpec(pl, evidence, home, placed)
		if err != nil {
			return nil, faultf(http.StatusBadRequest, "valise: %v", err)
		}
		pl.injections = append(pl.injections, injection{what: "the profile", target: home, spec: spec})
	}
	for _, m := range placed {
		pl.injections = append(pl.injections, injection{
			what: m.String(), target: m.Target, readOnly: m.ReadOnly, optional: !m.Required,
			spec: volume.Spec{
				Mapping: m.Source.String(), Workspace: m.Owner.Workspace, Group: m.Owner.Group,
				Username: string(m.Tokens.Username), UserID: m.Tokens.UserID, ImageID: m.Tokens.ImageID,
			},
		})
	}
	return pl, nil
}

// gather collects what the create and its connection say of the caller.
func gather(l Listener, r *http.Request, doc document) identity.Evidence {
	e := identity.Evidence{
		Labels: doc.strings("Labels"), Env: doc.texts("Env"), ContainerName: r.URL.Query().Get("name"),
		Socket: l.Socket,
	}
	if slices.Contains(l.Identity, "peercred") {
		if peer, ok := endpoint.PeerOf(r.Context()); ok {
			e.Peer = &identity.Peer{UID: peer.UID, Foreign: peer.ForeignNamespace()}
		}
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		subject := r.TLS.PeerCertificates[0].Subject
		e.TLS = &identity.Certificate{CommonName: subject.CommonName, OrganizationalUnits: subject.OrganizationalUnit}
	}
	return e
}

// unmatched says what becomes of a create of no workspace or no user.
func (p *Proxy) unmatched(c identity.Caller, w *profile.Workspace, image string) error {
	missing := fmt.Sprintf("image %q belongs to no workspace", image)
	if w != nil {
		missing = fmt.Sprintf("workspace %q is known, but nothing says who the user is", w.Name)
	}
	if c.Workspace != "" || c.Profile != "" {
		// The caller spoke to valise, so silence would be a home that isn't kept.
		return faultf(http.StatusBadRequest, "valise: %s", missing)
	}
	if p.cfg.RefuseUnmatched {
		return faultf(http.StatusForbidden, "valise: %s, and only containers of workspaces may be created here", missing)
	}
	return nil
}

// decideMode settles the launch mode and says so where it is not what was asked for.
func (pl *plan) decideMode(groups []*profile.Group) error {
	asked, err := profile.ParseMode(pl.caller.Profile)
	if err != nil {
		return faultf(http.StatusBadRequest, "valise: %v", err)
	}
	pl.mode, err = profile.Decide(asked, groups)
	if err != nil {
		return faultf(http.StatusForbidden, "valise: reset of the profile of %q: %v", pl.caller.User, err)
	}
	if pl.mode == profile.Reset && !pl.workspace.HasProfile() {
		return faultf(http.StatusBadRequest, "valise: workspace %q has no profile to reset", pl.workspace.Name)
	}
	if pl.mode != asked {
		pl.warnings = append(pl.warnings, fmt.Sprintf("user %q may not have a persistent profile: what is written to the home will be lost", pl.caller.User))
	}
	return nil
}

// profileSpec describes the profile's volume, with the launch's overrides.
func profileSpec(pl *plan, e identity.Evidence, home string, placed []mapping.Placed) (volume.Spec, error) {
	s := volume.Spec{Workspace: pl.workspace.Name, Username: string(pl.caller.User), UserID: pl.caller.UserID}
	for _, m := range placed {
		inside := strings.HasPrefix(m.Target, home+"/")
		if g := m.Owner.Group; inside && g != "" && !slices.Contains(s.Groups, g) {
			s.Groups = append(s.Groups, g)
		}
	}
	slices.Sort(s.Groups)
	kb, err := e.EnvValue(profile.EnvSizeLimit)
	if err != nil {
		return s, err
	}
	if s.SizeLimit, err = profile.ParseLaunchLimit(kb); err != nil {
		return s, err
	}
	s.Filter, err = e.EnvValue(profile.EnvFilter)
	return s, err
}
