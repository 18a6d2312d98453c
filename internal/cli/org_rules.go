package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func orgRules(e *env) *cobra.Command {
	var none bool
	c := &cobra.Command{
		Use: "rules [RULE...]", Short: "Show or replace the rules for every plain MQTT user", Long: ruleHelp, Args: cobra.ArbitraryArgs,
		Example: "  keepmq org rules\n  keepmq org rules \"allow write home/%u/#\" \"allow read home/#\"\n  keepmq org rules --none",
		RunE: func(c *cobra.Command, a []string) error {
			rules, err := parseRules(a)
			if err != nil {
				return err
			}
			if none && len(rules) > 0 {
				return usage(c, "--none goes without rules")
			}
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			method, in := http.MethodGet, any(nil)
			if none || len(rules) > 0 {
				method, in = http.MethodPatch, map[string]any{"rules": append([]rule{}, rules...)}
			}
			return one(c.Context(), e, r, method, org+"/rules", in, e.printRules)
		},
	}
	c.Flags().BoolVar(&none, "none", false, "remove all of them")
	return c
}

func (e *env) printRules(x struct {
	Rules []rule `json:"rules"`
}) error {
	if len(x.Rules) == 0 {
		e.note("there are none")
		return nil
	}
	var rows [][]string
	for _, line := range ruleLines(x.Rules) {
		rows = append(rows, []string{line})
	}
	return e.table([]string{"RULE"}, rows)
}
