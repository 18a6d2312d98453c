package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keepmq/keepmq/internal/edge"
	"github.com/keepmq/keepmq/internal/secret"
)

// edgeCommand runs the agent on a device.
func edgeCommand(e *env) *cobra.Command {
	var broker, dir, tokenFile string
	var interval time.Duration
	var spool int64
	var untilEOF bool
	cmd := &cobra.Command{
		Use:   "edge",
		Short: "Read this machine's own sensors and publish them, as a device",
		Long: `Read this machine's own sensors and publish them, as a device.

The first start enrols the device with a one-time token (keepmq device enrol
TYPE ID makes one): the device makes a key, which never leaves its folder, and
gets a certificate that it renews by itself. Later starts need no token and no
flags but --dir. Readings are kept on disk while the server is away, and arrive
in order, with their own times, none twice.

The token is read from standard input (--token-stdin), from a file
(--token-file), from $KEEPMQ_ENROLMENT_TOKEN, or asked for.`,
		Args: args(0, 0),
	}
	f := cmd.Flags()
	f.StringVar(&broker, "broker", "", "host:port for MQTT (else the server's host and port 8883)")
	f.StringVar(&dir, "dir", "edge-data", "the agent's folder: key, certificate and readings")
	f.StringVar(&tokenFile, "token-file", "", "file that holds the enrolment token")
	f.DurationVar(&interval, "interval", 2*time.Second, "time between two readings of a sensor")
	f.Int64Var(&spool, "spool", edge.DefaultSpool>>20, "how many MiB of readings are kept while the server is away")
	f.BoolVar(&untilEOF, "until-eof", false, "stop when standard input ends, as it does when the program that started this one is gone")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		if untilEOF {
			var stop context.CancelFunc
			ctx, stop = e.untilEOF(ctx)
			defer stop()
		}
		ca, err := edgeCA(e)
		if err != nil {
			return err
		}
		c := edge.Config{
			Dir: dir, Server: first(e.server, e.getenv("KEEPMQ_SERVER")), Broker: broker, CA: ca,
			Token:    func() (secret.String, error) { return edgeToken(e, tokenFile) },
			Interval: interval, Spool: spool << 20,
			Log: slog.New(slog.NewTextHandler(e.errw, nil)),
			Enrolled: func(id edge.Identity) {
				fmt.Fprintf(e.out, "This is %s. Its sensors are read every %v; Ctrl-C stops.\n", id.ClientID(), interval)
			},
		}
		return edgeError(ctx, edge.Run(ctx, c))
	}
	return cmd
}

// untilEOF returns a context that ends when standard input does. The first line
// stays readable, for it may be a token. Nobody can interrupt the reading, so it
// goes on until the program ends.
func (e *env) untilEOF(ctx context.Context) (context.Context, context.CancelFunc) {
	in := bufio.NewReader(e.in)
	line, _ := in.ReadString('\n') // an error is the end, which is seen below
	e.in = strings.NewReader(line)
	ctx, stop := context.WithCancel(ctx)
	go func() {
		defer stop()
		_, _ = io.Copy(io.Discard, in)
	}()
	return ctx, stop
}

// edgeCA returns the CA file's content, or nothing: the folder may remember it.
func edgeCA(e *env) ([]byte, error) {
	name := first(e.ca, e.getenv("KEEPMQ_CA"))
	if name == "" {
		return nil, nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, hint("give the server's CA file with --ca", "read the CA file: %w", err)
	}
	return b, nil
}

// edgeToken returns the enrolment token, or the zero String if there is none.
func edgeToken(e *env, file string) (secret.String, error) {
	in := e.in
	switch {
	case e.tokenStdin:
	case file != "":
		f, err := os.Open(file)
		if err != nil {
			return secret.String{}, hint("give the file that holds the token with --token-file", "read the enrolment token: %w", err)
		}
		defer f.Close() //nolint:errcheck // read only
		in = f
	case e.getenv("KEEPMQ_ENROLMENT_TOKEN") != "":
		return secret.New(e.getenv("KEEPMQ_ENROLMENT_TOKEN")), nil
	default:
		s, _, err := e.ask("enrolment token")
		return s, err
	}
	line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return secret.String{}, fmt.Errorf("read the enrolment token: %w", err)
	}
	return secret.New(strings.TrimSpace(line)), nil
}

// edgeError adds what to do to an agent's problem. An interrupted start is a
// stop like any other.
func edgeError(ctx context.Context, err error) error {
	var p *edge.Problem
	switch {
	case err == nil, ctx.Err() != nil:
		return nil //nolint:nilerr // see above
	case errors.As(err, &p) && p.Do != "":
		return hint(p.Do, "%w", err)
	}
	return err
}
