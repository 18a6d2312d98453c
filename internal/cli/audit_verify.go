package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/errs"
)

func auditVerify(e *env) *cobra.Command {
	var key string
	var part bool
	var earlier []string
	c := &cobra.Command{
		Use: "verify FILE", Short: "Check an export: nothing changed, removed, inserted or reordered", Args: args(1, 1),
		Long: "Check an export: nothing changed, removed, inserted or reordered.\n\n" +
			"It asks no server. The verifier key is the one that was kept when this computer\n" +
			"signed in, unless --verifier-key gives another; it must not come from the export.\n" +
			"With checkpoints that were kept before, it also proves that the record goes on\n" +
			"from them. FILE may be - for standard input.\n\n" +
			"The export is of the whole record, or of one organisation, as lines of JSON or as\n" +
			"CSV. Records whose time to be kept was over are counted; that they were removed\n" +
			"is itself on the record. An export that was chosen by a filter needs --part.",
		Example: "  keepmq audit export | keepmq audit verify -",
		RunE: func(c *cobra.Command, a []string) error {
			if key == "" {
				s, err := e.load()
				if err != nil || s.Audit == "" {
					return usage(c, "--verifier-key is needed: this computer has kept none")
				}
				key = s.Audit
			}
			var kept []string
			for _, name := range earlier {
				b, err := os.ReadFile(name)
				if err != nil {
					return err
				}
				kept = append(kept, string(b))
			}
			in := e.in
			if a[0] != "-" {
				f, err := os.Open(a[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			return e.verify(in, key, kept, part)
		},
	}
	c.Flags().StringVar(&key, "verifier-key", "", "the key that signs checkpoints, from audit checkpoint")
	c.Flags().StringArrayVar(&earlier, "checkpoint", nil, "a file with a checkpoint that was kept before; may be repeated")
	c.Flags().BoolVar(&part, "part", false, "the export was chosen by a filter: check only what is in it")
	return c
}

func (e *env) verify(in io.Reader, key string, kept []string, part bool) error {
	v, err := audit.VerifyExport(in, key, kept...)
	switch {
	case errors.Is(err, audit.ErrTampered):
		return hint("keep this file, and compare it with a backup", "NOT VERIFIED: %s", first(errs.Message(err), err.Error()))
	case err != nil && errs.Message(err) != "":
		return errors.New(errs.Message(err))
	case err != nil:
		return err
	case v.Part && !part:
		return hint("add --part to check only what is in it", "NOT VERIFIED: the export was chosen by a filter, so that records may be missing")
	case e.json:
		return json.NewEncoder(e.out).Encode(map[string]any{"verified": true, "records": v.Records, "removed": v.Removed,
			"org": v.Org, "part": v.Part, "checkpoint": v.Checkpoint})
	}
	what := "of the whole record"
	if v.Org != "" {
		what = "of organisation " + printable(string(v.Org))
	}
	if v.Part {
		_, err = fmt.Fprintf(e.out, "Verified: %d records %s, none changed. They were chosen by a filter: whether others are missing cannot be told.\n", v.Records, what)
		return err
	}
	if _, err = fmt.Fprintf(e.out, "Verified: %d records %s, none changed, removed, inserted or reordered.\n", v.Records, what); err == nil && v.Removed > 0 {
		_, err = fmt.Fprintf(e.out, "%d records before them are no longer kept, as the record itself says.\n", v.Removed)
	}
	return err
}
