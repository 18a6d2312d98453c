package cli

import (
	"context"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func lockCommand(e *env) *cobra.Command {
	var all bool
	c := group("lock", "Lock somebody or something out, and end what they have open",
		lockCreate(e, &all), lockList(e, &all), lockDelete(e, &all))
	c.PersistentFlags().BoolVar(&all, "installation", false, "in the whole installation, as its administrator")
	return c
}

type lock struct {
	ID      string     `json:"id"`
	Kind    string     `json:"kind"`
	Target  string     `json:"target"`
	Reason  string     `json:"reason"`
	Maker   string     `json:"maker"`
	Expires *time.Time `json:"expires"`
}

func (l lock) until() string {
	if l.Expires == nil {
		return "deleted"
	}
	return l.Expires.UTC().Format(time.RFC3339)
}

// locks returns the server and the path of the locks meant.
func (e *env) locks(ctx context.Context, all bool) (*remote, string, error) {
	if all {
		r, err := e.remote()
		return r, "/locks", err
	}
	r, org, err := e.inOrg(ctx)
	return r, org + "/locks", err
}

func lockCreate(e *env, all *bool) *cobra.Command {
	var reason string
	var life time.Duration
	c := &cobra.Command{
		Use: "create principal|type|address|authority|client TARGET --reason TEXT", Short: "Lock out, and end what is open", Args: args(2, 2),
		Long: "TARGET is of a principal: device:TYPE:ID, gateway:TYPE:ID, application:KEY, user:NAME, person:ID or service:NAME;\n" +
			"of an address: one, or a range as 192.0.2.0/24; of an authority: its key identifier, as its\n" +
			"certificates have it (openssl x509 -ext authorityKeyIdentifier). What is locked out keeps its\n" +
			"credentials and its queued messages.",
		Example: "  keepmq lock create address 198.51.100.0/24 --reason 'scanning us' --for 24h\n" +
			"  keepmq lock create principal device:pump:p-7 --reason 'stolen, call +1 555 0100'",
		RunE: func(c *cobra.Command, a []string) error {
			in := map[string]any{"kind": a[0], "target": a[1], "reason": reason}
			if life != 0 {
				in["expires"] = time.Now().Add(life).UTC()
			}
			r, path, err := e.locks(c.Context(), *all)
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPost, path, in, func(l lock) error {
				return e.facts("Lock", l.ID, "Of", l.Kind+" "+l.Target, "Reason", l.Reason, "Until", l.until())
			})
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "told to who is locked out, once they have proved who they are")
	c.Flags().DurationVar(&life, "for", 0, "how long, for example 24h (else until it is deleted)")
	_ = c.MarkFlagRequired("reason") // it is there
	return c
}

func lockList(e *env, all *bool) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List what is locked out", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, path, err := e.locks(c.Context(), *all)
			if err != nil {
				return err
			}
			return showAll(c.Context(), e, r, path, []string{"ID", "KIND", "TARGET", "UNTIL", "REASON", "BY"}, func(l lock) []string {
				return []string{l.ID, l.Kind, l.Target, l.until(), l.Reason, l.Maker}
			})
		},
	}
}

func lockDelete(e *env, all *bool) *cobra.Command {
	return &cobra.Command{
		Use: "delete ID", Short: "Let in again what is locked out", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, path, err := e.locks(c.Context(), *all)
			if err != nil {
				return err
			}
			if err := r.call(c.Context(), http.MethodDelete, join(path, a[0]), nil, nil); err != nil {
				return err
			}
			return e.done("Lock %s is open.", a[0])
		},
	}
}
