package profile

import (
	"errors"
	"fmt"
)

// Mode is how a profile takes part in a launch.
type Mode string

// The launch modes.
const (
	Enabled  Mode = "enabled"  // mounted as the home
	Disabled Mode = "disabled" // not mounted
	Reset    Mode = "reset"    // deleted, made anew, mounted
)

// ErrNotAllowed is a reset asked for by somebody who may not have a profile.
var ErrNotAllowed = errors.New("persistent profiles are not allowed for this user")

// ParseMode reads a launch mode; "" is Enabled.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case "":
		return Enabled, nil
	case Enabled, Disabled, Reset:
		return m, nil
	}
	return "", fmt.Errorf("profile mode %q is none of enabled, disabled, reset", s)
}

// Allowed reports whether a user of these groups, the one that wins first, may have
// a persistent profile: the first group that says so decides, none means yes.
func Allowed(groups []*Group) bool {
	for _, g := range groups {
		if g.Allow != nil {
			return *g.Allow
		}
	}
	return true
}

// Decide turns the mode asked for into the one that holds: who is not allowed gets
// Disabled, and ErrNotAllowed where a reset was asked for.
func Decide(asked Mode, groups []*Group) (Mode, error) {
	if Allowed(groups) {
		return asked, nil
	}
	if asked == Reset {
		return "", ErrNotAllowed
	}
	return Disabled, nil
}
