package volume

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"valise/identity"
	"valise/profile"
)

// Kind is what a volume serves.
type Kind int

// The kinds of volumes.
const (
	Profile Kind = iota
	Mapping
	Path
)

// Control is a volume that lives for one request: its Create does something and its
// error tells the outcome. It can't be mounted, and is removed right after.
type Control string

// The controls. Docker sends no Create for a volume it knows, so what must happen at
// each launch travels in a control volume with a name of its own.
const (
	Check Control = "check" // would this volume mount now?
	Reset Control = "reset" // empty this profile; refused while it is mounted
)

// The options a volume can have.
const (
	optWorkspace = "workspace"
	optUsername  = "username"
	optUserID    = "user_id"
	optImageID   = "image_id"
	optGroups    = "groups"
	optMapping   = "mapping"
	optGroup     = "group"
	optPath      = "path"
	optSizeLimit = "size_limit"
	optFilter    = "filter"
	optControl   = "control"
)

// Spec is a volume's options, checked.
type Spec struct {
	// Whose: a profile's user, or the tokens that a mapping's source needs.
	Workspace, Username, UserID, ImageID string

	// Groups are the user's groups. A profile needs them to know which mappings have
	// their targets inside the home.
	Groups []string

	// Mapping is the source of a mapping as the configuration writes it, of Workspace
	// or of Group.
	Mapping, Group string

	// Path is an explicit directory below a configured root.
	Path string

	// Launch overrides.
	SizeLimit int64 // bytes, 0 = not given
	Filter    string

	Control Control
}

// Kind tells what the volume serves.
func (s Spec) Kind() Kind {
	switch {
	case s.Path != "":
		return Path
	case s.Mapping != "":
		return Mapping
	default:
		return Profile
	}
}

// Options returns what a VolumeCreate carries.
func (s Spec) Options() map[string]string {
	o := map[string]string{}
	set := func(key, value string) {
		if value != "" {
			o[key] = value
		}
	}
	set(optWorkspace, s.Workspace)
	set(optUsername, s.Username)
	set(optUserID, s.UserID)
	set(optImageID, s.ImageID)
	set(optGroups, strings.Join(s.Groups, ","))
	set(optMapping, s.Mapping)
	set(optGroup, s.Group)
	set(optPath, s.Path)
	set(optFilter, s.Filter)
	set(optControl, string(s.Control))
	if s.SizeLimit > 0 {
		set(optSizeLimit, strconv.FormatInt(s.SizeLimit, 10))
	}
	return o
}

// allowed lists the options of each kind.
func (k Kind) allowed() []string {
	switch k {
	case Path:
		return []string{optPath, optSizeLimit, optControl}
	case Mapping:
		return []string{optMapping, optWorkspace, optGroup, optUsername, optUserID, optImageID, optControl}
	default:
		return []string{optWorkspace, optUsername, optUserID, optImageID, optGroups, optSizeLimit, optFilter, optControl}
	}
}

func (k Kind) String() string {
	return [...]string{"profile", "mapping", "path"}[k]
}

// Parse reads and checks the options of a VolumeCreate; it reports every fault.
func Parse(options map[string]string) (Spec, error) {
	s := Spec{
		Workspace: options[optWorkspace], Username: options[optUsername], UserID: options[optUserID],
		ImageID: options[optImageID], Mapping: options[optMapping], Group: options[optGroup],
		Path: options[optPath], Filter: options[optFilter], Control: Control(options[optControl]),
	}
	var errs []error
	keys := make([]string, 0, len(options))
	for k := range options {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	kind := s.Kind()
	for _, k := range keys {
		switch {
		case !slices.Contains(everyOption(), k):
			errs = append(errs, fmt.Errorf("unknown option %q (known: %s)", k, strings.Join(everyOption(), ", ")))
		case !slices.Contains(kind.allowed(), k):
			errs = append(errs, fmt.Errorf("option %q does not go with a %s volume (those take %s)", k, kind, strings.Join(kind.allowed(), ", ")))
		case options[k] == "":
			errs = append(errs, fmt.Errorf("option %q is empty", k))
		}
	}
	var err error
	if v := options[optSizeLimit]; v != "" {
		if s.SizeLimit, err = profile.ParseSize(v); err != nil {
			errs = append(errs, fmt.Errorf("option %q: %w", optSizeLimit, err))
		}
	}
	if v := options[optGroups]; v != "" {
		s.Groups = strings.Split(v, ",")
		if slices.Contains(s.Groups, "") {
			errs = append(errs, fmt.Errorf("option %q holds an empty name", optGroups))
		}
	}
	if len(errs) == 0 {
		errs = append(errs, s.check())
	}
	return s, errors.Join(errs...)
}

func everyOption() []string {
	all := slices.Concat(Profile.allowed(), Mapping.allowed(), Path.allowed())
	slices.Sort(all)
	return slices.Compact(all)
}

// check reports what is missing or contradicts itself.
func (s Spec) check() error {
	var errs []error
	if s.Username != "" {
		if _, err := identity.ParseUsername(s.Username); err != nil {
			errs = append(errs, err)
		}
	}
	switch s.Kind() {
	case Profile:
		if s.Workspace == "" {
			errs = append(errs, fmt.Errorf("option %q is missing: say which workspace, or give %q or %q", optWorkspace, optMapping, optPath))
		}
		if s.Username == "" {
			errs = append(errs, fmt.Errorf("option %q is missing: say whose profile", optUsername))
		}
	case Mapping:
		if (s.Workspace == "") == (s.Group == "") {
			errs = append(errs, fmt.Errorf("a mapping belongs to one of %q and %q: give one of them", optWorkspace, optGroup))
		}
	case Path:
		if !path.IsAbs(s.Path) || path.Clean(s.Path) != s.Path || strings.ContainsRune(s.Path, 0) {
			errs = append(errs, fmt.Errorf("option %q: %q is not a clean absolute path", optPath, s.Path))
		}
	}
	switch s.Control {
	case "", Check:
	case Reset:
		if s.Kind() != Profile {
			errs = append(errs, fmt.Errorf("option %q: only a profile can be reset", optControl))
		}
	default:
		errs = append(errs, fmt.Errorf("option %q is %q, neither %q nor %q", optControl, s.Control, Check, Reset))
	}
	return errors.Join(errs...)
}
