package console

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/registry"
)

// maxRecords is how many audit records one page shows.
const maxRecords = 50

// An auditPage shows the audit record, or what was searched for in it.
type auditPage struct {
	Person  string
	Org     string // "": of everybody
	Fields  []auditField
	Records []auditRow
	Next    string // the address of the page after; "": none
	Found   bool   // something was searched for
}

// An auditField is one field of the search.
type auditField struct{ Name, Label, Hint, Value string }

// An auditRow is one record, as text that shows what it is made of.
type auditRow struct {
	Number                                            int64
	Time                                              time.Time
	Org, Actor, Action, Target, Detail, From, Request string
}

// audit shows the audit record of an organisation or, to an administrator who
// names none, of everybody.
func (s *server) audit(w http.ResponseWriter, r *http.Request, actor registry.Actor) error {
	ctx := r.Context()
	if s.record == nil {
		return errs.E(errs.NotFound, "This server shows no audit record.")
	}
	me, err := s.registry.Person(ctx, actor, actor.Principal.ID)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	org := q.Get("org")
	if _, err := auth.ParseOrgID(org); org != "" && err != nil {
		return errs.E(errs.NotFound, "There is no such organisation.")
	}
	scope, err := s.registry.MayReadAudit(ctx, actor, auth.OrgID(org))
	if err != nil {
		return err
	}
	p := auditPage{Person: me.Name, Org: org, Fields: auditFields(q)}
	if err := p.search(ctx, s.record, scope, q); err != nil {
		return err
	}
	s.render(w, r, http.StatusOK, "audit.html", p)
	return nil
}

func auditFields(q url.Values) []auditField {
	fields := []auditField{
		{Name: "actor", Label: "Who", Hint: "kind:org:id"},
		{Name: "action", Label: "What", Hint: "device.create or device."},
		{Name: "target", Label: "To what"},
		{Name: "address", Label: "From where"},
		{Name: "request", Label: "Request"},
		{Name: "from", Label: "Not before", Hint: "2026-01-31 or 2026-01-31T12:00:00Z"},
		{Name: "until", Label: "Before", Hint: "2026-01-31 or 2026-01-31T12:00:00Z"},
	}
	for i, f := range fields {
		fields[i].Value = q.Get(f.Name)
	}
	return fields
}

func (p *auditPage) search(ctx context.Context, record *audit.Log, scope audit.Scope, q url.Values) error {
	f := audit.Filter{Actor: q.Get("actor"), Action: q.Get("action"), Target: q.Get("target"), Address: q.Get("address"), RequestID: q.Get("request")}
	for name, t := range map[string]*time.Time{"from": &f.From, "until": &f.Until} {
		if err := readTime(q.Get(name), t); err != nil {
			return errs.E(errs.Invalid, "%s must be a day such as 2026-01-31 or a time such as 2026-01-31T12:00:00Z", name)
		}
	}
	p.Found = f != audit.Filter{}
	records, next, err := record.Search(ctx, scope, f, audit.Page{Limit: maxRecords, After: q.Get("after")})
	if err != nil {
		return err
	}
	for _, r := range records {
		p.Records = append(p.Records, newAuditRow(r))
	}
	if next != "" {
		on := url.Values{"after": {next}}
		for _, name := range []string{"org", "actor", "action", "target", "address", "request", "from", "until"} {
			if v := q.Get(name); v != "" {
				on.Set(name, v)
			}
		}
		p.Next = "/audit?" + on.Encode()
	}
	return nil
}

func readTime(s string, t *time.Time) (err error) {
	if s == "" {
		return nil
	}
	if *t, err = time.Parse(time.DateOnly, s); err != nil {
		*t, err = time.Parse(time.RFC3339, s)
	}
	return err
}

func newAuditRow(r audit.Record) auditRow {
	detail := ""
	if len(r.Detail) > 0 {
		b, _ := json.Marshal(r.Detail) // it was read from JSON
		detail = string(b)
	}
	return auditRow{Number: r.Seq, Time: r.Time.UTC(), Org: visible(string(r.Org)), Actor: visible(r.Actor), Action: visible(r.Action),
		Target: visible(r.Target), Detail: visible(detail), From: visible(r.Address), Request: visible(r.RequestID)}
}

// visible replaces what would hide or turn around the text beside it. That
// nothing of it is markup is for the templates to see to.
func visible(s string) string {
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return unicode.ReplacementChar
		}
		return c
	}, s)
}
