package cli

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

func providerCommand(e *env) *cobra.Command {
	return group("sign-in-provider", "OpenID Connect providers through which people sign in to the organisation", providerSet(e), providerList(e), providerDelete(e))
}

type provider struct {
	Name        string `json:"name"`
	Issuer      string `json:"issuer"`
	ClientID    string `json:"client_id"`
	HasSecret   bool   `json:"has_secret"`
	GroupsClaim string `json:"groups_claim"`
	Roles       []struct {
		Group string `json:"group"`
		Role  string `json:"role"`
	} `json:"roles"`
	SecondFactor []string `json:"second_factor"`
	Days         int      `json:"days"`
	Disabled     bool     `json:"disabled"`
}

func (p provider) roles() string {
	var all []string
	for _, g := range p.Roles {
		all = append(all, g.Group+"="+g.Role)
	}
	return strings.Join(all, ", ")
}

func (p provider) state() string {
	if p.Disabled {
		return "disabled"
	}
	return "in use"
}

func (e *env) printProvider(p provider) error {
	return e.facts("Provider", p.Name, "State", p.state(), "Issuer", p.Issuer, "Client", p.ClientID, "Groups in", p.GroupsClaim, "Roles", p.roles(),
		"Second factor", strings.Join(p.SecondFactor, ", "), "Memberships hold", strconv.Itoa(p.Days)+" days after a sign-in")
}

func providerSet(e *env) *cobra.Command {
	var issuer, client, claim string
	var scopes, factors, roles []string
	var days int
	var disabled, withSecret, stdinSecret bool
	c := &cobra.Command{
		Use: "set NAME --issuer URL --client-id ID --role GROUP=ROLE", Short: "Make a provider, or replace its settings", Args: args(1, 1),
		Long: "Register KeepMQ there with the redirect URI https://HOST/sign-in/callback, where HOST is as people type it,\n" +
			"with the port. People begin at https://HOST/sign-in/organisation?org=ORG. Of several groups that somebody\n" +
			"is in, the first --role counts. The client's secret is asked for with --secret, or read from standard\n" +
			"input with --secret-stdin; without either, the one there is stays.",
		Example: "  keepmq sign-in-provider set corp --issuer https://id.example.com --client-id keepmq --secret \\\n" +
			"    --scope profile --role fleet-admins=manager --role engineers=member --second-factor mfa",
		RunE: func(c *cobra.Command, a []string) error {
			in := map[string]any{"issuer": issuer, "client_id": client, "days": days, "disabled": disabled}
			var list []map[string]string
			for _, s := range roles {
				i := strings.LastIndexByte(s, '=')
				if i < 0 {
					return hint("write it as --role engineers=member", "--role %q is not GROUP=ROLE", s)
				}
				list = append(list, map[string]string{"group": s[:i], "role": s[i+1:]})
			}
			in["roles"] = list
			for name, v := range map[string][]string{"scopes": scopes, "second_factor": factors} {
				if len(v) > 0 {
					in[name] = v
				}
			}
			if claim != "" {
				in["groups_claim"] = claim
			}
			if withSecret || stdinSecret {
				s, err := e.secret(stdinSecret, "KEEPMQ_CLIENT_SECRET", "client secret")
				if err != nil {
					return err
				}
				in["secret"] = s.Reveal()
			}
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPut, join(org+"/sign-in-providers", a[0]), in, e.printProvider)
		},
	}
	f := c.Flags()
	f.StringVar(&issuer, "issuer", "", "its URL")
	f.StringVar(&client, "client-id", "", "as which KeepMQ is registered there")
	f.BoolVar(&withSecret, "secret", false, "ask for the client's secret")
	f.BoolVar(&stdinSecret, "secret-stdin", false, "read the client's secret from standard input")
	f.StringSliceVar(&scopes, "scope", nil, "asked for beside openid; may be given again")
	f.StringVar(&claim, "groups-claim", "", "the claim that lists groups (else groups)")
	f.StringArrayVar(&roles, "role", nil, "which role a group stands for; may be given again")
	f.StringSliceVar(&factors, "second-factor", nil, "what of its amr or acr counts as a second factor here")
	f.IntVar(&days, "days", 30, "for how long after a sign-in a membership holds")
	f.BoolVar(&disabled, "disabled", false, "let nobody in through it")
	return c
}

func providerList(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the providers", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodGet, org+"/sign-in-providers", nil, func(l list[provider]) error {
				rows := make([][]string, 0, len(l.Items))
				for _, p := range l.Items {
					rows = append(rows, []string{p.Name, p.state(), p.Issuer, p.roles()})
				}
				return e.table([]string{"PROVIDER", "STATE", "ISSUER", "ROLES"}, rows)
			})
		},
	}
}

func providerDelete(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Delete a provider; sessions and memberships that came from it end", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			if err := r.call(c.Context(), http.MethodDelete, join(org+"/sign-in-providers", a[0]), nil, nil); err != nil {
				return err
			}
			return e.done("Provider %s is deleted.", a[0])
		},
	}
}
