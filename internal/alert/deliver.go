package alert

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/keepmq/keepmq/internal/alert/mail"
	"github.com/keepmq/keepmq/internal/alert/webhook"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/store"
)

// The kinds and states of a delivery.
const (
	kindWebhook = "webhook"
	kindMail    = "mail"

	Waiting   = "waiting"
	Delivered = "delivered"
	Failed    = "failed"
)

// pauses are between an attempt and the next; about three days together.
var pauses = []time.Duration{5 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
	10 * time.Hour, 14 * time.Hour, 18 * time.Hour, 22 * time.Hour}

const (
	perOrg   = 4  // deliveries of one organisation at one time
	together = 32 // at one time
	look     = 5 * time.Second
)

// A Delivery is something that is to be sent, or was.
type Delivery struct {
	Org      auth.OrgID
	ID       string
	Kind     string
	Target   string
	Alert    string // empty: a test
	State    string
	Attempts int64
	Next     time.Time // of the next attempt, while it is waiting
	Error    string    // of the latest attempt
	Created  time.Time
	Ended    time.Time // zero: it has not

	body string
}

const deliveryColumns = `org, id, kind, target, alert, body, state, attempts, next_at, last_error, created_at, ended_at`

func (d *Delivery) scan(row scanner) error {
	var next, created, ended int64
	err := row.Scan(&d.Org, &d.ID, &d.Kind, &d.Target, &d.Alert, &d.body, &d.State, &d.Attempts, &next, &d.Error, &created, &ended)
	d.Next, d.Created = stored(next), stored(created)
	if ended != 0 {
		d.Ended = stored(ended)
	}
	return err
}

func insertDelivery(ctx context.Context, tx *store.Tx, d Delivery) (Delivery, error) {
	var err error
	if d.ID, err = newID(); err != nil {
		return d, err
	}
	d.State, d.Next = Waiting, d.Created
	if err := prune(ctx, tx, "alert_delivery", d.Org, maxDeliveries); err != nil {
		return d, err
	}
	const q = `INSERT INTO alert_delivery (org, id, kind, target, alert, body, state, attempts, next_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $8)`
	_, err = tx.ExecContext(ctx, q, d.Org, d.ID, d.Kind, d.Target, d.Alert, d.body, d.State, d.Created.UnixMicro())
	if err != nil {
		return d, fmt.Errorf("insert delivery: %w", err)
	}
	return d, nil
}

// Deliveries lists what was and is to be sent to a webhook, the latest first.
func (s *Service) Deliveries(ctx context.Context, a registry.Actor, org auth.OrgID, hook, before string, limit int) ([]Delivery, error) {
	if err := s.Registry.MayAlert(ctx, a, org, permission.AlertRead); err != nil {
		return nil, err
	}
	if before == "" {
		before = "~" // after every id
	}
	var all []Delivery
	err := s.DB.View(store.ForOrg(ctx, string(org)), func(tx *store.Tx) (err error) {
		if _, err := readWebhook(ctx, tx, org, hook); err != nil {
			return err
		}
		const q = `SELECT ` + deliveryColumns + ` FROM alert_delivery WHERE org = $1 AND target = $2 AND id < $3 ORDER BY id DESC LIMIT $4`
		all, err = collect[Delivery](ctx, tx, q, org, hook, before, limit)
		return err
	})
	return all, fault(err)
}

func (s *Service) kick() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake
	}
}

// Run sends what is due until ctx ends.
func (s *Service) Run(ctx context.Context) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	tidied := time.Time{}
	for ctx.Err() == nil {
		n, err := s.deliverDue(ctx)
		if err != nil && ctx.Err() == nil {
			s.Log.Error("alerts cannot be sent", "err", err)
		}
		if now := s.Now(); now.Sub(tidied) > time.Hour {
			tidied = now
			if err := s.tidy(ctx, now); err != nil && ctx.Err() == nil {
				s.Log.Error("old alerts cannot be deleted", "err", err)
			}
		}
		if n > 0 && err == nil {
			continue // there may be more
		}
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-tick.C:
		}
	}
}

// tidy deletes what is old.
func (s *Service) tidy(ctx context.Context, now time.Time) error {
	old := now.Add(-keep).UnixMicro()
	return s.DB.Update(store.ForAll(ctx), func(tx *store.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM alert_delivery WHERE ended_at <> 0 AND ended_at < $1`, old); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM alert WHERE last_at < $1`, old)
		return err
	})
}

