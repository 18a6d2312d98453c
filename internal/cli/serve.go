package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keepmq/keepmq/internal/config"
	"github.com/keepmq/keepmq/internal/node"
)

// serveCommand starts the server.
func serveCommand(e *env) *cobra.Command {
	var file string
	var check bool
	c := config.Default()
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Start the server",
		Long: `Start the server in a data folder, with defaults for everything.

The first start creates the authorities, the keys, the first organisation and
the first administrator, and prints how to sign in, once. Later starts go on
with what is there. Ctrl-C stops it gracefully.

A configuration file (--config) holds what the flags set, and more; the flags
win. The keys, with their defaults:

` + config.Describe(),
		Args: args(0, 0),
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "configuration file (YAML)")
	f.BoolVar(&check, "check", false, "check the configuration and whether its database can be reached, report every mistake, and end")
	f.StringVar(&c.Data, "data", c.Data, "data folder")
	f.StringVar(&c.MQTT.Listen, "mqtt", c.MQTT.Listen, "address:port for MQTT, WebSocket and HTTPS messaging")
	f.StringVar(&c.HTTPS.Listen, "https", c.HTTPS.Listen, "address:port for the console and the API")
	f.BoolVar(&c.Edge.Enabled, "edge", c.Edge.Enabled, "read this machine's own sensors, as a first edge device")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		loaded, err := config.Load(file)
		if err != nil {
			return mistakes(err)
		}
		for flag, set := range map[string]func(){
			"data":  func() { loaded.Data = c.Data },
			"mqtt":  func() { loaded.MQTT.Listen = c.MQTT.Listen },
			"https": func() { loaded.HTTPS.Listen = c.HTTPS.Listen },
			"edge":  func() { loaded.Edge.Enabled = c.Edge.Enabled },
		} {
			if f.Changed(flag) {
				set()
			}
		}
		if err := loaded.Validate(); err != nil {
			return mistakes(err)
		}
		if check {
			return checkConfig(cmd.Context(), e, loaded)
		}
		return serve(cmd.Context(), e, loaded)
	}
	return cmd
}

// checkConfig says that a configuration without mistakes is good, once the
// database that it names was reached.
func checkConfig(ctx context.Context, e *env, c config.Config) error {
	if err := node.CheckStore(ctx, c); err != nil {
		return fmt.Errorf("the configuration has no mistakes, but its database cannot be used: %w", err)
	}
	fmt.Fprintln(e.out, "The configuration is good.")
	if c.Store.Driver == config.Postgres {
		fmt.Fprintln(e.out, "The database can be reached and used.")
	}
	return nil
}

func serve(ctx context.Context, e *env, c config.Config) error {
	n, err := node.Open(ctx, c, version(), logger(e.errw, c.Log))
	if err != nil {
		return err
	}
	if err := newWelcome(n).print(e); err != nil {
		return errors.Join(err, n.Close())
	}
	return n.Run(ctx)
}

// mistakes is a configuration that cannot be used: every mistake on a line.
func mistakes(err error) error {
	lines := strings.ReplaceAll(err.Error(), "\n", "\n  ")
	return &usageError{message: "the configuration has mistakes:\n  " + lines, hint: "keepmq serve --help lists every key"}
}

func logger(w io.Writer, c config.Log) *slog.Logger {
	o := &slog.HandlerOptions{Level: c.Level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
