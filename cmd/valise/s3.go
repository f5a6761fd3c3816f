package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"valise/config"
	"valise/fleet"
	"valise/store"
	"valise/store/s3"
)

// bucketFlags say how to reach a profile on S3.
type bucketFlags struct {
	config    string
	masterKey string
	debug     bool
}

func (f *bucketFlags) add(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&f.config, "config", "", "take the credentials and state_dir of this configuration `FILE`, not the AWS environment's")
	cmd.Flags().StringVar(&f.masterKey, "master-key-file", "", "`FILE` of the master keys of encrypted profiles (default: that of the storage provider in --config)")
	cmd.Flags().BoolVar(&f.debug, "debug", false, "log each retry of a request")
	return cmd
}

// urlHelp ends the help of commands that take a URL.
const urlHelp = "\n\nURL is s3://BUCKET[@ENDPOINT]/PREFIX/; ENDPOINT is a host[:port], with http:// before it\n" +
	"where there is no TLS. Credentials are those of [s3] in --config, else of the usual AWS\n" +
	"environment variables and files; AWS_ACCESS_KEY_ID={IAM} is the instance's role."

// settings are what a command takes from the configuration, if one is named.
func (f *bucketFlags) settings() (*config.Config, error) {
	if f.config == "" {
		return &config.Config{StateDir: "/var/lib/valise"}, nil
	}
	return config.Load(f.config)
}

func (f *bucketFlags) level(cfg *config.Config) slog.Level {
	if f.debug {
		return slog.LevelDebug
	}
	return cfg.LogLevel
}

// repo opens the profile at a URL.
func (f *bucketFlags) repo(ctx context.Context, url string) (*store.Repo, *config.Config, error) {
	cfg, err := f.settings()
	if err != nil {
		return nil, nil, err
	}
	at, err := s3.ParseURL(url)
	if err != nil {
		return nil, nil, fmt.Errorf("%w (%w)", err, errUsage)
	}
	log, storage := logger(f.level(cfg), cfg.LogFormat), storageOf(cfg, at.String())
	keys, err := encryption(fleet.Encryption{MasterKeyFile: cmp.Or(f.masterKey, storage.MasterKeyFile)})
	if err != nil {
		return nil, nil, err
	}
	bucket, err := openBucket(ctx, at.String(), accessTo(cfg, storage), log)
	if err != nil {
		return nil, nil, err
	}
	repo, err := store.Open(ctx, store.Config{Bucket: bucket, Log: log, Encryption: keys})
	if errors.Is(err, store.ErrNoProfile) {
		return nil, nil, fmt.Errorf("%s: %w; valise mount and valise import make one", at, err)
	}
	return repo, cfg, err
}
