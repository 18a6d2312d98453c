package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keepmq/keepmq/internal/audit"
)

func auditExport(e *env) *cobra.Command {
	var file, format string
	var earlier []string
	var f auditFilter
	c := &cobra.Command{
		Use: "export", Short: "Write the record, whole or with --org of one organisation, for audit verify", Args: args(0, 0),
		Long: "Write the record, whole or with --org of one organisation, for audit verify.\n\n" +
			"Either can be verified without a server, and shows if anything was changed or is\n" +
			"missing. With a filter it shows only that what is in it is as it was recorded.",
		Example: "  keepmq audit export --file record.jsonl\n" +
			"  keepmq audit export --org abc123 --format csv --since 2026-01-01 --file year.csv",
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			p := page{query: url.Values{}}
			p.add("org", first(e.org, e.getenv("KEEPMQ_ORG")))
			p.add("format", format)
			if err := f.add(&p, time.Now()); err != nil {
				return usage(c, "%v", err)
			}
			for _, name := range earlier {
				size, err := checkpointSize(name)
				if err != nil {
					return err
				}
				p.query.Add("checkpoint_size", size)
			}
			path := "/audit/export?" + p.query.Encode()
			if file == "" {
				return r.stream(c.Context(), path, e.out)
			}
			return replaceFile(file, func(w io.Writer) error { return r.stream(c.Context(), path, w) })
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "write into this file (else to standard output)")
	c.Flags().StringVar(&format, "format", audit.JSONLines, "jsonl or csv")
	c.Flags().StringArrayVar(&earlier, "checkpoint", nil, "a file with a checkpoint that was kept before, to be compared by audit verify; may be repeated")
	f.flags(c)
	return c
}

// checkpointSize returns how many records a checkpoint in a file is of: its
// second line.
func checkpointSize(name string) (string, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	if lines := strings.SplitN(string(b), "\n", 3); len(lines) == 3 {
		if n, err := strconv.ParseInt(lines[1], 10, 64); err == nil && n >= 0 {
			return strconv.FormatInt(n, 10), nil
		}
	}
	return "", fmt.Errorf("%s: not a checkpoint", name)
}

// replaceFile writes a file that is whole or, if write fails, not there.
func replaceFile(name string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".export-*")
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// stream copies an answer of any length to w. An answer that was cut is an error.
func (r *remote) stream(ctx context.Context, path string, w io.Writer) error {
	if err := r.signedIn(); err != nil {
		return err
	}
	req, err := r.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	unhurried := *r.http
	unhurried.Timeout = 0 // it may be long; ctx ends it
	res, err := unhurried.Do(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", r.server, err)
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		b, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20)) // a part of the refusal is better than none
		return refusal(r.server, res, b)
	}
	if _, err := io.Copy(w, res.Body); err != nil {
		return hint("what was written is not complete; try again", "read the answer of %s: %w", r.server, err)
	}
	return nil
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
