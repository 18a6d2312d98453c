package cli

import (
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func auditCommand(e *env) *cobra.Command {
	return group("audit", "The record of every change", auditList(e), auditCheckpoint(e), auditExport(e), auditVerify(e))
}

type auditEvent struct {
	Number  int64     `json:"number"`
	Time    time.Time `json:"time"`
	Org     string    `json:"org"`
	Actor   string    `json:"actor"`
	Action  string    `json:"action"`
	Target  string    `json:"target"`
	Address string    `json:"address"`
}

func auditList(e *env) *cobra.Command {
	var p page
	c := &cobra.Command{
		Use: "list", Short: "List changes, newest first; with --org those of one organisation", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			p.add("org", first(e.org, e.getenv("KEEPMQ_ORG")))
			return show(c.Context(), e, r, "/audit", &p, []string{"NUMBER", "TIME", "ORG", "WHO", "WHAT", "TO", "FROM"}, func(x auditEvent) []string {
				return []string{itoa(x.Number), x.Time.Local().Format(time.DateTime), x.Org, x.Actor, x.Action, x.Target, x.Address}
			})
		},
	}
	p.flags(c)
	return c
}

type checkpoint struct {
	Checkpoint  string `json:"checkpoint"`
	VerifierKey string `json:"verifier_key"`
}

func auditCheckpoint(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "checkpoint", Short: "Print the signed state of the record, to keep elsewhere", Args: args(0, 0),
		Long: "Print the signed state of the record, to keep elsewhere.\n\n" +
			"Standard output gets the checkpoint, to be saved in a file. The key with which\n" +
			"audit verify checks it goes to standard error: keep both apart from the server.",
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodGet, "/audit/checkpoint", nil, func(p checkpoint) error {
				e.note("verifier key: %s", p.VerifierKey)
				_, err := e.out.Write([]byte(p.Checkpoint))
				return err
			})
		},
	}
}
