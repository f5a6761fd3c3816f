package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"valise/config"

	"github.com/spf13/cobra"
)

// defaultConfig is where the configuration is looked for.
const defaultConfig = "/etc/valise/config.toml"

func configFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "config", defaultConfig, "configuration `FILE`")
}

func configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Work on configuration files", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var asJSON bool
	check := &cobra.Command{
		Use:   "check FILE",
		Short: "Report every fault of a configuration file",
		Long: "Report every fault of a configuration file, and what deserves a warning, with its\n" +
			"line. Exit code 0: the file is good, perhaps with warnings; 1: it has faults.",
		Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			return checkConfig(cmd.OutOrStdout(), args[0], asJSON)
		},
	}
	check.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.AddCommand(check)
	return cmd
}

// errFaults says that the faults have been printed.
var errFaults = errors.New("the configuration has faults")

func checkConfig(out io.Writer, path string, asJSON bool) error {
	var report struct {
		Faults   config.Faults `json:"faults"`
		Warnings config.Faults `json:"warnings"`
	}
	cfg, err := config.Load(path)
	if cfg != nil {
		report.Warnings = cfg.Warnings
	}
	if err != nil && !errors.As(err, &report.Faults) {
		return err
	}
	if asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(report); err != nil {
			return err
		}
	} else {
		for _, f := range report.Faults {
			fmt.Fprintln(out, f)
		}
		for _, f := range report.Warnings {
			fmt.Fprintln(out, "warning:", f)
		}
	}
	if len(report.Faults) > 0 {
		return fmt.Errorf("%q: %w: %d", path, errFaults, len(report.Faults))
	}
	if !asJSON {
		fmt.Fprintf(out, "%s is good\n", path)
	}
	return nil
}

func logWarnings(log *slog.Logger, cfg *config.Config) {
	for _, w := range cfg.Warnings {
		log.Warn("configuration", "warning", w.String())
	}
}

// reloader reads the configuration again on SIGHUP. A file with faults changes nothing.
type reloader struct {
	path  string
	log   *slog.Logger
	apply func(*config.Config)
}

func (r *reloader) reload() error {
	cfg, err := config.Load(r.path)
	if err != nil {
		r.log.Error("the configuration stays as it was", "file", r.path, "error", err)
		return fmt.Errorf("the configuration stays as it was:\n%w", err)
	}
	logWarnings(r.log, cfg)
	r.apply(cfg)
	r.log.Info("configuration reloaded", "file", r.path)
	return nil
}

// onHangup reloads at each SIGHUP until stop is called.
func (r *reloader) onHangup() (stop func()) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range hangup {
			_ = r.reload() // logged
		}
	}()
	return func() {
		signal.Stop(hangup)
		close(hangup)
		<-done
	}
}
