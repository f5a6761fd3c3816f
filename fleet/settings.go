package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"valise/durable"
	"valise/session"
)

// Settings are what a process that serves a profile is started with: the content of
// settings.json in the profile's directory below the state directory. With them, what a
// mount left unsaved can be finished without the configuration it came from. They hold
// no secret, only the names of files that do.
type Settings struct {
	URL      string `json:"url"` // of the profile, in its canonical form
	Dir      string `json:"dir"` // the mount point
	StateDir string `json:"state_dir"`
	RunDir   string `json:"run_dir"`
	Host     string `json:"host"`

	Cgroups []string `json:"cgroups,omitempty"` // that the process enters

	Source *Source `json:"source,omitempty"` // what the profile is made from at its first use

	Workspace string `json:"workspace,omitempty"` // for logs
	User      string `json:"user,omitempty"`

	Access     Access     `json:"access"`
	Encryption Encryption `json:"encryption,omitzero"`

	OnSecondHost string        `json:"on_second_host"` // fail, wait, readonly
	SingleHost   bool          `json:"single_host,omitempty"`
	Interval     time.Duration `json:"interval"` // between saves
	Patience     time.Duration `json:"patience"`
	LastSave     time.Duration `json:"last_save"` // how long the end tries to save
	Lease        time.Duration `json:"lease"`
	Filter       string        `json:"filter"`
	SizeLimit    int64         `json:"size_limit,omitempty"` // bytes
	EnforceLimit bool          `json:"enforce_limit,omitempty"`
	CacheSize    int64         `json:"cache_size"` // bytes
	Prefetch     int64         `json:"prefetch"`   // bytes a second

	UID      uint32 `json:"uid"` // owner of the home
	GID      uint32 `json:"gid"`
	Mode     uint32 `json:"mode"`
	Skeleton string `json:"skeleton,omitempty"` // directory copied into a home that is new

	LogLevel  slog.Level `json:"log_level"`
	LogFormat string     `json:"log_format,omitempty"` // text, json
	LogSocket string     `json:"log_socket,omitempty"` // of the driver, "" is standard error
}

// Access is how a bucket is reached.
type Access struct {
	AccessKeyID                string `json:"access_key_id,omitempty"` // {IAM}: the instance's role; "": what the AWS environment says
	SecretAccessKeyFile        string `json:"secret_access_key_file,omitempty"`
	Region                     string `json:"region,omitempty"`
	CAFile                     string `json:"ca_file,omitempty"`
	RequestChecksumCalculation string `json:"request_checksum_calculation,omitempty"`
	ResponseChecksumValidation string `json:"response_checksum_validation,omitempty"`
	Role                       *Role  `json:"role,omitempty"`
}

// Role is assumed for credentials that reach one profile only.
type Role struct {
	ARN      string        `json:"arn"`
	Endpoint string        `json:"endpoint,omitempty"`
	Duration time.Duration `json:"duration"`
}

// Encryption is that of a profile which is new, and where the keys are.
type Encryption struct {
	Mode          string `json:"mode,omitempty"` // none, client, sse-c
	MasterKeyFile string `json:"master_key_file,omitempty"`
}

// Source is where the files of a profile were before it was one: in a directory, or on S3
// as plain objects or as another profile.
type Source struct {
	Directory *Directory `json:"directory,omitempty"`
	URL       string     `json:"url,omitempty"`
	Access    Access     `json:"access,omitzero"`

	MasterKeyFile string `json:"master_key_file,omitempty"` // of an encrypted profile
}

// Directory is one below a root.
type Directory struct {
	Root         string `json:"root"`
	RequireMount bool   `json:"require_mount,omitempty"`
	Marker       string `json:"marker,omitempty"`
	Rel          string `json:"rel"`
}

// settingsName is the file of Settings in the profile's directory.
const settingsName = "settings.json"

// Path is where the settings are kept for the process.
func (s Settings) Path() string {
	return filepath.Join(session.HomePath(s.StateDir, s.URL), settingsName)
}

func (s Settings) save() error {
	if err := os.MkdirAll(filepath.Dir(s.Path()), 0o700); err != nil {
		return err
	}
	return durable.WriteJSON(s.Path(), s)
}

// ReadSettings reads what save wrote.
func ReadSettings(path string) (s Settings, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return s, fmt.Errorf("%s: there is more after the settings", path)
	}
	return s, nil
}
