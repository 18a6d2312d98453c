package cli

import (
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keepmq/keepmq/internal/errs"
)

// A rule is one of a plain MQTT user's.
type rule struct {
	Action string `json:"action"`
	Filter string `json:"filter"`
	Deny   bool   `json:"deny,omitempty"`
}

const ruleHelp = `A rule is "allow" or "deny", then "publish", "subscribe", "receive", "write" (publish)
or "read" (subscribe and receive), then a topic filter, in which %u stands for the
user's name and %c for the client identifier, if it belongs to the user:
"allow publish sensors/%u/#". The last rule that matches decides; where none does,
the answer is no. Rules for every user (keepmq org rules) stand before a user's own.`

func userRules(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "rules NAME RULE...", Short: "Replace the rules of a plain MQTT user", Long: ruleHelp, Args: cobra.MinimumNArgs(2),
		Example: `  keepmq user rules anna "allow publish sensors/%u/#" "allow read sensors/#"`,
		RunE: func(c *cobra.Command, a []string) error {
			rules, err := parseRules(a[1:])
			if err != nil {
				return err
			}
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPatch, join(org+"/users", a[0]), map[string]any{"rules": rules}, e.printUser)
		},
	}
}

// parseRules reads rules as people write them.
func parseRules(lines []string) ([]rule, error) {
	var rules []rule
	for _, line := range lines {
		verdict, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		action, filter, ok := strings.Cut(strings.TrimSpace(rest), " ")
		if !ok || verdict != "allow" && verdict != "deny" {
			return nil, errs.E(errs.Invalid, "rule %q: must be allow or deny, publish, subscribe, receive, write or read, and a topic filter", line)
		}
		actions := []string{action}
		switch action {
		case "read":
			actions = []string{"subscribe", "receive"}
		case "write":
			actions = []string{"publish"}
		}
		for _, x := range actions {
			rules = append(rules, rule{Action: x, Filter: strings.TrimSpace(filter), Deny: verdict == "deny"})
		}
	}
	return rules, nil
}

// ruleLines writes rules as people write them.
func ruleLines(rules []rule) []string {
	var lines []string
	for _, r := range rules {
		verdict := "allow"
		if r.Deny {
			verdict = "deny"
		}
		lines = append(lines, verdict+" "+r.Action+" "+r.Filter)
	}
	return lines
}
