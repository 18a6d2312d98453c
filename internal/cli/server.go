package cli

import (
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func serverCommand(e *env) *cobra.Command {
	return group("server", "Look at the server itself, as its administrator", serverCertificates(e), serverName(e, true), serverName(e, false))
}

func serverCertificates(e *env) *cobra.Command {
	type certificate struct {
		From, Org, Issuer, Problem string
		Names                      []string
		Ends                       *time.Time
	}
	return &cobra.Command{
		Use: "certificates", Short: "List the certificates that the server shows, and those that should be there", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodGet, "/server/certificates", nil, func(l list[certificate]) error {
				rows := make([][]string, 0, len(l.Items))
				for _, x := range l.Items {
					names, ends := strings.Join(x.Names, " "), "(none yet)"
					if names == "" {
						names = "(all others)"
					}
					if x.Ends != nil {
						ends = x.Ends.UTC().Format(time.RFC3339)
					}
					from := x.From
					if x.Org != "" {
						from += " " + x.Org
					}
					rows = append(rows, []string{names, from, ends, x.Issuer, x.Problem})
				}
				return e.table([]string{"FOR", "FROM", "ENDS", "ISSUER", "PROBLEM"}, rows)
			})
		},
	}
}
