package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func userCreate(e *env) *cobra.Command {
	var lines, clients []string
	var role string
	var hashed bool
	c := &cobra.Command{
		Use: "create NAME", Short: "Create an MQTT user and print its password, this once", Args: args(1, 1),
		Long: "Without a rule, those for every user hold; if there are none, the user may do everything in the\norganisation, but on topics that begin with $.\n" + ruleHelp + "\n" +
			"With --password-hash-stdin the user keeps the password that it has elsewhere: standard input has its\n" +
			"hash, which can be a line's second part of mosquitto_passwd, or of bcrypt or argon2id.",
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
			if hashed {
				hash, err := e.secret(true, "", "hash of the password")
				if err != nil {
					return err
				}
				in["password_hash"] = hash.Reveal()
			}
			err = one(c.Context(), e, r, http.MethodPost, org+"/users", in, e.printUser)
			if err == nil && !e.json && !hashed {
				e.note("The password is shown this once; the server keeps a hash only.")
			}
			return err
		},
	}
	c.Flags().StringArrayVar(&lines, "rule", nil, "a rule, for example \"allow publish sensors/%u/#\"; may be given several times")
	c.Flags().BoolVar(&hashed, "password-hash-stdin", false, "read a hash of the password that the user has elsewhere from standard input")
	c.Flags().StringVar(&role, "role", "", "in a home: actor, provider or bridge")
	c.Flags().StringArrayVar(&clients, "client", nil, "a client id that %c may stand for (else the user's name); may be given several times")
	return c
}
