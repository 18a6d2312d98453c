package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// root is every command.
func root(e *env) *cobra.Command {
	cmd := group("keepmq", "A TLS-only MQTT broker and device registry.",
		loginCommand(e), logoutCommand(e), whoamiCommand(e),
		orgCommand(e), typeCommand(e), deviceCommand(e), appCommand(e), memberCommand(e), roleCommand(e), groupCommand(e), userCommand(e), issuerCommand(e), sessionCommand(e), meCommand(e), limitCommand(e), lockCommand(e), serverCommand(e), serverCertificateCommand(e), providerCommand(e), supportCommand(e), networkCommand(e), policyCommand(e), explainCommand(e), alertCommand(e), webhookCommand(e),
		credentialCommand(e), teamCommand(e), serviceCommand(e),
		serveCommand(e), edgeCommand(e), pubCommand(e), subCommand(e),
		consoleCommand(e), auditCommand(e), versionCommand(e),
	)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usage(c, "%v", err) })
	f := cmd.PersistentFlags()
	f.BoolVar(&e.json, "json", false, "print JSON, one stable form for programs")
	f.StringVar(&e.org, "org", "", "organisation (else $KEEPMQ_ORG, else the default one)")
	f.StringVar(&e.server, "server", "", "address of the server, as https://host:port (else $KEEPMQ_SERVER, else where you are signed in)")
	f.StringVar(&e.ca, "ca", "", "PEM file with the authorities that signed the server's certificate (else $KEEPMQ_CA)")
	f.StringVar(&e.key, "key", "", "act as the application with this API key, instead of the person who is signed in")
	f.BoolVar(&e.tokenStdin, "token-stdin", false, "read the token of --key from standard input (else $KEEPMQ_TOKEN)")
	return cmd
}

// group is a command that only has commands below it.
func group(use, short string, below ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs}
	cmd.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usage(c, "there is no command %q", c.CommandPath()+" "+args[0])
		}
		return c.Help()
	}
	cmd.AddCommand(below...)
	return cmd
}

// args accepts that many arguments, and says what is missing.
func args(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, given []string) error {
		switch {
		case len(given) < least:
			return usage(c, "%d of %d arguments given", len(given), least)
		case len(given) > most:
			return usage(c, "unexpected argument %q", given[most])
		}
		return nil
	}
}

// usage is a mistake in how a command was called.
func usage(c *cobra.Command, format string, a ...any) error {
	return &usageError{message: fmt.Sprintf(format, a...), hint: "usage: " + c.UseLine() + "; more with --help"}
}
