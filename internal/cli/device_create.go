package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func deviceCreate(e *env) *cobra.Command {
	in := struct {
		Type      string `json:"type"`
		ID        string `json:"id"`
		Gateway   string `json:"gateway,omitempty"`
		Registers bool   `json:"registers,omitempty"`
	}{}
	c := &cobra.Command{
		Use: "create TYPE ID", Short: "Create a device and print its token, this once", Args: args(2, 2),
		Example: "  keepmq type create sensor\n  keepmq device create sensor hall-1",
		RunE: func(c *cobra.Command, a []string) error {
			in.Type, in.ID = a[0], a[1]
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			err = one(c.Context(), e, r, http.MethodPost, org+"/devices", in, e.printDevice)
			if err == nil && !e.json {
				e.note("The token is shown this once; the server keeps a hash only.")
			}
			return err
		},
	}
	c.Flags().StringVar(&in.Gateway, "gateway", "", "the gateway it is attached to, as TYPE:ID")
	c.Flags().BoolVar(&in.Registers, "registers", false, "of a gateway: it may register devices by speaking for them")
	return c
}
