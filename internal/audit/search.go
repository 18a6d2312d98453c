package audit

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store"
)

const (
	pageDefault = 100
	pageLimit   = 1000

	// searchLimit is how many records one call looks at. The one field that a
	// search goes by may have a million records that another field then excludes.
	searchLimit = 20_000
)

// A Scope says whose records are meant.
type Scope struct {
	Org auth.OrgID // "": those of the installation itself
	All bool       // of everybody: for the administrator of the installation
}

// scoped returns a context whose transactions reach what s may have.
func scoped(ctx context.Context, s Scope) context.Context {
	if s.All || s.Org == "" {
		return store.ForAll(ctx)
	}
	return store.ForOrg(ctx, string(s.Org))
}

// A Filter chooses records: those for which all holds that is set.
type Filter struct {
	Actor     string    `json:"actor,omitempty"`  // as in Record.Actor
	Action    string    `json:"action,omitempty"` // "device.create", or with a dot at the end all of a kind: "device."
	Target    string    `json:"target,omitempty"`
	Address   string    `json:"address,omitempty"`
	RequestID string    `json:"request,omitempty"`
	From      time.Time `json:"from,omitzero"`  // not earlier
	Until     time.Time `json:"until,omitzero"` // earlier
}

// filterLimit is how long what is looked for may be, in bytes. Nothing that is
// recorded is longer but targets that are lists.
const filterLimit = 512

// Check reports every mistake in f. The names are those of the API.
func (f Filter) Check() error {
	var bad []string
	for _, t := range []struct{ name, value string }{
		{"actor", f.Actor}, {"action", f.Action}, {"target", f.Target}, {"address", f.Address}, {"request", f.RequestID},
	} {
		switch {
		case len(t.value) > filterLimit:
			bad = append(bad, fmt.Sprintf("%s must have at most %d bytes, has %d", t.name, filterLimit, len(t.value)))
		case !utf8.ValidString(t.value) || strings.ContainsRune(t.value, 0):
			bad = append(bad, t.name+" must be UTF-8 without NUL")
		}
	}
	if i := strings.IndexByte(f.Action, '.'); i == 0 || i >= 0 && i < len(f.Action)-1 && strings.HasSuffix(f.Action, ".") {
		bad = append(bad, `action must be a whole one such as "device.create", or a kind with a dot such as "device."`)
	}
	if !f.From.IsZero() && !f.Until.IsZero() && !f.From.Before(f.Until) {
		bad = append(bad, "from must be before until")
	}
	for _, t := range []struct {
		name string
		time time.Time
	}{{"from", f.From}, {"until", f.Until}} {
		if y := t.time.Year(); !t.time.IsZero() && (y < 1970 || y > 9999) {
			bad = append(bad, t.name+" must be within the years 1970 and 9999")
		}
	}
	if bad != nil {
		return errs.E(errs.Invalid, "%s", strings.Join(bad, "; "))
	}
	return nil
}

// kind returns what records of a kind of action are found by.
func (f Filter) kind() (string, bool) { return strings.CutSuffix(f.Action, ".") }

// match reports whether a record is chosen by f.
func (f Filter) match(r Record) bool {
	if n, ok := f.kind(); ok && noun(r.Action) != n || !ok && f.Action != "" && r.Action != f.Action {
		return false
	}
	is := func(want, got string) bool { return want == "" || want == got }
	return is(f.Actor, r.Actor) && is(f.Target, r.Target) && is(f.Address, r.Address) && is(f.RequestID, r.RequestID) &&
		(f.From.IsZero() || !r.Time.Before(f.From)) && (f.Until.IsZero() || r.Time.Before(f.Until))
}

// by returns the condition that a search goes by: of those that are set, the one
// that most likely chooses the fewest records.
func (f Filter) by(s Scope) (condition, value string) {
	switch n, kind := f.kind(); {
	case f.RequestID != "":
		return "request = %s AND request <> ''", f.RequestID
	case s.All:
		return "", ""
	case f.Target != "":
		return "target = %s", f.Target
	case f.Address != "":
		return "address = %s AND address <> ''", f.Address
	case f.Actor != "":
		return "actor = %s", f.Actor
	case kind:
		return "noun = %s", n
	case f.Action != "":
		return "action = %s", f.Action
	}
	return "", ""
}

// A place is where a record stands in the order of search: by time, and those of
// one time by their number in the whole record.
type place struct{ at, seq int64 }

func (p place) before(q place) bool { return p.at < q.at || p.at == q.at && p.seq < q.seq }

