package notice

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Config says how users are told. Zero values are the defaults.
type Config struct {
	Off      bool
	Command  []string      // run in the user's containers, see Placeholders; nil = Default, empty = none
	Interval time.Duration // between two looks; 0 = 30 s
	Repeat   time.Duration // while a home is over its limit; 0 = 10 min
	Webhook  string        // an http or https URL that events are posted to, "" = none
}

const (
	defaultInterval = 30 * time.Second
	defaultRepeat   = 10 * time.Minute
)

// Default is the command that shows a desktop notification.
func Default() []string {
	return []string{"notify-send", "--app-name=valise", "--urgency={urgency}", "{title}", "{message}"}
}

// Placeholders are what a command's arguments may hold.
func Placeholders() []string {
	return []string{"title", "message", "level", "urgency", "user", "workspace", "usage", "limit", "percent"}
}

// placeholder is {name}. What follows a dollar sign is the shell's.
var placeholder = regexp.MustCompile(`\$?\{[a-z_]+\}`)

// placeholders lists the names in an argument.
func placeholders(arg string) (names []string) {
	for _, p := range placeholder.FindAllString(arg, -1) {
		if !strings.HasPrefix(p, "$") {
			names = append(names, strings.Trim(p, "{}"))
		}
	}
	return names
}

// expand fills the placeholders of a command in, each value as it is.
func expand(command []string, values map[string]string) []string {
	out := make([]string, len(command))
	for i, arg := range command {
		out[i] = placeholder.ReplaceAllStringFunc(arg, func(p string) string {
			if strings.HasPrefix(p, "$") {
				return p
			}
			return values[strings.Trim(p, "{}")]
		})
	}
	return out
}

// Programs that take a script as an argument, and the options in front of it.
var (
	interpreter = regexp.MustCompile(`^((ba|da|a|z|k|fi)?sh|su|runuser|python[0-9.]*|perl|ruby|node)$`)
	scriptNext  = regexp.MustCompile(`^(-[a-zA-Z]*[ce]|--(command|eval))$`)
	scriptHere  = regexp.MustCompile(`^--(command|eval)=`)
)

// CheckCommand reports every fault of a command. No value may become part of a script,
// where a user's name would be code: it belongs behind, as in sh -c 'echo "$1"' sh {title}.
func CheckCommand(command []string) error {
	var errs []error
	interpreted := false
	for i, arg := range command {
		names := placeholders(arg)
		for _, name := range names {
			if !slices.Contains(Placeholders(), name) {
				errs = append(errs, fmt.Errorf("argument %q: unknown placeholder {%s} (known: {%s})", arg, name, strings.Join(Placeholders(), "}, {")))
			}
		}
		switch {
		case strings.ContainsRune(arg, 0):
			errs = append(errs, fmt.Errorf("argument %q holds a NUL byte", arg))
		case i == 0 && arg == "":
			errs = append(errs, errors.New("the program's name is empty"))
		case i == 0 && len(names) > 0:
			errs = append(errs, fmt.Errorf("%q: the program's name takes no placeholder", arg))
		case interpreted && len(names) > 0 && (scriptNext.MatchString(command[i-1]) || scriptHere.MatchString(arg)):
			errs = append(errs, fmt.Errorf(`argument %q is a script, where a value would be code: put {%s} behind it and use "$1"`, arg, names[0]))
		}
		interpreted = interpreted || interpreter.MatchString(path.Base(arg))
	}
	return errors.Join(errs...)
}

// CheckWebhook checks a webhook's URL.
func CheckWebhook(webhook string) error {
	u, err := url.Parse(webhook)
	switch {
	case err != nil:
		return errors.New("the webhook is not a URL") // which may hold a secret
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("the webhook's scheme %q is neither https nor http", u.Scheme)
	case u.Hostname() == "":
		return errors.New("the webhook's URL names no host")
	case u.Fragment != "":
		return errors.New("the webhook's URL has a #fragment, which is never sent")
	}
	return nil
}
