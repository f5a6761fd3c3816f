package mapping

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"valise/identity"
)

// Settings are a mapping's settings as configuration and JSON files write them; nil
// is "the default".
type Settings struct {
	Bind      string `json:"bind" toml:"bind"`
	Mode      string `json:"mode" toml:"mode"` // rw | ro
	UID       *int   `json:"uid" toml:"uid"`
	GID       *int   `json:"gid" toml:"gid"`
	Required  *bool  `json:"required" toml:"required"`
	Timeout   *int   `json:"timeout" toml:"timeout"` // seconds
	SkipCheck bool   `json:"skip_check" toml:"skip_check"`
}

// New makes a checked mapping of its settings. Uid and gid default to those given.
func New(o Owner, source string, s Settings, uid, gid int) (*Mapping, error) {
	m := &Mapping{Owner: o, UID: uid, GID: gid, Required: true, Timeout: DefaultTimeout, SkipCheck: s.SkipCheck}
	var errs []error
	var err error
	if m.Source, err = identity.ParseTemplate(source); err != nil {
		errs = append(errs, err)
	}
	if s.Bind != "" {
		if m.Bind, err = identity.ParseTemplate(s.Bind); err != nil {
			errs = append(errs, fmt.Errorf("bind: %w", err))
		}
	}
	switch s.Mode {
	case "", "rw":
	case "ro":
		m.ReadOnly = true
	default:
		errs = append(errs, fmt.Errorf("mode %q is neither \"rw\" nor \"ro\"", s.Mode))
	}
	if s.UID != nil {
		m.UID = *s.UID
	}
	if s.GID != nil {
		m.GID = *s.GID
	}
	if s.Required != nil {
		m.Required = *s.Required
	}
	if s.Timeout != nil {
		m.Timeout = time.Duration(*s.Timeout) * time.Second
	}
	return m, errors.Join(append(errs, m.Validate())...)
}

// Entry is one mapping of a JSON file.
type Entry struct {
	Source   string
	Settings Settings
}

// ParseFile reads a mapping file in the documented JSON form, an object from host
// paths to settings, and keeps its order. Unknown and repeated names are refused.
func ParseFile(data []byte) ([]Entry, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("want one JSON object from host paths to settings")
	}
	var entries []Entry
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		e := Entry{Source: t.(string)} // a member's name is a string
		if slices.ContainsFunc(entries, func(o Entry) bool { return o.Source == e.Source }) {
			return nil, fmt.Errorf("%q stands there twice", e.Source)
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, fmt.Errorf("%q: %w", e.Source, err)
		}
		if err := decodeSettings(raw, &e.Settings); err != nil {
			return nil, fmt.Errorf("%q: %w", e.Source, err)
		}
		entries = append(entries, e)
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows the JSON object")
	}
	return entries, nil
}

// decodeSettings is strict: names are exact and stand there once.
func decodeSettings(raw []byte, s *Settings) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("want an object with bind, mode, uid, gid, required, timeout, skip_check")
	}
	known := []string{"bind", "mode", "uid", "gid", "required", "timeout", "skip_check"}
	var seen []string
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		name := t.(string)
		if !slices.Contains(known, name) {
			return fmt.Errorf("unknown setting %q (known: %s)", name, strings.Join(known, ", "))
		}
		if slices.Contains(seen, name) {
			return fmt.Errorf("setting %q stands there twice", name)
		}
		seen = append(seen, name)
		var skip json.RawMessage
		if err := d.Decode(&skip); err != nil {
			return err
		}
	}
	return json.Unmarshal(raw, s)
}
