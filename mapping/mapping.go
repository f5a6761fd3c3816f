package mapping

import (
	"errors"
	"fmt"
	"path"
	"time"

	"valise/identity"
	"valise/profile"
)

// Defaults of a mapping.
const (
	DefaultTimeout = 10 * time.Second
	MaxTimeout     = 100 * time.Second // dockerd gives a volume driver 120 s
)

// Owner is what a mapping belongs to: a workspace or a group, one of the two set.
type Owner struct{ Workspace, Group string }

// String returns the owner as messages name it.
func (o Owner) String() string {
	if o.Group != "" {
		return fmt.Sprintf("group %q", o.Group)
	}
	return fmt.Sprintf("workspace %q", o.Workspace)
}

// Mapping is one folder (or file, or socket) of the host in a container.
type Mapping struct {
	Owner    Owner
	Source   identity.Template // on the host
	Bind     identity.Template // in the container
	ReadOnly bool
	UID, GID int // the source directory's owner

	Required  bool          // without it the create fails
	Timeout   time.Duration // how long the source may take to answer
	SkipCheck bool          // neither probe nor ownership
}

// String returns the mapping as messages name it.
func (m *Mapping) String() string {
	return fmt.Sprintf("volume mapping %q of %s", m.Source, m.Owner)
}

// Validate reports every fault of the mapping.
func (m *Mapping) Validate() error {
	var errs []error
	if m.Bind.IsZero() {
		errs = append(errs, errors.New("bind is missing: say where the container sees the folder"))
	} else if m.Bind.String() == "/" {
		errs = append(errs, errors.New(`bind "/" would cover the whole container`))
	}
	if m.Timeout <= 0 || m.Timeout > MaxTimeout {
		errs = append(errs, fmt.Errorf("timeout %s is not between 1 and %d seconds", m.Timeout, MaxTimeout/time.Second))
	}
	if m.UID < 0 || m.GID < 0 {
		errs = append(errs, fmt.Errorf("uid %d and gid %d must not be negative", m.UID, m.GID))
	}
	return errors.Join(errs...)
}

// Policy is all that the operator decided.
type Policy struct {
	profile.Policy
	Mappings []*Mapping // in the order of the configuration
}

// Find returns the mapping of an owner by its source as the configuration writes it.
func (p *Policy) Find(o Owner, source string) (*Mapping, error) {
	for _, m := range p.Mappings {
		if m.Owner == o && m.Source.String() == path.Clean(source) {
			return m, nil
		}
	}
	return nil, fmt.Errorf("%s has no volume mapping %q", o, source)
}

// Placed is a mapping with its target for one caller.
type Placed struct {
	*Mapping
	Target string          // in the container
	Tokens identity.Tokens // those that its source needs
}

// Select returns the mappings of a session in workspace w by a user of groups (the
// one that wins first) and a line for each that lost its target. home is the
// profile's target, "" where no profile is mounted.
func (p *Policy) Select(w *profile.Workspace, groups []*profile.Group, t identity.Tokens, home string) (placed []Placed, warnings []string, err error) {
	taken := map[string]string{}
	if home != "" {
		taken[home] = "the profile"
	}
	owners := []Owner{{Workspace: w.Name}}
	for _, g := range groups {
		owners = append(owners, Owner{Group: g.Name})
	}
	for _, o := range owners {
		for _, m := range p.Mappings {
			if m.Owner != o {
				continue
			}
			target, err := m.Bind.Expand(t)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: bind: %w", m, err)
			}
			if by, ok := taken[target]; ok {
				warnings = append(warnings, fmt.Sprintf("%s is left out: %s is taken by %s", m, target, by))
				continue
			}
			taken[target] = m.String()
			placed = append(placed, Placed{Mapping: m, Target: target, Tokens: m.Source.Only(t)})
		}
	}
	return placed, warnings, nil
}
