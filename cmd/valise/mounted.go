package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"valise/session"
)

func syncCommand() *cobra.Command {
	f := &mountFlags{}
	return f.add(&cobra.Command{
		Use:   "sync [flags] DIR",
		Short: "Save a mounted profile now",
		Long: "Save the profile mounted at DIR: when it returns 0, everything written there before is durable\n" +
			"on S3. If it is no longer mounted and an earlier mount left changes unsaved, save those; then\n" +
			"the flags are those of the mount.",
		Args: func(cmd *cobra.Command, args []string) error { return f.wantArgs(cmd, args, 1) },
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.settingsFile != "" {
				return f.notified(f.finishAll(cmd.Context(), args))
			}
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			c, err := session.Dial(session.DefaultRunDir, dir)
			if errors.Is(err, session.ErrNotMounted) {
				return f.finish(cmd.Context(), dir, err)
			}
			if err != nil {
				return err
			}
			return c.Sync(cmd.Context())
		},
	})
}

// finish saves what an earlier mount at dir left.
func (f *mountFlags) finish(ctx context.Context, dir string, notMounted error) error {
	settings, err := f.settings()
	if err != nil {
		return err
	}
	if f.stateDir == "" {
		f.stateDir = settings.StateDir
	}
	pending, err := session.Pending(f.stateDir)
	if err != nil {
		return err
	}
	for _, p := range pending {
		if p.Dir != dir {
			continue
		}
		return f.finishAll(ctx, []string{p.URL, dir})
	}
	return fmt.Errorf("%w, and no changes of an earlier mount there wait in %s", notMounted, f.stateDir)
}

// finishAll saves what an earlier mount of a profile left, without a bound in time.
func (f *mountFlags) finishAll(ctx context.Context, args []string) error {
	cfg, err := f.session(ctx, args)
	if err != nil {
		return err
	}
	_, err = session.Finish(ctx, cfg)
	return err
}

func unmountCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "unmount [flags] DIR", Short: "Unmount a profile and save it",
		Long: "Unmount the profile at DIR, save it and end the process that serves it; 0 says that all is saved.\n" +
			"While programs use the mount it is refused, unless --force is given: they lose it, as on SIGTERM.",
		Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			c, err := session.Dial(session.DefaultRunDir, dir)
			if err != nil {
				return err
			}
			return c.Unmount(cmd.Context(), force)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "unmount although programs use it")
	return cmd
}

func statusCommand() *cobra.Command {
	var asJSON bool
	var stateDir string
	cmd := &cobra.Command{
		Use: "status [DIR]", Short: "Show mounted profiles, and those with unsaved changes",
		Args: func(cmd *cobra.Command, args []string) error { return wantArgs(cmd, args, min(len(args), 1)) },
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := statuses(cmd.Context(), stateDir, args)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(list)
			}
			return printStatuses(cmd.OutOrStdout(), list)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&stateDir, "state-dir", "/var/lib/valise", "`DIR` in which mounts kept their unsaved changes")
	return cmd
}

func statuses(ctx context.Context, stateDir string, args []string) ([]session.Status, error) {
	pending, err := session.Pending(stateDir)
	if err != nil {
		return nil, err
	}
	if len(args) == 1 {
		dir, err := filepath.Abs(args[0])
		if err != nil {
			return nil, err
		}
		c, err := session.Dial(session.DefaultRunDir, dir)
		if errors.Is(err, session.ErrNotMounted) {
			for _, p := range pending {
				if p.Dir == dir {
					return []session.Status{p}, nil
				}
			}
		}
		if err != nil {
			return nil, err
		}
		st, err := c.Status(ctx)
		return []session.Status{st}, err
	}
	list := []session.Status{}
	clients, err := session.Mounts(session.DefaultRunDir)
	if err != nil {
		return nil, err
	}
	for _, c := range clients {
		st, err := c.Status(ctx)
		if err != nil {
			return nil, err
		}
		list = append(list, st)
	}
	return append(list, pending...), nil
}

func printStatuses(out io.Writer, list []session.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DIR\tSTATE\tSNAPSHOT\tSAVED\tSIZE\tURL")
	for _, st := range list {
		state := st.State
		switch {
		case st.State == session.StateMigrating:
			state = "migrating, " + st.Progress.String()
		case st.ReadOnly:
			state = "read-only"
		case st.OverLimit:
			state = "over limit, not saved"
		case st.Conflict:
			state = "conflict, saved aside"
		case st.Error != "":
			state = "not saved: " + st.Error
		}
		saved := "never"
		if !st.LastSave.IsZero() {
			saved = units.HumanDuration(time.Since(st.LastSave)) + " ago"
		} else if !st.SavedAt.IsZero() {
			saved = units.HumanDuration(time.Since(st.SavedAt)) + " ago"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", st.Dir, state, st.Snapshot, saved, units.BytesSize(float64(st.Size)), st.URL)
	}
	return w.Flush()
}
