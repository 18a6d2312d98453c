package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func typeCreate(e *env) *cobra.Command {
	in := struct {
		ID          string `json:"id"`
		Class       string `json:"class"`
		Description string `json:"description,omitempty"`
	}{}
	var gateway bool
	c := &cobra.Command{
		Use: "create ID", Short: "Create a device type", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			in.ID, in.Class = a[0], "Device"
			if gateway {
				in.Class = "Gateway"
			}
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPost, org+"/types", in, e.printType)
		},
	}
	c.Flags().BoolVar(&gateway, "gateway", false, "its devices are gateways, which act for devices attached to them")
	c.Flags().StringVar(&in.Description, "description", "", "for people")
	return c
}
