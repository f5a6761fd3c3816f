package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"valise/config"
	"valise/fleet"
	"valise/identity"
	"valise/layer"
	"valise/profile"
	"valise/session"
	"valise/store"
	"valise/store/s3"
)

// accessTo is how the configuration has the bucket of a storage reached.
func accessTo(cfg *config.Config, s *profile.Storage) fleet.Access {
	a := fleet.Access{
		AccessKeyID: s.AccessKeyID, SecretAccessKeyFile: s.SecretAccessKeyFile, Region: cfg.S3.Region, CAFile: cfg.S3.CAFile,
		RequestChecksumCalculation: cfg.S3.RequestChecksumCalculation, ResponseChecksumValidation: cfg.S3.ResponseChecksumValidation,
	}
	if r := s.Role; r != nil {
		a.Role = &fleet.Role{ARN: r.ARN, Endpoint: r.Endpoint, Duration: r.Duration}
	}
	return a
}

// storageOf finds whose the URL of a profile, or of a prefix above profiles, is: it has the
// credentials of its storage mapping, and those of [s3] where there is none.
func storageOf(cfg *config.Config, url string) *profile.Storage {
	if cfg.Policy != nil {
		for _, w := range cfg.Policy.Workspaces {
			for _, s := range []*profile.Storage{w.Storage, w.Source} {
				if s == nil {
					continue
				}
				if _, ok := s.Match(url); ok || strings.HasPrefix(s.String(), url) {
					return s
				}
			}
		}
	}
	return &profile.Storage{AccessKeyID: cfg.S3.AccessKeyID, SecretAccessKeyFile: cfg.S3.SecretAccessKeyFile}
}

// driverSettings are those of a user's profile as the driver mounts it. Which mount point
// and which launch is for the driver to say.
func driverSettings(cfg *config.Config, host string) func(*profile.Workspace, identity.Tokens) (fleet.Settings, error) {
	return func(w *profile.Workspace, tokens identity.Tokens) (fleet.Settings, error) {
		url, err := w.Storage.URL(tokens)
		if err != nil {
			return fleet.Settings{}, err
		}
		at, err := s3.ParseURL(url)
		if err != nil {
			return fleet.Settings{}, err
		}
		level := cfg.LogLevel
		if l := w.Storage.LogLevel; l != nil {
			level = *l
		}
		source, err := sourceOf(cfg, w, tokens)
		if err != nil {
			return fleet.Settings{}, err
		}
		return fleet.Settings{
			Source: source, URL: at.String(), Host: host, Workspace: w.Name, User: string(tokens.Username),
			Access:       accessTo(cfg, w.Storage),
			Encryption:   fleet.Encryption{Mode: w.Storage.Encryption, MasterKeyFile: w.Storage.MasterKeyFile},
			OnSecondHost: w.Storage.OnSecondHost, SingleHost: cfg.S3.SingleHost,
			Interval: cfg.S3.SyncInterval, Patience: cfg.S3.Patience, LastSave: lastSave, Lease: cfg.S3.Lease,
			Filter: w.Storage.Filter, SizeLimit: w.Storage.SizeLimit, EnforceLimit: w.Storage.EnforceLimit,
			CacheSize: cfg.S3.CacheSize, Prefetch: cfg.S3.Prefetch,
			UID: uint32(w.UID), GID: uint32(w.GID), Mode: uint32(w.Mode), Skeleton: w.Skeleton,
			LogLevel: level, LogFormat: cfg.LogFormat,
		}, nil
	}
}

// sourceOf is where a profile on S3 lay on S3 before.
func sourceOf(cfg *config.Config, w *profile.Workspace, tokens identity.Tokens) (*fleet.Source, error) {
	if w.Source == nil {
		return nil, nil
	}
	url, err := w.Source.URL(tokens)
	if err != nil {
		return nil, fmt.Errorf("migrate_from: %w", err)
	}
	// A former storage has its keys in the file of the new one.
	return &fleet.Source{URL: url, Access: accessTo(cfg, w.Source), MasterKeyFile: w.Storage.MasterKeyFile}, nil
}

