package cli

import (
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

type certificate struct {
	Serial  string    `json:"serial"`
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
}

func deviceCerts(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "certs TYPE ID", Short: "List the certificates of a device", Args: args(2, 2),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodGet, join(org+"/devices", a...)+"/certificates", nil, func(l list[certificate]) error {
				if len(l.Items) == 0 {
					e.note("there are none")
					return nil
				}
				var rows [][]string
				for _, x := range l.Items {
					rows = append(rows, []string{x.Serial, day(x.Issued), day(x.Expires)})
				}
				return e.table([]string{"SERIAL", "ISSUED", "UNTIL"}, rows)
			})
		},
	}
}

func deviceRevoke(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "revoke TYPE ID SERIAL", Short: "Revoke a certificate of a device, and end what it connected", Args: args(3, 3),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			path := join(join(org+"/devices", a[:2]...)+"/certificates", a[2])
			if err := r.call(c.Context(), http.MethodDelete, path, nil, nil); err != nil {
				return err
			}
			return e.done("Revoked certificate %s.", a[2])
		},
	}
}
