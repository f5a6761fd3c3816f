package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"valise/store"
)

func printJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func snapshotsCommand() *cobra.Command {
	f := &bucketFlags{}
	var asJSON bool
	cmd := f.add(&cobra.Command{
		Use: "snapshots [flags] URL", Short: "List a profile's snapshots",
		Long: "List a profile's snapshots, newest first. One whose name has a dash is no part of the main\n" +
			"line: it holds what a host saved after another one had taken the profile over." + urlHelp,
		Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			repo, _, err := f.repo(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer repo.Close()
			list, err := repo.Snapshots(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), listed(list))
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "SNAPSHOT\tTIME\tHOST\tFILES\tSIZE\t")
			for _, s := range list {
				note := ""
				if s.Conflict {
					note = "conflict"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", s.Name(), s.Time.Local().Format(time.DateTime), s.Host, s.Files, units.BytesSize(float64(s.Size)), note)
			}
			return w.Flush()
		},
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// listedSnapshot is a snapshot as scripts read it.
type listedSnapshot struct {
	Name     string    `json:"name"`
	Time     time.Time `json:"time"`
	Host     string    `json:"host"`
	Mount    string    `json:"mount"`
	Files    int64     `json:"files"`
	Size     int64     `json:"size"`
	Conflict bool      `json:"conflict"`
}

func listed(list []store.Snapshot) []listedSnapshot {
	out := make([]listedSnapshot, 0, len(list))
	for _, s := range list {
		out = append(out, listedSnapshot{Name: s.Name(), Time: s.Time, Host: s.Host, Mount: s.Mount, Files: s.Files, Size: s.Size, Conflict: s.Conflict})
	}
	return out
}

func checkCommand() *cobra.Command {
	f := &bucketFlags{}
	var asJSON, readData bool
	cmd := f.add(&cobra.Command{
		Use: "check [flags] URL", Short: "Check that a profile is whole",
		Long: "Read every snapshot and its index, and compare what they name with what is there. Exit code 5\n" +
			"says that something is wrong; the output says what, and which snapshots need it." + urlHelp,
		Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			repo, _, err := f.repo(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer repo.Close()
			bar := newProgress(cmd.ErrOrStderr(), "packs", asJSON)
			res, err := repo.Check(cmd.Context(), readData, func(done, of int) { bar.set(int64(done), int64(of)) })
			bar.finish()
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), res)
			} else {
				printCheck(cmd.OutOrStdout(), res, readData)
			}
			if err == nil && len(res.Faults) > 0 {
				return errUnsound
			}
			return err
		},
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&readData, "read-data", false, "read all content too and compare it with its hashes")
	return cmd
}

func printCheck(out io.Writer, res store.CheckResult, readData bool) {
	for _, fault := range res.Faults {
		fmt.Fprintf(out, "%s: %s (snapshots %v)\n", fault.Object, fault.Cause, fault.Snapshots)
	}
	what := "content not read"
	if readData {
		what = units.BytesSize(float64(res.Bytes)) + " of content read"
	}
	verdict := "everything is there"
	if len(res.Faults) > 0 {
		verdict = fmt.Sprintf("%d faults", len(res.Faults))
	}
	fmt.Fprintf(out, "%d snapshots, %d packs (%d unused), %s: %s\n", res.Snapshots, res.Packs, res.Unused, what, verdict)
}

func pruneCommand() *cobra.Command {
	f := &bucketFlags{}
	keep := store.Retention{}
	var asJSON bool
	cmd := f.add(&cobra.Command{
		Use: "prune [flags] URL", Short: "Forget snapshots and delete what nothing needs",
		Long: "Forget snapshots that no --keep rule keeps (without a rule: none; the newest always stays), and\n" +
			"delete content that nothing needs: a first run marks it, and one that runs --grace later deletes\n" +
			"it. It is safe beside mounts on any host; run it every day or so." + urlHelp,
		Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			repo, _, err := f.repo(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer repo.Close()
			res, err := repo.Prune(cmd.Context(), keep)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), res)
			}
			would := ""
			if keep.DryRun {
				would = "would be "
			}
			fmt.Fprintf(cmd.OutOrStdout(), "snapshots %sforgotten: %d %v\nobjects %sdeleted: %d\nobjects %smarked for deletion in %s: %d (%s)\n",
				would, len(res.Forgotten), res.Forgotten, would, res.Deleted, would, keep.Grace, res.Marked, units.BytesSize(float64(res.Bytes)))
			if len(res.Pinned) > 0 {
				fmt.Fprintf(os.Stderr, "kept for mounts on: %v\n", res.Pinned)
			}
			return nil
		},
	})
	flags := cmd.Flags()
	flags.IntVar(&keep.Last, "keep-last", 0, "keep the newest `N`")
	flags.IntVar(&keep.Daily, "keep-daily", 0, "keep the newest of each of the last `N` days that have one")
	flags.IntVar(&keep.Weekly, "keep-weekly", 0, "the same for weeks")
	flags.IntVar(&keep.Monthly, "keep-monthly", 0, "the same for months")
	flags.StringArrayVar(&keep.Forget, "forget", nil, "forget this `SNAPSHOT`; the only way to forget a conflict; may be repeated")
	flags.DurationVar(&keep.Grace, "grace", 24*time.Hour, "time between marking and deleting, longer than any upload takes")
	flags.BoolVar(&keep.DryRun, "dry-run", false, "only say what would be done")
	flags.BoolVar(&keep.Force, "ignore-pins", false, "delete what mounts may still read, because they are known to be dead")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
