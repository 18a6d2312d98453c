package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/keepmq/keepmq/internal/audit"
)

// printJSON prints an answer of the server as it is, indented. What would move
// the cursor or worse is escaped: JSON leaves some of it as it is.
func (e *env) printJSON(raw []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(raw), "", "  "); err != nil {
		return fmt.Errorf("the server's answer is not JSON: %w", err)
	}
	b.WriteByte('\n')
	_, err := io.WriteString(e.out, audit.EscapeJSON(b.String()))
	return err
}

// table prints rows under a head, in columns.
func (e *env) table(head []string, rows [][]string) error {
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, r := range rows {
		for i := range r {
			r[i] = printable(r[i])
		}
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	return w.Flush()
}

// facts prints names and values, one pair per line.
func (e *env) facts(pairs ...string) error {
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			fmt.Fprintf(w, "%s:\t%s\n", pairs[i], printable(pairs[i+1]))
		}
	}
	return w.Flush()
}

// done confirms a change to a person; a program reads the exit code.
func (e *env) done(format string, a ...any) error {
	if e.json {
		return nil
	}
	_, err := fmt.Fprintln(e.out, printable(fmt.Sprintf(format, a...)))
	return err
}

// note tells a person something that is no part of the result.
func (e *env) note(format string, a ...any) {
	fmt.Fprintln(e.errw, printable(fmt.Sprintf(format, a...)))
}

// printable replaces what would move the cursor or worse: names and messages
// come from others.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c == unicode.ReplacementChar || !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, s)
}

func day(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

func state(disabled bool) string {
	if disabled {
		return "disabled"
	}
	return "enabled"
}
