package cli

import (
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
)

func policyCommand(e *env) *cobra.Command {
	return group("policy", "What devices must present to connect: a token, a certificate, both, or either",
		policyShow(e), policySet(e, false), policySet(e, true), policyDevices(e))
}

type policies struct {
	Default string            `json:"default"`
	Types   map[string]string `json:"types"`
}

func (e *env) printPolicies(p policies) error {
	rows := [][]string{{"(all others)", p.Default}}
	for _, typ := range slices.Sorted(maps.Keys(p.Types)) {
		rows = append(rows, []string{typ, p.Types[typ]})
	}
	return e.table([]string{"TYPE", "POLICY"}, rows)
}

func policyShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show the policies", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodGet, org+"/policies", nil, e.printPolicies)
		},
	}
}

func policySet(e *env, preview bool) *cobra.Command {
	var typ string
	c := &cobra.Command{
		Use: "set either|token|certificate|both|default", Short: "Change the policy of the organisation, or of a device type", Args: args(1, 1),
		Long: "Devices that are connected without what it asks for are disconnected: look with keepmq policy preview first.\n" +
			"default, with --type: the type has the policy of the organisation.",
		RunE: func(c *cobra.Command, a []string) error {
			in := map[string]any{"default": a[0]}
			if typ != "" {
				policy := a[0]
				if policy == "default" {
					policy = ""
				}
				in = map[string]any{"types": map[string]string{typ: policy}}
			}
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			if !preview {
				return one(c.Context(), e, r, http.MethodPatch, org+"/policies", in, e.printPolicies)
			}
			type compliance struct {
				Type, Policy     string
				Devices, Without int64
			}
			return one(c.Context(), e, r, http.MethodPost, org+"/compliance", in, func(l list[compliance]) error {
				rows := make([][]string, 0, len(l.Items))
				for _, x := range l.Items {
					rows = append(rows, []string{x.Type, x.Policy, strconv.FormatInt(x.Devices, 10), strconv.FormatInt(x.Without, 10)})
				}
				return e.table([]string{"TYPE", "POLICY", "DEVICES", "COULD NOT CONNECT"}, rows)
			})
		},
	}
	if preview {
		c.Use, c.Short, c.Long = "preview either|token|certificate|both|default", "Count the devices that could not connect under a policy", ""
	}
	c.Flags().StringVar(&typ, "type", "", "of this device type, instead of the organisation")
	return c
}

func policyDevices(e *env) *cobra.Command {
	var p page
	c := &cobra.Command{
		Use: "devices", Short: "List the devices that lack what their policy asks for", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return show(c.Context(), e, r, org+"/compliance/devices", &p, []string{"TYPE", "ID"}, deviceRow)
		},
	}
	p.flags(c)
	return c
}
