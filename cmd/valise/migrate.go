package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"

	"valise/beneath"
	"valise/extract"
	"valise/fleet"
	"valise/layer"
	"valise/migrate"
	"valise/session"
	"valise/store"
	"valise/store/s3"
)

// migrate makes a profile from the source that the driver's settings name.
func (f *mountFlags) migrate(ctx context.Context) error {
	s, err := fleet.ReadSettings(f.settingsFile)
	if err != nil {
		return err
	}
	cfg, err := f.session(ctx, nil)
	if err != nil {
		return err
	}
	source := &source{settings: s, log: cfg.Log}
	fetch := source.objects
	if s.Source.Directory != nil {
		fetch = source.directory
	}
	return session.Migrate(ctx, cfg, fetch)
}

// source is where a profile is made from.
type source struct {
	settings fleet.Settings
	log      *slog.Logger
}

func nothing() error { return nil }

// directory is a directory profile, which is read where it is.
func (s *source) directory(context.Context, string, func(session.Progress)) (string, func() error, error) {
	d := s.settings.Source.Directory
	root, err := beneath.Root{Path: d.Root, RequireMount: d.RequireMount, Marker: d.Marker}.Open()
	if err != nil {
		return "", nil, err
	}
	defer root.Close()
	n, err := root.Open(d.Rel)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	st, err := n.Stat()
	if err == nil && !st.IsDir() {
		err = fmt.Errorf("%q: %w", path.Join(d.Root, d.Rel), beneath.ErrNotDirectory)
	}
	if err != nil {
		n.Close()
		return "", nil, err
	}
	return n.Proc(), func() error { n.Close(); return nil }, nil
}

// objects are those on S3: of another profile, or plain ones.
func (s *source) objects(ctx context.Context, staging string, told func(session.Progress)) (string, func() error, error) {
	from := s.settings.Source
	bucket, err := openBucket(ctx, from.URL, from.Access, s.log)
	if err != nil {
		return "", nil, err
	}
	defer bucket.Close()
	keys, err := encryption(fleet.Encryption{MasterKeyFile: from.MasterKeyFile})
	if err != nil {
		return "", nil, err
	}
	repo, err := store.Open(ctx, store.Config{Bucket: bucket, Log: s.log, Encryption: keys})
	switch {
	case err == nil:
		defer repo.Close()
		return s.profile(ctx, repo, staging, told)
	case !errors.Is(err, store.ErrNoProfile):
		return "", nil, err
	}
	res, err := s.plain(ctx, bucket, staging, told)
	if err != nil {
		return "", nil, fmt.Errorf("fetch %s: %w", from.URL, err)
	}
	forget := func() error { return migrate.Forget(staging) }
	if res.Files+res.Links+res.Fifos+res.Dirs == 0 {
		return "", nil, forget()
	}
	return staging, forget, nil
}

// profile writes the newest snapshot of another profile into the staging directory.
func (s *source) profile(ctx context.Context, repo *store.Repo, staging string, told func(session.Progress)) (string, func() error, error) {
	head, err := repo.Head(ctx)
	if errors.Is(err, store.ErrNoSnapshot) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	t, err := repo.Tree(ctx, head)
	if err != nil {
		return "", nil, err
	}
	packs, err := temporaryCache(repo)
	if err != nil {
		return "", nil, err
	}
	err = os.RemoveAll(staging) // of one that was cut off
	if err == nil {
		_, err = extract.ToDir(ctx, extract.Config{Tree: t, Source: packs.Cache, Progress: func(p extract.Progress) {
			told(session.Progress{Bytes: p.Bytes, OfBytes: p.OfBytes})
		}}, "", staging)
	}
	return staging, nothing, errors.Join(err, packs.close())
}

// plain fetches one object for each file.
func (s *source) plain(ctx context.Context, bucket *s3.Bucket, staging string, told func(session.Progress)) (migrate.Result, error) {
	filter, err := layer.ParseFilter(s.settings.Filter)
	if err != nil {
		return migrate.Result{}, err
	}
	res, err := migrate.Fetch(ctx, migrate.Config{
		Source: bucket.Plain(), Name: s.settings.Source.URL, Dir: staging,
		UID: int(s.settings.UID), GID: int(s.settings.GID), Filter: filter.Match, Log: s.log,
		Progress: func(p migrate.Progress) {
			told(session.Progress{Files: p.Objects, OfFiles: p.OfObjects, Bytes: p.Bytes, OfBytes: p.OfBytes})
		},
	})
	if err != nil {
		return res, err
	}
	for _, skipped := range res.Skipped {
		s.log.Warn("not migrated", "url", s.settings.URL, "object", skipped.Key, "reason", skipped.Reason)
	}
	for _, note := range res.Notes {
		s.log.Warn("migrated in part", "url", s.settings.URL, "note", note)
	}
	// The directory itself has no object.
	return res, errors.Join(os.Chown(staging, int(s.settings.UID), int(s.settings.GID)), os.Chmod(staging, fs.FileMode(s.settings.Mode)))
}
