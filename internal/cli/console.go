package cli

import (
	"fmt"
	"net/url"

	"github.com/spf13/cobra"
)

func consoleCommand(e *env) *cobra.Command {
	return group("console", "The web console", consoleLink(e))
}

func consoleLink(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "link", Short: "Print a link that signs you in to the console once", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			return e.newCode(c, "console", func(code string) error {
				_, err := fmt.Fprintln(e.out, r.server+"/sign-in/"+url.PathEscape(code))
				return err
			})
		},
	}
}
