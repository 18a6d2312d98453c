package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func orgCreate(e *env) *cobra.Command {
	in := struct {
		ID      string `json:"id,omitempty"`
		Name    string `json:"name"`
		Profile string `json:"profile"`
	}{}
	c := &cobra.Command{
		Use: "create NAME", Short: "Create an organisation", Args: args(1, 1),
		Example: "  keepmq org create \"North plant\"\n  keepmq org create --profile plain \"MQTT users\"",
		RunE: func(c *cobra.Command, a []string) error {
			in.Name = a[0]
			r, err := e.remote()
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPost, "/orgs", in, e.printOrg)
		},
	}
	c.Flags().StringVar(&in.ID, "id", "", "six lower-case letters or digits (else the server makes one)")
	c.Flags().StringVar(&in.Profile, "profile", "iot-2", "its topics: iot-2 for devices and applications, plain for MQTT users")
	return c
}