// deliverDue makes an attempt for what is due, of no organisation more than a few
// at one time, and returns for how many it did.
func (s *Service) deliverDue(ctx context.Context) (int, error) {
	const q = `SELECT ` + deliveryColumns + ` FROM (
			SELECT ` + deliveryColumns + `, ROW_NUMBER() OVER (PARTITION BY org ORDER BY next_at, id) AS place
			FROM alert_delivery WHERE state = 'waiting' AND next_at <= $1) AS due
		WHERE place <= $2 ORDER BY next_at LIMIT $3`
	due, err := view[Delivery](store.ForAll(ctx), s.DB, q, s.Now().UnixMicro(), perOrg, together)
	if err != nil {
		return 0, err
	}
	var all sync.WaitGroup
	failed := make([]error, len(due))
	for i, d := range due {
		all.Go(func() { failed[i] = s.attempt(ctx, d) })
	}
	all.Wait()
	for _, err := range failed {
		if err != nil {
			return 0, err
		}
	}
	return len(due), nil
}

// attempt makes one attempt, and stores how it ended. A crash between the two
// makes for another attempt.
func (s *Service) attempt(ctx context.Context, d Delivery) error {
	err := s.send(ctx, d)
	if ctx.Err() != nil {
		return ctx.Err() // we stop: that is no failure of the receiver's
	}
	now := s.Now()
	d.State, d.Error = Delivered, ""
	next, ended := now, now.UnixMicro()
	if err != nil {
		d.State, d.Error = Failed, clip(errs.Message(err))
		if d.Error == "" {
			d.Error = "it could not be sent; the server's log says why"
		}
		s.Log.Info("alert was not sent", "org", d.Org, "delivery", d.ID, "attempt", d.Attempts+1, "err", err)
		if final := errs.CodeOf(err) == errs.NotFound; d.Attempts < int64(len(pauses)) && !final {
			d.State, ended = Waiting, 0
			next = now.Add(jitter(pauses[d.Attempts]))
		}
	}
	return s.DB.Update(store.ForOrg(ctx, string(d.Org)), func(tx *store.Tx) error {
		const q = `UPDATE alert_delivery SET state = $3, attempts = attempts + 1, next_at = $4, last_error = $5, ended_at = $6 WHERE org = $1 AND id = $2`
		_, err := tx.ExecContext(ctx, q, d.Org, d.ID, d.State, next.UnixMicro(), d.Error, ended)
		return err
	})
}

func (s *Service) send(ctx context.Context, d Delivery) error {
	if d.Kind == kindMail {
		return s.sendMail(ctx, d)
	}
	var h Webhook
	err := s.DB.View(store.ForOrg(ctx, string(d.Org)), func(tx *store.Tx) (err error) {
		h, err = readWebhook(ctx, tx, d.Org, d.Target)
		return err
	})
	if err != nil {
		return err
	}
	if h.Disabled {
		return errs.E(errs.NotFound, "the webhook is disabled")
	}
	now := s.Now()
	secrets, err := s.secrets(ctx, h, now)
	if err != nil {
		return err
	}
	return s.Webhooks.Send(ctx, h.URL, webhook.Message{ID: d.ID, Body: []byte(d.body), Secrets: secrets}, now)
}

func (s *Service) sendMail(ctx context.Context, d Delivery) error {
	if s.Mail == nil {
		return errs.E(errs.NotFound, "this server sends no e-mail")
	}
	var p payload
	if err := json.Unmarshal([]byte(d.body), &p); err != nil {
		return fmt.Errorf("read delivery: %w", err)
	}
	var name string
	err := s.DB.View(store.ForOrg(ctx, string(d.Org)), func(tx *store.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT name FROM org WHERE id = $1`, d.Org).Scan(&name)
	})
	if err != nil {
		return fmt.Errorf("read organisation: %w", err)
	}
	return s.Mail.Send(ctx, d.Target, mail.Message{ID: d.ID, Org: string(d.Org), OrgName: name, Rule: p.Data.Rule,
		Subject: p.Data.Subject, Summary: p.Data.Summary, At: p.Timestamp})
}
