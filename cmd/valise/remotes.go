package main

import (
	"context"
	"path"
	"strings"

	"valise/config"
	"valise/plugin"
	"valise/profile"
	"valise/store"
	"valise/store/s3"
)

// upkeepOf is what the configuration says of prunes and checks.
func upkeepOf(cfg *config.Config) plugin.Upkeep {
	u := cfg.S3.Upkeep
	return plugin.Upkeep{
		Off: u.Off, Interval: u.Interval, CheckInterval: u.CheckInterval, CheckData: u.CheckData,
		Keep: store.Retention{Last: u.KeepLast, Daily: u.KeepDaily, Weekly: u.KeepWeekly, Monthly: u.KeepMonthly, Grace: u.Grace},
	}
}

// storedProfiles finds the URLs of all profiles of a storage.
func storedProfiles(cfg *config.Config) func(context.Context, *profile.Storage) ([]string, error) {
	return func(ctx context.Context, s *profile.Storage) ([]string, error) {
		access := accessTo(cfg, s)
		access.Role = nil // a role is for one profile
		any, err := openBucket(ctx, s.Bucket+"/x/", access, logger(cfg.LogLevel, cfg.LogFormat))
		if err != nil {
			return nil, err
		}
		defer any.Close()
		names, err := expand(ctx, any, "", strings.Split(strings.Trim(s.Prefix.String(), "/"), "/"))
		if err != nil {
			return nil, err
		}
		var urls []string
		for _, name := range names {
			if url := s.Bucket + "/" + name; matches(s, url) {
				urls = append(urls, url)
			}
		}
		return urls, nil
	}
}

func matches(s *profile.Storage, url string) bool {
	_, ok := s.Match(url)
	return ok
}

// expand lists what there is below prefix for a path whose parts may hold tokens.
func expand(ctx context.Context, b *s3.Bucket, prefix string, parts []string) ([]string, error) {
	if len(parts) == 0 {
		return []string{prefix}, nil
	}
	names := []string{parts[0]}
	if strings.Contains(parts[0], "{") {
		var err error
		if names, err = b.Folders(ctx, prefix); err != nil {
			return nil, err
		}
	}
	var out []string
	for _, name := range names {
		found, err := expand(ctx, b, path.Join(prefix, name)+"/", parts[1:])
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}
