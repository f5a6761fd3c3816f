package notice

import (
	"fmt"
	"strconv"
	"strings"

	"valise/profile"
)

// A state is how a home stands against its limit, the worst last.
type state int

const (
	fits state = iota
	near
	over
	unsaved // over, and so nothing of it is saved any more: profiles on S3
)

// level is the state's name for commands and webhooks.
func (s state) level() string { return [...]string{"fits", "near", "over", "over"}[s] }

// urgency is what notify-send calls it.
func (s state) urgency() string { return [...]string{"low", "normal", "critical", "critical"}[s] }

// status is what the driver shows of a volume (docs/volumes.md).
type status struct {
	Kind      string       `json:"kind"`
	Workspace string       `json:"workspace"`
	User      string       `json:"user"`
	Limit     int64        `json:"limit_bytes"`
	Usage     int64        `json:"usage_bytes"`
	Fill      profile.Fill `json:"fill"`
	OverLimit bool         `json:"over_limit"`
	Saved     *bool        `json:"saved"` // nil where nothing has to be: in a directory
}

// calm is the share of the limit, in percent, that a home must fall to before it is
// no longer near: one that swings around the warning's threshold would warn all day.
const calm = 85

// judge says how the volume stands; nothing that is known leaves it as it was.
func (s status) judge(before state) state {
	switch {
	case s.OverLimit:
		return unsaved
	case s.Fill == profile.Over:
		return over
	case s.Fill == profile.Near:
		return near
	case s.Limit <= 0:
		return fits
	case s.Fill == "":
		return before
	case before != fits && s.Usage > s.Limit/100*calm:
		return near
	default:
		return fits
	}
}

// notice is one thing to tell.
type notice struct {
	status
	now, before state  // what to tell, and what was told last
	target      string // where the container has the volume
}

// texts returns the words for the user.
func (n notice) texts() (title, message string) {
	what, home := "Home", "Your home"
	if n.Kind != volumeOfUser {
		what, home = "Directory", "The directory "+n.target
	}
	usage, limit := n.sizes()
	sizes := ""
	if usage != "" && (n.now < over || n.Usage > n.Limit) { // a home that can't be saved may have been measured before
		sizes = fmt.Sprintf(" (%s of %s)", usage, limit)
	}
	full := fmt.Sprintf("%d %% full%s. Delete files you no longer need.", n.percent(), sizes)
	again := home + " fits its limit again"
	if n.before == unsaved && (n.Saved == nil || *n.Saved) { // S3 may have failed since
		again += ": changes are saved"
	}
	switch n.now {
	case unsaved:
		return "Changes are not saved", home + " is larger than its limit" + sizes +
			": changes are not saved until you delete files. Nothing is lost as long as you do."
	case over:
		return what + " over its limit", home + " is over its limit" + sizes + ". Delete files you no longer need."
	case near:
		if n.before >= over {
			return what + " almost full", again + ". It is still " + full
		}
		return what + " almost full", home + " is " + full
	default:
		if n.before >= over {
			return what + " fits its limit again", again + "."
		}
		return what + " has room again", home + " is no longer almost full" + sizes + "."
	}
}

// volumeOfUser is a home's Status.kind; the others are directories.
const volumeOfUser = "profile"

// values are what placeholders stand for.
func (n notice) values() map[string]string {
	title, message := n.texts()
	usage, limit := n.sizes()
	return map[string]string{
		"title": title, "message": message, "level": n.now.level(), "urgency": n.now.urgency(),
		"user": n.User, "workspace": n.Workspace,
		"usage": usage, "limit": limit, "percent": strconv.FormatInt(n.percent(), 10),
	}
}

func (n notice) percent() int64 {
	if n.Limit <= 0 {
		return 0
	}
	return int64(float64(n.Usage) / float64(n.Limit) * 100)
}

// sizes prints usage and limit in the units that the limit was given in: 2g and 2 GB
// are both "2 GB" to a user. They are empty where there is nothing to tell.
func (n notice) sizes() (usage, limit string) {
	if n.Limit <= 0 || n.Usage <= 0 {
		return "", ""
	}
	// As exact as it takes to tell them apart.
	for digits := 3; digits <= 6; digits++ {
		usage, limit = n.size(n.Usage, digits), n.size(n.Limit, digits)
		if usage != limit {
			break
		}
	}
	return usage, limit
}

func (n notice) size(bytes int64, digits int) string {
	base := 1000.0
	if n.Limit%(1<<20) == 0 || n.Limit%1024 == 0 && n.Limit%1000 != 0 {
		base = 1024
	}
	size, unit := float64(bytes), 0
	for ; size >= base && unit < len(sizeUnits)-1; unit++ {
		size /= base
	}
	whole := len(strconv.FormatInt(int64(size), 10))
	text := strconv.FormatFloat(size, 'f', max(0, digits-whole), 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text + " " + sizeUnits[unit]
}

var sizeUnits = []string{"bytes", "KB", "MB", "GB", "TB", "PB", "EB"}