// lastSave is how long a process of the driver tries to save what a session has left. After
// it, the driver goes on trying.
const lastSave = 24 * time.Hour

// hostname is this host's name to others.
func hostname(cfg *config.Config) (string, error) {
	if cfg.Host != "" {
		return cfg.Host, nil
	}
	return os.Hostname()
}

// openBucket opens the bucket of a profile.
func openBucket(ctx context.Context, url string, a fleet.Access, log *slog.Logger) (*s3.Bucket, error) {
	at, err := s3.ParseURL(url)
	if err != nil {
		return nil, err
	}
	c := s3.Config{
		Location: at, Region: a.Region, CAFile: a.CAFile, AccessKeyID: a.AccessKeyID,
		RequestChecksumCalculation: a.RequestChecksumCalculation, ResponseChecksumValidation: a.ResponseChecksumValidation,
		Log: log,
	}
	if r := a.Role; r != nil {
		c.Role = &s3.Role{ARN: r.ARN, Endpoint: r.Endpoint, Duration: r.Duration}
	}
	if os.Getenv("AWS_ACCESS_KEY_ID") == s3.IAM && c.AccessKeyID == "" {
		c.AccessKeyID = s3.IAM
	}
	if name := a.SecretAccessKeyFile; name != "" {
		secret, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read the secret access key: %w", err)
		}
		c.SecretAccessKey = strings.TrimSpace(string(secret))
	}
	return s3.New(ctx, c)
}

// openSession turns settings into a session's.
func openSession(ctx context.Context, s fleet.Settings) (session.Config, error) {
	log := loggerTo(s.LogWriter(), s.LogLevel, s.LogFormat)
	cfg := session.Config{
		URL: s.URL, Dir: s.Dir, StateDir: s.StateDir, RunDir: s.RunDir, Host: s.Host, User: s.User, Workspace: s.Workspace,
		OnHeld: session.OnHeld(s.OnSecondHost), SingleHost: s.SingleHost, Interval: s.Interval, Patience: s.Patience,
		LastSave: s.LastSave, Lease: s.Lease, SizeLimit: s.SizeLimit, Enforce: s.EnforceLimit, CacheSize: s.CacheSize, Prefetch: s.Prefetch,
		UID: s.UID, GID: s.GID, Mode: s.Mode, Log: log,
	}
	var err error
	if cfg.Filter, err = layer.ParseFilter(s.Filter); err != nil {
		return cfg, err
	}
	if s.Skeleton != "" {
		cfg.Populate = func(dir string) error { return copySkeleton(s.Skeleton, dir, int(s.UID), int(s.GID)) }
	}
	if cfg.Encryption, err = encryption(s.Encryption); err != nil {
		return cfg, err
	}
	cfg.Bucket, err = openBucket(ctx, s.URL, s.Access, log)
	return cfg, err
}

// encryption reads the master keys.
func encryption(e fleet.Encryption) (store.Encryption, error) {
	out := store.Encryption{Mode: store.EncryptionMode(e.Mode)}
	if e.Mode == "none" {
		out.Mode = store.EncryptNone
	}
	if e.MasterKeyFile == "" {
		return out, nil
	}
	data, err := os.ReadFile(e.MasterKeyFile)
	if err != nil {
		return out, fmt.Errorf("read the master keys: %w", err)
	}
	if out.Keys, err = store.ParseMasterKeys(data); err != nil {
		return out, fmt.Errorf("%s: %w", e.MasterKeyFile, err)
	}
	return out, nil
}

// copySkeleton copies a directory into one that is new and gives all of it to an owner.
func copySkeleton(from, to string, uid, gid int) error {
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return fmt.Errorf("copy skeleton %q: %w", from, err)
	}
	return filepath.WalkDir(to, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, uid, gid))
	})
}

// logger writes to standard error.
func logger(level slog.Level, format string) *slog.Logger {
	return loggerTo(os.Stderr, level, format)
}

func loggerTo(out io.Writer, level slog.Level, format string) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(out, options))
	}
	return slog.New(slog.NewTextHandler(out, options))
}
