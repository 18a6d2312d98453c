package cli

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func alertCommand(e *env) *cobra.Command {
	return group("alert", "See what was unusual, and who is told", alertList(e),
		alertState(e, "ack", "acknowledged", "Acknowledge an alert: somebody looks at it"),
		alertState(e, "resolve", "resolved", "Say that an alert is dealt with"), alertEmails(e))
}

type alert struct {
	ID      string    `json:"id"`
	Rule    string    `json:"rule"`
	Subject string    `json:"subject"`
	Summary string    `json:"summary"`
	State   string    `json:"state"`
	Count   int64     `json:"count"`
	Last    time.Time `json:"last"`
}

func alertList(e *env) *cobra.Command {
	var p page
	var state string
	c := &cobra.Command{
		Use: "list", Short: "List alerts, latest first", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			p.add("state", state)
			return show(c.Context(), e, r, org+"/alerts", &p, []string{"ID", "LAST", "STATE", "COUNT", "RULE", "SUBJECT", "SUMMARY"}, func(a alert) []string {
				return []string{a.ID, a.Last.UTC().Format(time.RFC3339), a.State, strconv.FormatInt(a.Count, 10), a.Rule, a.Subject, a.Summary}
			})
		},
	}
	p.flags(c)
	c.Flags().StringVar(&state, "state", "", "only those that are open, acknowledged or resolved")
	return c
}

func alertState(e *env, use, state, short string) *cobra.Command {
	return &cobra.Command{
		Use: use + " ID", Short: short, Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPatch, join(org+"/alerts", a[0]), map[string]any{"state": state}, func(a alert) error {
				return e.done("Alert %s is %s.", a.ID, a.State)
			})
		},
	}
}

func alertEmails(e *env) *cobra.Command {
	var none bool
	c := &cobra.Command{
		Use: "emails [ADDRESS...]", Short: "Show or replace to which e-mail addresses alerts go", Args: args(0, 20),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			method, in := http.MethodGet, any(nil)
			if len(a) > 0 || none {
				method, in = http.MethodPut, map[string]any{"emails": append([]string{}, a...)}
			}
			type emails struct {
				Emails []string `json:"emails"`
			}
			return one(c.Context(), e, r, method, org+"/alert-emails", in, func(l emails) error {
				if len(l.Emails) == 0 {
					e.note("alerts of this organisation go to no e-mail address of its own")
				}
				rows := make([][]string, 0, len(l.Emails))
				for _, address := range l.Emails {
					rows = append(rows, []string{address})
				}
				return e.table([]string{"ADDRESS"}, rows)
			})
		},
	}
	c.Flags().BoolVar(&none, "none", false, "to no address")
	return c
}

func webhookCommand(e *env) *cobra.Command {
	return group("webhook", "Send alerts to a server of your own, signed after Standard Webhooks", webhookCreate(e), webhookList(e),
		webhookTest(e), webhookDeliveries(e), webhookRotate(e), webhookDisable(e, "disable", true), webhookDisable(e, "enable", false),
		deletion(e, "webhook", "delete ID", "Delete a webhook, and what was to be sent to it", "webhooks"))
}

type webhook struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	URL      string `json:"url"`
	Disabled bool   `json:"disabled"`
	Secret   string `json:"secret"`
}

func webhookCreate(e *env) *cobra.Command {
	var name string
	c := &cobra.Command{
		Use: "create URL", Short: "Create a webhook; its secret is shown once", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			if name == "" {
				name = "webhook"
				if u, err := url.Parse(a[0]); err == nil && u.Hostname() != "" {
					name = u.Hostname()
				}
			}
			return one(c.Context(), e, r, http.MethodPost, org+"/webhooks", map[string]any{"name": name, "url": a[0]}, func(h webhook) error {
				return e.facts("Webhook", h.ID, "Name", h.Name, "URL", h.URL, "Secret", h.Secret)
			})
		},
	}
	c.Flags().StringVar(&name, "name", "", "for people (else the host)")
	return c
}

func webhookList(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List webhooks", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return showAll(c.Context(), e, r, org+"/webhooks", []string{"ID", "NAME", "URL", "DISABLED"}, func(h webhook) []string {
				return []string{h.ID, h.Name, h.URL, strconv.FormatBool(h.Disabled)}
			})
		},
	}
}

type delivery struct {
	ID       string    `json:"id"`
	State    string    `json:"state"`
	Attempts int64     `json:"attempts"`
	Error    string    `json:"error"`
	Created  time.Time `json:"created"`
}

func webhookTest(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "test ID", Short: "Send a test to a webhook", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPost, join(org+"/webhooks", a[0])+"/test", nil, func(d delivery) error {
				return e.done("Delivery %s is on its way; see it with: keepmq webhook deliveries %s", d.ID, a[0])
			})
		},
	}
}

func webhookDeliveries(e *env) *cobra.Command {
	var p page
	c := &cobra.Command{
		Use: "deliveries ID", Short: "List what was and is to be sent to a webhook, latest first", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return show(c.Context(), e, r, join(org+"/webhooks", a[0])+"/deliveries", &p, []string{"ID", "CREATED", "STATE", "ATTEMPTS", "ERROR"}, func(d delivery) []string {
				return []string{d.ID, d.Created.UTC().Format(time.RFC3339), d.State, strconv.FormatInt(d.Attempts, 10), d.Error}
			})
		},
	}
	p.flags(c)
	return c
}

func webhookRotate(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "rotate ID", Short: "Replace a webhook's secret; the former one signs too for a day", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPost, join(org+"/webhooks", a[0])+"/secret", nil, func(h webhook) error {
				return e.facts("Secret", h.Secret)
			})
		},
	}
}

func webhookDisable(e *env, use string, disabled bool) *cobra.Command {
	return &cobra.Command{
		Use: use + " ID", Short: map[bool]string{true: "Send nothing to a webhook", false: "Send to a webhook again"}[disabled], Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPatch, join(org+"/webhooks", a[0]), map[string]any{"disabled": disabled}, func(h webhook) error {
				return e.done("Webhook %s is %sd.", h.ID, use)
			})
		},
	}
}
