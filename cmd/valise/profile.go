package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"text/tabwriter"

	"valise/plugin"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
)

func profileCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "profile", Short: "List, show, reset and purge profiles", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(profileList(), profileShow(), profileReset(), profilePurge())
	return cmd
}

// profileFlags are what the profile commands share.
type profileFlags struct {
	admin     string
	json, yes bool
	selection plugin.Selection
}

func (f *profileFlags) add(cmd *cobra.Command, selects bool) *cobra.Command {
	adminFlag(cmd, &f.admin)
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	if selects {
		cmd.Flags().StringVarP(&f.selection.Workspace, "workspace", "w", "", "only in this `WORKSPACE`")
		cmd.Flags().StringVar(&f.selection.UserID, "user-id", "", "the user's `ID`, where paths hold it and [users] does not")
	}
	return cmd
}

// ask sends the selection to the driver and prints what it answers.
func (f *profileFlags) ask(cmd *cobra.Command, path, done string) error {
	var list []plugin.Profile
	if err := newAdmin(f.admin).call(cmd.Context(), http.MethodPost, path, f.selection, &list); err != nil {
		return err
	}
	if len(list) == 0 {
		return fmt.Errorf("user %q has no such profile", f.selection.User)
	}
	if f.json || done == "" {
		return printProfiles(cmd.OutOrStdout(), list, f.json)
	}
	for _, p := range list {
		fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", done, p.Path)
	}
	return nil
}

func profileList() *cobra.Command {
	f := &profileFlags{}
	return f.add(&cobra.Command{
		Use: "ls", Short: "List every profile", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []plugin.Profile
			if err := newAdmin(f.admin).call(cmd.Context(), http.MethodGet, "/profiles", nil, &list); err != nil {
				return err
			}
			return printProfiles(cmd.OutOrStdout(), list, f.json)
		},
	}, false)
}

func profileShow() *cobra.Command {
	f := &profileFlags{}
	return f.add(&cobra.Command{
		Use: "show USER", Short: "Show a user's profiles", Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.selection.User = args[0]
			return f.ask(cmd, "/profiles/show", "")
		},
	}, true)
}

func profileReset() *cobra.Command {
	f := &profileFlags{}
	return f.add(&cobra.Command{
		Use: "reset USER --workspace WORKSPACE", Short: "Empty a user's profile in a workspace",
		Long: "Delete what is in a user's profile in a workspace and make it anew, with its skeleton.\n" +
			"A profile that a container has mounted is not reset.",
		Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.selection.Workspace == "" {
				return fmt.Errorf("say which --workspace (%w: %s)", errUsage, cmd.UseLine())
			}
			f.selection.User = args[0]
			return f.ask(cmd, "/profiles/reset", "reset")
		},
	}, true)
}

func profilePurge() *cobra.Command {
	f := &profileFlags{}
	cmd := f.add(&cobra.Command{
		Use: "purge USER", Short: "Delete a user's profiles",
		Long: "Delete a user's profiles for ever, in all workspaces or in one. While a container has\n" +
			"one of them mounted, none is deleted. Without --yes it only shows what would go.",
		Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.selection.User, f.selection.DryRun = args[0], !f.yes
			if f.yes {
				return f.ask(cmd, "/profiles/purge", "purged")
			}
			if err := f.ask(cmd, "/profiles/purge", "would purge"); err != nil {
				return err
			}
			if !f.json {
				fmt.Fprintln(os.Stderr, "nothing was deleted; say --yes to delete")
			}
			return nil
		},
	}, true)
	cmd.Flags().BoolVar(&f.yes, "yes", false, "really delete")
	return cmd
}

func printProfiles(out io.Writer, list []plugin.Profile, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(list)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "WORKSPACE\tUSER\tMOUNTS\tUSAGE\tLIMIT\tPATH")
	for _, p := range list {
		user, usage, limit := p.User, "-", "-"
		if user == "" {
			user = "id " + p.UserID
		}
		if p.UsageBytes != nil {
			usage = units.BytesSize(float64(*p.UsageBytes))
		}
		if p.LimitBytes > 0 {
			limit = units.BytesSize(float64(p.LimitBytes))
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\n", p.Workspace, user, p.Mounts, usage, limit, p.Path)
	}
	return w.Flush()
}
