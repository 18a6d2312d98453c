// Package alert notices what is unusual in an organisation and tells its people:
// alerts are kept, sent by e-mail, and to webhooks.
//
// It promises that an alert and what is to be sent for it are stored together;
// that what is to be sent is tried again with growing pauses for about three
// days, also after a restart, each time with the same id; that the same alert
// within Window is counted and not sent again; and that one organisation can
// neither see nor hold up another.
//
// A receiver can get the same message twice, if its answer was lost.
package alert

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/keepmq/keepmq/internal/alert/mail"
	"github.com/keepmq/keepmq/internal/alert/webhook"
	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/keyring"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/store"
)

// Window is for how long the same alert is counted and not sent again.
const Window = time.Hour

const (
	maxAlerts     = 2000 // kept of an organisation; the oldest goes first
	maxDeliveries = 2000
	maxPerHour    = 200 // deliveries of an organisation; alerts beyond are only kept
	maxText       = 300
	keep          = 90 * 24 * time.Hour
)

// A Config is what a Service works with. All fields are required except Mail,
// Recipients and Now.
type Config struct {
	DB       store.DB
	Ring     *keyring.Ring
	Registry *registry.Registry // decides who may do what
	Webhooks *webhook.Client
	Mail     *mail.Sender // nil: no e-mail is sent
	// Recipients get the alerts of all organisations by e-mail.
	Recipients []string
	Log        *slog.Logger
	Now        func() time.Time // nil: time.Now
}

// A Service is the alerts of one store. Its methods may be called from any
// goroutine.
type Service struct {
	Config
	wake  chan struct{} // something is to be sent
	facts facts
}

// New returns the Service of c.DB.
func New(c Config) *Service {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Service{Config: c, wake: make(chan struct{}, 1),
		facts: facts{all: make(chan Fact, maxFacts), signIns: make(chan signedIn, maxFacts)}}
}

// The states of an alert.
const (
	Open         = "open"
	Acknowledged = "acknowledged"
	Resolved     = "resolved"
)

// An Alert says that something is unusual.
type Alert struct {
	Org       auth.OrgID
	ID        string
	Rule      string // what was noticed, as "takeover"
	Subject   string // whom or what it is about
	Summary   string // in one sentence
	State     string
	Count     int64 // how often since First
	First     time.Time
	Last      time.Time
	Changed   time.Time // when somebody changed its state; zero: nobody did
	ChangedBy string
}

const alertColumns = `org, id, rule, subject, summary, state, count, first_at, last_at, changed_at, changed_by`

type scanner interface{ Scan(...any) error }

func (a *Alert) scan(row scanner) error {
	var first, last, changed int64
	err := row.Scan(&a.Org, &a.ID, &a.Rule, &a.Subject, &a.Summary, &a.State, &a.Count, &first, &last, &changed, &a.ChangedBy)
	a.First, a.Last = stored(first), stored(last)
	if changed != 0 {
		a.Changed = stored(changed)
	}
	return err
}

func stored(us int64) time.Time { return time.UnixMicro(us).UTC() }

func newID() (string, error) {
	id, err := uuid.NewV7()
	return id.String(), err
}

// clip bounds a text in which there is what a client chose, and makes it fit to
// be shown.
func clip(s string) string {
	out := make([]rune, 0, maxText)
	for _, c := range s {
		if len(out) == cap(out) {
			break
		}
		if !unicode.IsPrint(c) {
			c = '?'
		}
		out = append(out, c)
	}
	return string(out)
}

