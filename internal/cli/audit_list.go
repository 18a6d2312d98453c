package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

type auditEvent struct {
	Number  int64          `json:"number"`
	Time    time.Time      `json:"time"`
	Org     string         `json:"org"`
	Actor   string         `json:"actor"`
	Action  string         `json:"action"`
	Target  string         `json:"target"`
	Detail  map[string]any `json:"detail"`
	Address string         `json:"address"`
}

func auditList(e *env) *cobra.Command {
	var p page
	var f auditFilter
	c := &cobra.Command{
		Use: "list", Short: "Search changes, newest first; with --org those of one organisation", Args: args(0, 0),
		Example: "  keepmq audit list --action device. --since 24h\n" +
			"  keepmq audit list --target pump:p1 --since 2026-01-01 --until 2026-02-01",
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			p.add("org", first(e.org, e.getenv("KEEPMQ_ORG")))
			if err := f.add(&p, time.Now()); err != nil {
				return usage(c, "%v", err)
			}
			return e.search(c.Context(), r, &p)
		},
	}
	p.flags(c)
	f.flags(c)
	return c
}

// search asks for more until the page is full: one answer may have less than
// was asked for and not be the last.
func (e *env) search(ctx context.Context, r *remote, p *page) error {
	all := list[json.RawMessage]{Items: []json.RawMessage{}}
	for {
		p.query.Set("limit", strconv.Itoa(p.limit-len(all.Items)))
		p.add("after", first(all.Next, p.after))
		var l list[json.RawMessage]
		if err := r.call(ctx, http.MethodGet, "/audit?"+p.query.Encode(), nil, &l); err != nil {
			return err
		}
		all.Items, all.Next = append(all.Items, l.Items...), l.Next
		if l.Next == "" || len(all.Items) >= p.limit {
			return e.showAudit(all)
		}
	}
}

func (e *env) showAudit(l list[json.RawMessage]) error {
	if e.json {
		answer := map[string]any{"items": l.Items}
		if l.Next != "" {
			answer["next"] = l.Next
		}
		raw, err := json.Marshal(answer)
		if err != nil {
			return fmt.Errorf("encode the list: %w", err)
		}
		return e.printJSON(raw)
	}
	if len(l.Items) == 0 {
		e.note("there are none")
		return nil
	}
	rows := make([][]string, 0, len(l.Items))
	for _, raw := range l.Items {
		var x auditEvent
		if err := json.Unmarshal(raw, &x); err != nil {
			return fmt.Errorf("read the server's list: %w", err)
		}
		rows = append(rows, []string{itoa(x.Number), x.Time.Local().Format(time.DateTime), x.Org, x.Actor, x.Action, x.Target, x.Address})
	}
	if err := e.table([]string{"NUMBER", "TIME", "ORG", "WHO", "WHAT", "TO", "FROM"}, rows); err != nil {
		return err
	}
	if l.Next != "" {
		e.note("there are more: add --after %s", l.Next)
	}
	return nil
}

// An auditFilter is the flags that choose changes.
type auditFilter struct {
	actor, action, target, address, request, since, until string
}

func (f *auditFilter) flags(c *cobra.Command) {
	c.Flags().StringVar(&f.actor, "actor", "", "only by this one, as KIND:ORG:ID")
	c.Flags().StringVar(&f.action, "action", "", "only this action, or with a dot at the end all of a kind: device.")
	c.Flags().StringVar(&f.target, "target", "", "only what was done to this")
	c.Flags().StringVar(&f.address, "address", "", "only what was asked for from this address")
	c.Flags().StringVar(&f.request, "request", "", "only what the request of this number did")
	c.Flags().StringVar(&f.since, "since", "", "not earlier: a time, a date, or how long ago such as 36h or 7d")
	c.Flags().StringVar(&f.until, "until", "", "earlier than: a time, a date, or how long ago")
}

func (f *auditFilter) add(p *page, now time.Time) error {
	p.add("actor", f.actor)
	p.add("action", f.action)
	p.add("target", f.target)
	p.add("address", f.address)
	p.add("request", f.request)
	for _, t := range []struct{ flag, name, value string }{{"--since", "from", f.since}, {"--until", "until", f.until}} {
		if t.value == "" {
			continue
		}
		at, err := parseTime(t.value, now)
		if err != nil {
			return fmt.Errorf("%s: %w", t.flag, err)
		}
		p.add(t.name, at.UTC().Format(time.RFC3339Nano))
	}
	return nil
}

// parseTime reads a time, a date here, or how long ago something was.
func parseTime(s string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateTime, "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 && n <= 36500 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%q is neither a time such as 2026-01-31T12:00:00Z, nor a date, nor how long ago such as 36h or 7d", s)
}
