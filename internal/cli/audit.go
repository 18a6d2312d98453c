package cli

import (
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
)

func auditCommand(e *env) *cobra.Command {
	return group("audit", "The record of every change", auditList(e), auditCheckpoint(e), auditExport(e), auditVerify(e), auditRetention(e))
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
				if s := strings.ReplaceAll(p.Checkpoint, "\n", ""); s != printable(s) {
					return errors.New("the server's answer is not a checkpoint")
				}
				e.note("verifier key: %s", p.VerifierKey)
				_, err := io.WriteString(e.out, p.Checkpoint)
				return err
			})
		},
	}
}
