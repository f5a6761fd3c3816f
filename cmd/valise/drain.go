package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"valise/fleet"
	"valise/session"
)

func drainCommand() *cobra.Command {
	var address string
	var asJSON, undo bool
	cmd := &cobra.Command{
		Use: "drain", Short: "Save everything before this host is taken away",
		Long: "Save every profile on S3 that this host serves or has unsaved changes of, and say of each what\n" +
			"became of it. From then on the driver mounts no profile on S3, until --undo or its restart.\n" +
			"Sessions that are up go on: stop them and drain again, for what they write later.\n\n" +
			"Exit code 0: everything is on S3, and nothing is mounted. 3: something is not; the output says\n" +
			"what and why.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a := newAdmin(address)
			if undo {
				return a.call(cmd.Context(), http.MethodPost, "/undrain", nil, nil)
			}
			left := 0
			err := a.stream(cmd.Context(), "/drain", func(d fleet.Drained) error {
				if !d.Saved || d.State == session.StateMounted {
					left++
				}
				return printDrained(cmd.OutOrStdout(), d, asJSON)
			})
			if err == nil && left > 0 {
				err = fmt.Errorf("%w: %d profile(s)", errLeft, left)
			}
			return err
		},
	}
	adminFlag(cmd, &address)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, a line for each profile")
	cmd.Flags().BoolVar(&undo, "undo", false, "have the driver mount profiles again")
	return cmd
}

// errLeft says that a host can't be taken away yet.
var errLeft = fmt.Errorf("%w, or are in use, on this host", session.ErrUnsaved)

func printDrained(out io.Writer, d fleet.Drained, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(d)
	}
	result := "saved"
	switch {
	case d.Error != "":
		result = "NOT SAVED: " + d.Error
	case d.State == session.StateMounted:
		result = "saved up to now, and still in use"
	}
	_, err := fmt.Fprintf(out, "%s: %s\n", d.URL, result)
	return err
}
