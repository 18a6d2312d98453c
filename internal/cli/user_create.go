package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func userCreate(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "create NAME", Short: "Create a plain MQTT user and print its password, this once", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			in := map[string]string{}
			if len(a) > 0 {
				in["name"] = a[0]
			}
			err = one(c.Context(), e, r, http.MethodPost, org+"/users", in, e.printUser)
			if err == nil && !e.json {
				e.note("The password is shown this once; the server keeps a hash only.")
			}
			return err
		},
	}
}