func (p place) String() string { return fmt.Sprintf("%d.%d", p.at, p.seq) }

func parsePlace(s string) (place, bool) {
	at, seq, _ := strings.Cut(s, ".")
	a, err := strconv.ParseInt(at, 10, 64)
	n, err2 := strconv.ParseInt(seq, 10, 64)
	p := place{a, n}
	return p, err == nil && err2 == nil && n >= 0 && p.String() == s
}

// query returns the statement that reads, newest first, what there is behind p.
// It is one range of one index in whose order it reads, so that it costs the
// same in a record of ten and of a million. It does not end at f.From, the reader
// does: with two bounds on the time SQLite would take another index.
func (f Filter) query(s Scope, p place, limit int) (string, []any) {
	var where []string
	var args []any
	arg := func(v any) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	}
	if !s.All {
		where = append(where, "org = "+arg(string(s.Org)))
	}
	if c, v := f.by(s); c != "" {
		where = append(where, fmt.Sprintf(c, arg(v)))
	}
	if u := (place{at: f.Until.UnixMicro()}); !f.Until.IsZero() && u.before(p) {
		p = u // no record has a smaller number than 0
	}
	where = append(where, "(at, seq) < ("+arg(p.at)+", "+arg(p.seq)+")")
	return `SELECT seq, at, actor, action, target, address, request FROM audit_search WHERE ` +
		strings.Join(where, " AND ") + ` ORDER BY at DESC, seq DESC LIMIT ` + arg(limit), args
}

// A Page asks for a part of the record, newest first.
type Page struct {
	Limit int    // 1 to 1000; 0: 100
	After string // what the call before returned as next; "": the beginning
}

func (p Page) check() (limit int, after place, err error) {
	limit, after = p.Limit, place{at: math.MaxInt64}
	if limit == 0 {
		limit = pageDefault
	}
	if limit < 1 || limit > pageLimit {
		return 0, after, errs.E(errs.Invalid, "limit must be 1 to %d", pageLimit)
	}
	if p.After != "" {
		var ok bool
		if after, ok = parsePlace(p.After); !ok {
			return 0, after, errs.E(errs.Invalid, "after is not a position in this list; begin again without it")
		}
	}
	return limit, after, nil
}

// Search returns the records that f chooses, newest first. next is "" after the
// last. A page may have fewer records than asked for, or none, and yet a next:
// then so many records were looked at that the search goes on with the next call.
func (l *Log) Search(ctx context.Context, s Scope, f Filter, p Page) (records []Record, next string, err error) {
	limit, after, err := p.check()
	if err != nil {
		return nil, "", err
	}
	if err := f.Check(); err != nil {
		return nil, "", err
	}
	err = l.db.View(scoped(ctx, s), func(tx *store.Tx) error {
		var found []int64
		if found, next, err = search(ctx, tx, s, f, after, limit); err != nil {
			return err
		}
		records, err = readRecords(ctx, tx, found)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("search audit record: %w", err)
	}
	return records, next, nil
}

// search finds up to limit records.
func search(ctx context.Context, tx *store.Tx, s Scope, f Filter, after place, limit int) (found []int64, next string, err error) {
	q, args := f.query(s, after, searchLimit)
	rows, err := tx.QueryContext(ctx, q, args...)
	if err != nil {
		return nil, "", err
	}
	defer rows.Close()
	looked := 0
	for last := after; rows.Next(); looked++ {
		var r Record
		var p place
		if err := rows.Scan(&p.seq, &p.at, &r.Actor, &r.Action, &r.Target, &r.Address, &r.RequestID); err != nil {
			return nil, "", err
		}
		r.Time = time.UnixMicro(p.at)
		if r.Time.Before(f.From) {
			return found, "", nil
		}
		if f.match(r) {
			if len(found) == limit { // there is one more
				return found, last.String(), nil
			}
			found = append(found, p.seq)
		}
		last = p
		next = p.String()
	}
	if looked < searchLimit {
		next = ""
	}
	return found, next, rows.Err()
}

func readRecords(ctx context.Context, tx *store.Tx, seqs []int64) ([]Record, error) {
	records := make([]Record, 0, len(seqs))
	for _, seq := range seqs {
		var text []byte
		if err := tx.QueryRowContext(ctx, `SELECT record FROM audit_event WHERE seq = $1`, seq).Scan(&text); err != nil {
			return nil, fmt.Errorf("record %d: %w", seq, err)
		}
		r, err := parseRecord(text, seq)
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}
