package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"valise/cache"
	"valise/extract"
	"valise/layer"
	"valise/session"
	"valise/store"
)

// extractFlags are those of restore and export.
type extractFlags struct {
	bucketFlags
	snapshot, path    string
	overwrite, asJSON bool
}

func (f *extractFlags) add(cmd *cobra.Command) *cobra.Command {
	f.bucketFlags.add(cmd)
	cmd.Flags().StringVar(&f.snapshot, "snapshot", "", "take this `SNAPSHOT`, as valise snapshots names it (default: the newest)")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print JSON")
	return cmd
}

func restoreCommand() *cobra.Command {
	f := &extractFlags{}
	cmd := f.add(&cobra.Command{
		Use: "restore [flags] URL DIR", Short: "Write a snapshot's files into a directory",
		Long: "Write a snapshot's files, or those below --path, into DIR, with all their attributes. DIR may be\n" +
			"a mounted profile. Without --overwrite it must be empty or new." + urlHelp,
		Args: func(cmd *cobra.Command, args []string) error { return wantArgs(cmd, args, 2) },
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0], args[1]) },
	})
	cmd.Flags().StringVar(&f.path, "path", "", "only this file or directory `P` of the home")
	cmd.Flags().BoolVar(&f.overwrite, "overwrite", false, "replace files that are there")
	return cmd
}

func exportCommand() *cobra.Command {
	f := &extractFlags{}
	return f.add(&cobra.Command{
		Use: "export [flags] URL DIR|-", Short: "Write a whole snapshot into a new directory, or as tar to standard output",
		Long: "Write a whole snapshot into a new directory, or with - as a tar archive to standard output." + urlHelp,
		Args: func(cmd *cobra.Command, args []string) error { return wantArgs(cmd, args, 2) },
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0], args[1]) },
	})
}

func (f *extractFlags) run(cmd *cobra.Command, url, dir string) (err error) {
	ctx := cmd.Context()
	repo, _, err := f.repo(ctx, url)
	if err != nil {
		return err
	}
	defer repo.Close()
	snapshot, err := repo.Find(ctx, f.snapshot)
	if err != nil {
		return err
	}
	t, err := repo.Tree(ctx, snapshot)
	if err != nil {
		return err
	}
	packs, err := temporaryCache(repo)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, packs.close()) }()
	bar := newProgress(cmd.ErrOrStderr(), "bytes", f.asJSON)
	cfg := extract.Config{Tree: t, Source: packs.Cache, Overwrite: f.overwrite, Progress: func(p extract.Progress) { bar.set(p.Bytes, p.OfBytes) }}
	out := cmd.OutOrStdout()
	var res extract.Result
	if dir == "-" {
		res, err = extract.ToTar(ctx, cfg, f.path, os.Stdout)
		out = cmd.ErrOrStderr()
	} else {
		res, err = extract.ToDir(ctx, cfg, f.path, dir)
	}
	bar.finish()
	if err != nil {
		return err
	}
	for _, note := range res.Notes {
		fmt.Fprintln(os.Stderr, "valise:", note)
	}
	if f.asJSON {
		return printJSON(out, res)
	}
	_, err = fmt.Fprintf(out, "snapshot %s: %d files, %d directories, %s\n", snapshot.Name(), res.Files, res.Dirs, units.BytesSize(float64(res.Bytes)))
	return err
}

// packsAside is a cache in a directory of its own.
type packsAside struct {
	*cache.Cache
	dir string
}

func temporaryCache(repo *store.Repo) (*packsAside, error) {
	dir, err := os.MkdirTemp("", "valise-packs-")
	if err != nil {
		return nil, err
	}
	c, err := cache.Open(cache.Config{Dir: dir, Limit: 512 << 20, Bucket: repo.Bucket(), Coder: repo.Coder()})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &packsAside{c, dir}, nil
}

func (p *packsAside) close() error {
	p.Close()
	return os.RemoveAll(p.dir)
}

func importCommand() *cobra.Command {
	f := &mountFlags{}
	var asJSON bool
	cmd := f.add(&cobra.Command{
		Use: "import [flags] DIR URL", Short: "Make a new profile from a directory",
		Long: "Make a new profile on S3 from a directory, which is left as it is and to which nobody should\n" +
			"write meanwhile. What an import that was cut off has uploaded is used by the next one." + urlHelp,
		Args: func(cmd *cobra.Command, args []string) error { return f.wantArgs(cmd, args, 2) },
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.settingsFile != "" {
				return f.notified(f.migrate(cmd.Context()))
			}
			cfg, err := f.session(cmd.Context(), []string{args[1], args[0]})
			if err != nil {
				return err
			}
			bar := newProgress(cmd.ErrOrStderr(), "bytes", asJSON)
			s, skipped, err := session.Import(cmd.Context(), cfg, cfg.Dir, func(p session.Progress) { bar.set(p.Bytes, p.OfBytes) })
			bar.finish()
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), struct {
					listedSnapshot
					Skipped []layer.Skipped `json:"skipped"`
				}{listed([]store.Snapshot{s})[0], skipped})
			}
			for _, s := range skipped {
				fmt.Fprintf(os.Stderr, "valise: not saved: %s: %s\n", s.Path, s.Reason)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "snapshot %s: %d files, %s\n", s.Name(), s.Files, units.BytesSize(float64(s.Size)))
			return err
		},
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
