package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"valise/config"
	"valise/fleet"
	"valise/store"
	"valise/store/s3"
)

// rekeyed is what became of one profile.
type rekeyed struct {
	URL     string `json:"url"`
	Changed bool   `json:"changed"`
	Error   string `json:"error,omitempty"`
}

func rekeyCommand() *cobra.Command {
	f := &bucketFlags{}
	var asJSON bool
	cmd := f.add(&cobra.Command{
		Use: "rekey [flags] URL", Short: "Wrap the keys of encrypted profiles with a new master key",
		Long: "Wrap the data key of each profile at or below URL with the first key of the master key file.\n" +
			"Content is not rewritten, and sessions go on. To rotate: put the new key before the old one in the\n" +
			"file, on all hosts; run this; run it again, until it finds nothing to do; take the old key out.\n" +
			"It can be stopped and run again at any time. Exit code 1: some could not be done." + urlHelp,
		Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			failed, list := 0, []rekeyed{}
			bar := newProgress(cmd.ErrOrStderr(), "profiles", asJSON)
			err := f.rekey(cmd.Context(), args[0], func(r rekeyed, of int) {
				list = append(list, r)
				if r.Error != "" {
					failed++
				}
				bar.set(int64(len(list)), int64(of))
			})
			bar.finish()
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), list)
			} else {
				printRekeyed(cmd, list)
			}
			if err == nil && failed > 0 {
				err = fmt.Errorf("%d of %d profiles could not be done", failed, len(list))
			}
			return err
		},
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printRekeyed(cmd *cobra.Command, list []rekeyed) {
	changed := 0
	for _, r := range list {
		switch {
		case r.Error != "":
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", r.URL, r.Error)
		case r.Changed:
			changed++
		}
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%d profiles, %d wrapped anew\n", len(list), changed)
}

// rekey does all profiles at or below url and tells of each, and how many there are.
func (f *bucketFlags) rekey(ctx context.Context, url string, told func(rekeyed, int)) error {
	cfg, err := f.settings()
	if err != nil {
		return err
	}
	top, err := s3.ParseURL(url)
	if err != nil {
		return fmt.Errorf("%w (%w)", err, errUsage)
	}
	storage := storageOf(cfg, top.String())
	file := f.masterKey
	if file == "" {
		file = storage.MasterKeyFile
	}
	if file == "" {
		return fmt.Errorf("say which --master-key-file (%w)", errUsage)
	}
	keys, err := encryption(fleet.Encryption{MasterKeyFile: file})
	if err != nil {
		return err
	}
	access := accessTo(cfg, storage)
	access.Role = nil // a role is for one profile
	found, err := f.profilesBelow(ctx, cfg, top, access)
	if err != nil {
		return err
	}
	for _, at := range found {
		r := rekeyed{URL: at.String()}
		b, err := openBucket(ctx, at.String(), access, logger(f.level(cfg), cfg.LogFormat))
		if err == nil {
			r.Changed, err = store.Rekey(ctx, store.Config{Bucket: b, Encryption: keys})
			b.Close()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.Error = err.Error()
		}
		told(r, len(found))
	}
	return nil
}

// profilesBelow finds the profiles at and below a place.
func (f *bucketFlags) profilesBelow(ctx context.Context, cfg *config.Config, at s3.Location, access fleet.Access) ([]s3.Location, error) {
	log := logger(f.level(cfg), cfg.LogFormat)
	var found []s3.Location
	for todo := []s3.Location{at}; len(todo) > 0; todo = todo[1:] {
		b, err := openBucket(ctx, todo[0].String(), access, log)
		if err != nil {
			return nil, err
		}
		here, err := store.Exists(ctx, b)
		var names []string
		if err == nil && !here {
			names, err = b.Folders(ctx, todo[0].Prefix)
		}
		b.Close()
		if err != nil {
			return nil, err
		}
		if here {
			found = append(found, todo[0])
		}
		for _, name := range names {
			todo = append(todo, s3.Location{Bucket: at.Bucket, Endpoint: at.Endpoint, Prefix: todo[0].Prefix + name + "/"})
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("there is no profile at or below %s", at)
	}
	return found, nil
}
