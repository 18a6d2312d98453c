package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func userCreate(e *env) *cobra.Command {
	var lines, clients []string
	var role string
	c := &cobra.Command{
		Use: "create NAME", Short: "Create an MQTT user and print its password, this once", Args: args(1, 1),
		Long: "Without a rule, those for every user hold; if there are none, the user may do everything in the\norganisation, but on topics that begin with $.\n" + ruleHelp,
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			rules, err := parseRules(lines)
			if err != nil {
				return err
			}
			in := map[string]any{"name": a[0]}
			if len(rules) > 0 {
				in["rules"] = rules
			}
			if role != "" {
				in["role"] = role
			}
			if len(clients) > 0 {
				in["clients"] = clients
			}
			err = one(c.Context(), e, r, http.MethodPost, org+"/users", in, e.printUser)
			if err == nil && !e.json {
				e.note("The password is shown this once; the server keeps a hash only.")
			}
			return err
		},
	}
	c.Flags().StringArrayVar(&lines, "rule", nil, "a rule, for example \"allow publish sensors/%u/#\"; may be given several times")
	c.Flags().StringVar(&role, "role", "", "in a home: actor, provider or bridge")
	c.Flags().StringArrayVar(&clients, "client", nil, "a client id that %c may stand for (else the user's name); may be given several times")
	return c
}
