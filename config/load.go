package config

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"valise/profile"

	"github.com/BurntSushi/toml"
)

// Load reads and checks a configuration file. The error is Faults wherever the file
// could be read.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return Parse(path, data)
}

// Parse checks a configuration file's content; path is its name in messages and
// where the relative paths in it begin.
func Parse(path string, data []byte) (*Config, error) {
	c := &checker{path: path, cfg: &Config{}, providers: map[string]*profile.Storage{}}
	var f file
	md, err := toml.NewDecoder(bytes.NewReader(data)).Decode(&f)
	if err != nil {
		fault := Fault{File: path, Message: err.Error()}
		var parse toml.ParseError
		if errors.As(err, &parse) {
			fault.Line, fault.Key, fault.Message = parse.Position.Line, parse.LastKey, parse.Message
		}
		return nil, Faults{fault}
	}
	c.faults = append(unknown(md.Keys(), reflect.TypeOf(f)), wrongTypes(reflect.ValueOf(f), "")...)
	c.general(f)
	c.plugin(f.Plugin)
	c.proxy(f.Proxy)
	c.storage(f)
	c.policy(f)
	if len(c.faults)+len(c.cfg.Warnings) > 0 {
		lines := locate(string(data))
		for _, list := range []Faults{c.faults, c.cfg.Warnings} {
			for i := range list {
				if list[i].File == "" {
					list[i].File, list[i].Line = path, lines.line(list[i].Key)
				}
			}
			list.sort()
		}
	}
	if len(c.faults) > 0 {
		return nil, c.faults
	}
	return c.cfg, nil
}

// checker gathers faults while it turns tables into settings.
type checker struct {
	path   string
	cfg    *Config
	faults Faults

	providers map[string]*profile.Storage // by name
}

func (c *checker) fault(key, format string, args ...any) {
	c.faults = append(c.faults, Fault{Key: key, Message: fmt.Sprintf(format, args...)})
}

func (c *checker) warn(key, format string, args ...any) {
	c.cfg.Warnings = append(c.cfg.Warnings, Fault{Key: key, Message: fmt.Sprintf(format, args...)})
}

// errs reports each of the errors that errors.Join put together.
func (c *checker) errs(key string, err error) {
	if err == nil {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			c.errs(key, e)
		}
		return
	}
	c.fault(key, "%s", err)
}

// choice returns one of a setting's words, the first being the default.
func (c *checker) choice(key string, o opt[string], words ...string) string {
	v := o.or(words[0])
	if !slices.Contains(words, v) {
		c.fault(key, "%q is none of %s", v, strings.Join(words, ", "))
	}
	return v
}

// absolute returns a clean absolute path.
func (c *checker) absolute(key string, o opt[string], def string) string {
	v := o.or(def)
	if v != "" && !filepath.IsAbs(v) {
		c.fault(key, "path %q is not absolute", v)
		return v
	}
	if v == "" {
		return v
	}
	return filepath.Clean(v)
}

var logLevels = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warning": slog.LevelWarn, "error": slog.LevelError}

func (c *checker) general(f file) {
	c.cfg.StateDir = c.absolute("state_dir", f.StateDir, "/var/lib/valise")
	c.cfg.Host = f.Host.value
	c.cfg.LogLevel = logLevels[c.choice("log_level", f.LogLevel, "info", "debug", "warning", "error")]
	c.cfg.LogFormat = c.choice("log_format", f.LogFormat, "text", "json")
}

func (c *checker) plugin(t pluginTable) {
	p := &c.cfg.Plugin
	p.Socket = c.absolute("plugin.socket", t.Socket, "/run/docker/plugins/valise.sock")
	p.Admin = c.address("plugin.admin", t.Admin.or("unix:///run/valise/admin.sock"))
	if !strings.HasPrefix(p.Admin, "unix://") && !loopback(p.Admin) {
		c.fault("plugin.admin", "whoever reaches %s could delete profiles: use a unix socket or a loopback address", p.Admin)
	}
	p.UsageInterval = c.duration("plugin.usage_interval", t.UsageInterval, 5*time.Minute, time.Second)
}
