package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func orgCreate(e *env) *cobra.Command {
	in := struct {
		ID      string       `json:"id,omitempty"`
		Name    string       `json:"name"`
		Profile string       `json:"profile"`
		Home    *homeOptions `json:"home,omitempty"`
	}{}
	var home homeOptions
	c := &cobra.Command{
		Use: "create NAME", Short: "Create an organisation", Args: args(1, 1),
		Example: "  keepmq org create \"North plant\"\n  keepmq org create --profile plain \"MQTT users\"\n  keepmq org create --profile home \"Our house\"",
		RunE: func(c *cobra.Command, a []string) error {
			in.Name = a[0]
			if home != (homeOptions{}) {
				in.Home = &home
			}
			r, err := e.remote()
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPost, "/orgs", in, e.printOrg)
		},
	}
	c.Flags().StringVar(&in.ID, "id", "", "six lower-case letters or digits (else the server makes one)")
	c.Flags().StringVar(&in.Profile, "profile", "iot-2", "its topics: iot-2 for devices and applications, plain for MQTT users with rules, home for those with a role")
	c.Flags().BoolVar(&home.Anonymous, "anonymous", false, "in a home: clients without a name may watch")
	c.Flags().BoolVar(&home.Prefix, "prefix", false, "in a home: every topic begins with the organisation's id and a slash")
	c.Flags().BoolVar(&home.V0, "v0", false, "in a home: the topics of Hemtjänst version 0 too")
	return c
}