// Raise stores an alert and what is to be sent for it, or counts it if the same
// is there already. Of a only Org, Rule, Subject and Summary are used.
func (s *Service) Raise(ctx context.Context, a Alert) error {
	a.Subject, a.Summary = clip(a.Subject), clip(a.Summary)
	now := s.Now().UTC()
	err := s.DB.Update(store.ForOrg(ctx, string(a.Org)), func(tx *store.Tx) error {
		same, err := count(ctx, tx, a, now)
		if err != nil || same {
			return err
		}
		if a.ID, err = newID(); err != nil {
			return err
		}
		a.State, a.Count, a.First, a.Last = Open, 1, now, now
		if err := prune(ctx, tx, "alert", a.Org, maxAlerts); err != nil {
			return err
		}
		const q = `INSERT INTO alert (org, id, rule, subject, summary, state, count, first_at, last_at) VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $7)`
		if _, err := tx.ExecContext(ctx, q, a.Org, a.ID, a.Rule, a.Subject, a.Summary, a.State, now.UnixMicro()); err != nil {
			return fmt.Errorf("insert alert: %w", err)
		}
		if err := s.enqueue(ctx, tx, a, now); err != nil {
			return err
		}
		return audit.Append(ctx, tx, audit.Event{Org: a.Org, Actor: auth.Principal{Kind: auth.System, ID: "alert"}, Action: "alert.raise", Target: a.ID,
			Detail: map[string]any{"rule": a.Rule, "subject": a.Subject}})
	})
	if err == nil {
		s.kick()
	}
	return err
}

// count counts a for the same alert of before, if there is one.
func count(ctx context.Context, tx *store.Tx, a Alert, now time.Time) (bool, error) {
	const q = `UPDATE alert SET count = count + 1, last_at = $5, summary = $6
		WHERE org = $1 AND rule = $2 AND subject = $3 AND first_at > $4 AND state <> 'resolved'`
	res, err := tx.ExecContext(ctx, q, a.Org, a.Rule, a.Subject, now.Add(-Window).UnixMicro(), now.UnixMicro(), a.Summary)
	if err != nil {
		return false, fmt.Errorf("count alert: %w", err)
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// prune makes room for one more row of an organisation; ids are in the order of
// time.
func prune(ctx context.Context, tx *store.Tx, table string, org auth.OrgID, most int) error {
	q := `DELETE FROM ` + table + ` WHERE org = $1 AND id <= (SELECT id FROM ` + table + ` WHERE org = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)`
	if _, err := tx.ExecContext(ctx, q, org, most-1); err != nil {
		return fmt.Errorf("delete old rows of %s: %w", table, err)
	}
	return nil
}

// A payload is what is sent to a webhook.
type payload struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      data      `json:"data"`
}

type data struct {
	Org     auth.OrgID `json:"org"`
	ID      string     `json:"id"`
	Rule    string     `json:"rule"`
	Subject string     `json:"subject"`
	Summary string     `json:"summary"`
}

// enqueue stores what is to be sent for a: to each webhook, and to each address.
func (s *Service) enqueue(ctx context.Context, tx *store.Tx, a Alert, now time.Time) error {
	var lately int64
	const hour = `SELECT COUNT(*) FROM alert_delivery WHERE org = $1 AND created_at > $2`
	if err := tx.QueryRowContext(ctx, hour, a.Org, now.Add(-time.Hour).UnixMicro()).Scan(&lately); err != nil {
		return fmt.Errorf("count deliveries: %w", err)
	}
	if lately >= maxPerHour {
		s.Log.Warn("an organisation has more alerts than are sent; they are kept", "org", a.Org)
		return nil
	}
	body, err := json.Marshal(payload{"alert.opened", now, data{a.Org, a.ID, a.Rule, a.Subject, a.Summary}})
	if err != nil {
		return err
	}
	hooks, err := collect[Webhook](ctx, tx, `SELECT `+webhookColumns+` FROM webhook WHERE org = $1 AND disabled = FALSE ORDER BY id`, a.Org)
	if err != nil {
		return err
	}
	for _, h := range hooks {
		if _, err := insertDelivery(ctx, tx, Delivery{Org: a.Org, Kind: kindWebhook, Target: h.ID, Alert: a.ID, body: string(body), Created: now}); err != nil {
			return err
		}
	}
	if s.Mail == nil {
		return nil
	}
	to, err := readEmails(ctx, tx, a.Org)
	if err != nil {
		return err
	}
	sent := map[string]bool{}
	for _, address := range append(to, s.Recipients...) {
		if k := strings.ToLower(address); sent[k] {
			continue
		} else {
			sent[k] = true
		}
		if _, err := insertDelivery(ctx, tx, Delivery{Org: a.Org, Kind: kindMail, Target: address, Alert: a.ID, body: string(body), Created: now}); err != nil {
			return err
		}
	}
	return nil
}

// collect reads all rows that query finds.
func collect[T any, P interface {
	*T
	scan(scanner) error
}](ctx context.Context, tx *store.Tx, query string, args ...any) ([]T, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		var t T
		if err := P(&t).scan(rows); err != nil {
			return nil, fmt.Errorf("read row: %w", err)
		}
		all = append(all, t)
	}
	return all, rows.Err()
}

