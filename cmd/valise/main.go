// Command valise gives every user a persistent home in every container: `valise plugin`
// is the Docker volume driver, `valise proxy` the Engine API proxy, and the rest is for
// the operator.
//
// This package holds flags, wiring and exit codes, and nothing else: 0 is success, 1 a
// failure (a faulty configuration too), 2 a wrong command line, 3 unsaved changes remain
// on this host, 4 another host has the profile, 5 a check found something wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"valise/session"
	"valise/store"
)

// version is set by the linker.
var version = ""

// errUsage marks an error of the command line.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := root().ExecuteContext(ctx)
	if err == nil {
		return
	}
	var code exitCode
	if !errors.As(err, &code) {
		fmt.Fprintln(os.Stderr, "valise:", err)
	}
	os.Exit(exitCodeOf(err))
}

// exitCode is what another process of ours ended with, after it said why.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// errUnsound says that a check found something wrong, and has said what.
const errUnsound exitCode = 5

func exitCodeOf(err error) int {
	var code exitCode
	var held *store.HeldError
	switch {
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, errUsage):
		return 2
	case errors.Is(err, session.ErrUnsaved):
		return 3
	case errors.As(err, &held), errors.Is(err, session.ErrLocked):
		return 4
	}
	return 1
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "valise",
		Short: "A persistent home for every user in every container",
		Long: "valise is a Docker volume driver and an Engine API proxy that give every user a\n" +
			"persistent home, and the folders of their workspace and groups, in every container.",
		SilenceErrors: true, SilenceUsage: true,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w (%w: %s)", err, errUsage, cmd.UseLine())
	})
	cmd.AddCommand(pluginCommand(), proxyCommand(), configCommand(), profileCommand(), reloadCommand(), versionCommand(),
		mountCommand(), syncCommand(), statusCommand(), unmountCommand(), snapshotsCommand(), restoreCommand(), exportCommand(),
		importCommand(), checkCommand(), pruneCommand(), drainCommand(), rekeyCommand())
	return cmd
}

// noArgs refuses arguments as an error of the command line.
func noArgs(cmd *cobra.Command, args []string) error { return wantArgs(cmd, args, 0) }

func oneArg(cmd *cobra.Command, args []string) error { return wantArgs(cmd, args, 1) }

func wantArgs(cmd *cobra.Command, args []string, n int) error {
	if len(args) == n {
		return nil
	}
	if n == 0 {
		return fmt.Errorf("unexpected %q (%w: %s)", args[0], errUsage, cmd.UseLine())
	}
	return fmt.Errorf("want %d argument, got %d (%w: %s)", n, len(args), errUsage, cmd.UseLine())
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), buildVersion()) },
	}
}

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
