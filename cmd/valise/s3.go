package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"valise/config"
	"valise/store"
	"valise/store/s3"
)

// bucketFlags say how to reach a profile on S3.
type bucketFlags struct {
	config string
	debug  bool
}

func (f *bucketFlags) add(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&f.config, "config", "", "take the credentials and state_dir of this configuration `FILE`, not the AWS environment's")
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

func (f *bucketFlags) logger(cfg *config.Config) *slog.Logger {
	level := cfg.LogLevel
	if f.debug {
		level = slog.LevelDebug
	}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// bucket returns the bucket of a URL and the URL's canonical form.
func (f *bucketFlags) bucket(ctx context.Context, cfg *config.Config, url string) (*s3.Bucket, string, error) {
	at, err := s3.ParseURL(url)
	if err != nil {
		return nil, "", fmt.Errorf("%w (%w)", err, errUsage)
	}
	c := s3.Config{
		Location: at, Region: cfg.S3.Region, AccessKeyID: cfg.S3.AccessKeyID,
		RequestChecksumCalculation: cfg.S3.RequestChecksumCalculation,
		ResponseChecksumValidation: cfg.S3.ResponseChecksumValidation,
		Log:                        f.logger(cfg),
	}
	if os.Getenv("AWS_ACCESS_KEY_ID") == s3.IAM && c.AccessKeyID == "" {
		c.AccessKeyID = s3.IAM
	}
	if name := cfg.S3.SecretAccessKeyFile; name != "" {
		secret, err := os.ReadFile(name)
		if err != nil {
			return nil, "", fmt.Errorf("read the secret access key: %w", err)
		}
		c.SecretAccessKey = strings.TrimSpace(string(secret))
	}
	b, err := s3.New(ctx, c)
	return b, at.String(), err
}

// repo opens the profile at a URL.
func (f *bucketFlags) repo(ctx context.Context, url string) (*store.Repo, *config.Config, error) {
	cfg, err := f.settings()
	if err != nil {
		return nil, nil, err
	}
	bucket, name, err := f.bucket(ctx, cfg, url)
	if err != nil {
		return nil, nil, err
	}
	repo, err := store.Open(ctx, store.Config{Bucket: bucket, Log: f.logger(cfg)})
	if errors.Is(err, store.ErrNoProfile) {
		return nil, nil, fmt.Errorf("%s: %w; valise mount and valise import make one", name, err)
	}
	return repo, cfg, err
}