// Alerts lists the alerts of an organisation, the latest first; with a state,
// those that are in it. before is the id of the last of the page before, or "".
func (s *Service) Alerts(ctx context.Context, a registry.Actor, org auth.OrgID, state, before string, limit int) ([]Alert, error) {
	if err := s.Registry.MayAlert(ctx, a, org, permission.AlertRead); err != nil {
		return nil, err
	}
	if before == "" {
		before = "~" // after every id
	}
	const q = `SELECT ` + alertColumns + ` FROM alert WHERE org = $1 AND ($2 = '' OR state = $2) AND id < $3 ORDER BY id DESC LIMIT $4`
	return view[Alert](store.ForOrg(ctx, string(org)), s.DB, q, org, state, before, limit)
}

func view[T any, P interface {
	*T
	scan(scanner) error
}](ctx context.Context, db store.DB, query string, args ...any) ([]T, error) {
	var all []T
	err := db.View(ctx, func(tx *store.Tx) (err error) {
		all, err = collect[T, P](ctx, tx, query, args...)
		return err
	})
	return all, fault(err)
}

// fault gives an error of the store its code.
func fault(err error) error {
	if err == nil || errs.CodeOf(err) != errs.Internal {
		return err
	}
	return errs.Wrap(errs.Unavailable, err, "alerts cannot be read or changed now; try again")
}

// SetState acknowledges, resolves or reopens an alert.
func (s *Service) SetState(ctx context.Context, a registry.Actor, org auth.OrgID, id, state string) (Alert, error) {
	if err := s.Registry.MayAlert(ctx, a, org, permission.AlertWrite); err != nil {
		return Alert{}, err
	}
	if state != Open && state != Acknowledged && state != Resolved {
		return Alert{}, errs.E(errs.Invalid, "state must be %q, %q or %q", Open, Acknowledged, Resolved)
	}
	var now Alert
	err := s.change(ctx, a, org, "alert."+state, id, nil, func(tx *store.Tx) error {
		const q = `UPDATE alert SET state = $3, changed_at = $4, changed_by = $5 WHERE org = $1 AND id = $2 RETURNING ` + alertColumns
		all, err := collect[Alert](ctx, tx, q, org, id, state, s.Now().UnixMicro(), a.Principal.String())
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return errs.E(errs.NotFound, "alert %q not found", clip(id))
		}
		now = all[0]
		return nil
	})
	return now, err
}

// change runs fn and the record of it in one transaction.
func (s *Service) change(ctx context.Context, a registry.Actor, org auth.OrgID, action, target string, detail map[string]any, fn func(*store.Tx) error) error {
	return fault(s.DB.Update(store.ForOrg(ctx, string(org)), func(tx *store.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return audit.Append(ctx, tx, audit.Event{Org: org, Actor: a.Principal, Action: action, Target: target, Detail: detail,
			Address: clip(a.Address), RequestID: clip(a.RequestID)})
	}))
}

// jitter spreads what would be sent at the same time.
func jitter(d time.Duration) time.Duration {
	var b [1]byte
	_, _ = rand.Read(b[:]) // it never fails
	return d + d*time.Duration(b[0])/2560
}
