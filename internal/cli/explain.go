package cli

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"
)

func explainCommand(e *env) *cobra.Command {
	c := group("explain", "Why something is allowed or refused", explainMay(e), explainReaders(e), explainRefusal(e), explainRefusals(e))
	c.Example = "  keepmq explain may device:sensor:s1 publish iot-2/evt/status/fmt/json\n" +
		"  keepmq explain readers iot-2/type/sensor/id/s1/evt/status/fmt/json\n" +
		"  keepmq explain refusal 5f7kq2m4x9ab"
	return c
}

type explanation struct {
	Allowed bool   `json:"allowed"`
	Topic   string `json:"topic"`
	Rule    string `json:"rule"`
	Reason  string `json:"reason"`
}

func explainMay(e *env) *cobra.Command {
	var client string
	c := &cobra.Command{
		Use: "may WHO publish|subscribe|receive TOPIC", Short: "Whether somebody may do something with a topic, and by which rule", Args: args(3, 3),
		Long: "WHO is device:TYPE:ID, gateway:TYPE:ID, application:KEY, user:NAME or person:ID.\nTOPIC is as the client names it; to subscribe, a filter.",
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			q := url.Values{"who": {a[0]}, "action": {a[1]}, "topic": {a[2]}}
			if client != "" {
				q.Set("client", client)
			}
			return one(c.Context(), e, r, http.MethodGet, org+"/explain?"+q.Encode(), nil, func(x explanation) error {
				answer := "no"
				if x.Allowed {
					answer = "yes"
				}
				return e.facts("Allowed", answer, "Because", x.Reason, "Rule", x.Rule, "Topic", x.Topic)
			})
		},
	}
	c.Flags().StringVar(&client, "client", "", "the client identifier (else one that WHO may have)")
	return c
}

func explainReaders(e *env) *cobra.Command {
	var after string
	c := &cobra.Command{
		Use: "readers TOPIC", Short: "List who may receive a topic of the organisation", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			type reader struct{ Who, Client, Source string }
			q := url.Values{"topic": {a[0]}, "after": {after}}
			if after == "" {
				q.Del("after")
			}
			return one(c.Context(), e, r, http.MethodGet, org+"/readers?"+q.Encode(), nil, func(l list[reader]) error {
				rows := make([][]string, 0, len(l.Items))
				for _, x := range l.Items {
					rows = append(rows, []string{x.Who, x.Client, x.Source})
				}
				if err := e.table([]string{"WHO", "CLIENT", "BY"}, rows); err != nil {
					return err
				}
				if l.Next != "" {
					e.note("there may be more: add --after %s", l.Next)
				}
				return nil
			})
		},
	}
	c.Flags().StringVar(&after, "after", "", "go on where the page before ended")
	return c
}

type refusedClient struct {
	ID     string `json:"id"`
	Who    string `json:"who"`
	Client string `json:"client"`
	Action string `json:"action"`
	Topic  string `json:"topic"`
	Reason string `json:"reason"`
	Count  int64  `json:"count"`
	First  string `json:"first"`
	Last   string `json:"last"`
}

func explainRefusal(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "refusal NUMBER", Short: "Why something was refused, from the number in the refusal", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodGet, join(org+"/refusals", a[0]), nil, func(x refusedClient) error {
				return e.facts("Refusal", x.ID, "Who", x.Who, "Client id", x.Client, "Wanted to", x.Action, "Topic", x.Topic, "Because", x.Reason,
					"How often", strconv.FormatInt(x.Count, 10), "First", x.First, "Last", x.Last)
			})
		},
	}
}

func explainRefusals(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "refusals", Short: "List what was refused lately", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return showAll(c.Context(), e, r, org+"/refusals", []string{"NUMBER", "WHO", "ACTION", "TOPIC", "COUNT", "BECAUSE"}, func(x refusedClient) []string {
				return []string{x.ID, x.Who, x.Action, x.Topic, strconv.FormatInt(x.Count, 10), x.Reason}
			})
		},
	}
}
