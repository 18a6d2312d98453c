package alert

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/alert/mail"
	"github.com/keepmq/keepmq/internal/alert/webhook"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

const (
	maxWebhooks = 20
	maxEmails   = 20
	maxName     = 100
	// formerLife is for how long a former secret signs beside the new one.
	formerLife = 24 * time.Hour
)

// A Webhook is a receiver that an organisation named.
type Webhook struct {
	Org      auth.OrgID
	ID       string
	Name     string
	URL      string
	Disabled bool
	Created  time.Time

	sealed, former []byte
	formerUntil    time.Time
}

const webhookColumns = `org, id, name, url, secret, former, former_until, disabled, created_at`

func (h *Webhook) scan(row scanner) error {
	var created, until int64
	err := row.Scan(&h.Org, &h.ID, &h.Name, &h.URL, &h.sealed, &h.former, &until, &h.Disabled, &created)
	h.Created, h.formerUntil = stored(created), stored(until)
	return err
}

func noWebhook(id string) error { return errs.E(errs.NotFound, "webhook %q not found", clip(id)) }

func (s *Service) checkWebhook(h Webhook) error {
	if h.Name == "" || len(h.Name) > maxName || clip(h.Name) != h.Name {
		return errs.E(errs.Invalid, "name must have 1 to %d characters, without control characters", maxName)
	}
	return s.Webhooks.CheckURL(h.URL)
}

// sealedFor binds a sealed secret to its webhook.
func sealedFor(id string) []byte { return []byte("webhook secret 1\x00" + id) }

func (s *Service) seal(ctx context.Context, org auth.OrgID, id string, plain secret.String) ([]byte, error) {
	sealer, err := s.Ring.Sealer(ctx, org)
	if err != nil {
		return nil, fault(err)
	}
	return sealer.Seal(nil, []byte(plain.Reveal()), sealedFor(id)), nil
}

// secrets returns with what is signed for h now: one, or two while one replaces
// the other.
func (s *Service) secrets(ctx context.Context, h Webhook, now time.Time) ([]secret.String, error) {
	sealer, err := s.Ring.Sealer(ctx, h.Org)
	if err != nil {
		return nil, err
	}
	sealed := [][]byte{h.sealed}
	if len(h.former) > 0 && now.Before(h.formerUntil) {
		sealed = append(sealed, h.former)
	}
	var all []secret.String
	for _, b := range sealed {
		plain, err := sealer.Open(nil, b, sealedFor(h.ID))
		if err != nil {
			return nil, fmt.Errorf("open secret: %w", err)
		}
		all = append(all, secret.New(string(plain)))
	}
	return all, nil
}

// CreateWebhook makes a webhook. Its secret is not shown again.
func (s *Service) CreateWebhook(ctx context.Context, a registry.Actor, h Webhook) (Webhook, secret.String, error) {
	none := secret.String{}
	if err := s.Registry.MayAlert(ctx, a, h.Org, permission.AlertWrite); err != nil {
		return Webhook{}, none, err
	}
	if err := s.checkWebhook(h); err != nil {
		return Webhook{}, none, err
	}
	var err error
	if h.ID, err = newID(); err != nil {
		return Webhook{}, none, err
	}
	plain := webhook.NewSecret()
	if h.sealed, err = s.seal(ctx, h.Org, h.ID, plain); err != nil {
		return Webhook{}, none, err
	}
	h.Created = s.Now().UTC().Truncate(time.Microsecond)
	err = s.change(ctx, a, h.Org, "webhook.create", h.ID, map[string]any{"name": h.Name, "url": h.URL}, func(tx *store.Tx) error {
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM webhook WHERE org = $1`, h.Org).Scan(&n); err != nil {
			return fmt.Errorf("count webhooks: %w", err)
		}
		if n >= maxWebhooks {
			return errs.E(errs.Exhausted, "an organisation may have %d webhooks; delete one first", maxWebhooks)
		}
		const q = `INSERT INTO webhook (org, id, name, url, secret, disabled, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`
		_, err := tx.ExecContext(ctx, q, h.Org, h.ID, h.Name, h.URL, h.sealed, h.Disabled, h.Created.UnixMicro())
		return err
	})
	if err != nil {
		return Webhook{}, none, err
	}
	return h, plain, nil
}

// AllWebhooks lists the webhooks of an organisation.
func (s *Service) AllWebhooks(ctx context.Context, a registry.Actor, org auth.OrgID) ([]Webhook, error) {
	if err := s.Registry.MayAlert(ctx, a, org, permission.AlertRead); err != nil {
		return nil, err
	}
	return view[Webhook](store.ForOrg(ctx, string(org)), s.DB, `SELECT `+webhookColumns+` FROM webhook WHERE org = $1 ORDER BY id`, org)
}

func readWebhook(ctx context.Context, tx *store.Tx, org auth.OrgID, id string) (Webhook, error) {
	all, err := collect[Webhook](ctx, tx, `SELECT `+webhookColumns+` FROM webhook WHERE org = $1 AND id = $2`, org, id)
	if err == nil && len(all) == 0 {
		err = noWebhook(id)
	}
	if err != nil {
		return Webhook{}, err
	}
	return all[0], nil
}

// A WebhookChange is what is to be changed of a webhook; nil stays as it is.
type WebhookChange struct {
	Name, URL *string
	Disabled  *bool
}

// UpdateWebhook changes a webhook.
func (s *Service) UpdateWebhook(ctx context.Context, a registry.Actor, org auth.OrgID, id string, c WebhookChange) (Webhook, error) {
	if err := s.Registry.MayAlert(ctx, a, org, permission.AlertWrite); err != nil {
		return Webhook{}, err
	}
	var h Webhook
	detail := map[string]any{}
	err := s.change(ctx, a, org, "webhook.update", id, detail, func(tx *store.Tx) (err error) {
		if h, err = readWebhook(ctx, tx, org, id); err != nil {
			return err
		}
		if c.Name != nil {
			h.Name = *c.Name
		}
		if c.URL != nil {
			h.URL = *c.URL
		}
		if c.Disabled != nil {
			h.Disabled = *c.Disabled
		}
		if err := s.checkWebhook(h); err != nil {
			return err
		}
		detail["name"], detail["url"], detail["disabled"] = h.Name, h.URL, h.Disabled
		_, err = tx.ExecContext(ctx, `UPDATE webhook SET name = $3, url = $4, disabled = $5 WHERE org = $1 AND id = $2`, org, id, h.Name, h.URL, h.Disabled)
		return err
	})
	return h, err
}

// DeleteWebhook deletes a webhook. What was to be sent to it is not.
func (s *Service) DeleteWebhook(ctx context.Context, a registry.Actor, org auth.OrgID, id string) error {
	if err := s.Registry.MayAlert(ctx, a, org, permission.AlertWrite); err != nil {
		return err
	}
	return s.change(ctx, a, org, "webhook.delete", id, nil, func(tx *store.Tx) error {
		if _, err := readWebhook(ctx, tx, org, id); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM alert_delivery WHERE org = $1 AND target = $2`, org, id); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM webhook WHERE org = $1 AND id = $2`, org, id)
		return err
	})
}

// RotateSecret replaces the secret of a webhook. The former one signs too for a
// day, so that the receiver can change over without losing anything.
func (s *Service) RotateSecret(ctx context.Context, a registry.Actor, org auth.OrgID, id string) (secret.String, error) {
	none := secret.String{}
	if err := s.Registry.MayAlert(ctx, a, org, permission.AlertWrite); err != nil {
		return none, err
	}
	plain := webhook.NewSecret()
	sealed, err := s.seal(ctx, org, id, plain)
	if err != nil {
		return none, err
	}
	err = s.change(ctx, a, org, "webhook.rotate", id, nil, func(tx *store.Tx) error {
		if _, err := readWebhook(ctx, tx, org, id); err != nil {
			return err
		}
		const q = `UPDATE webhook SET former = secret, former_until = $3, secret = $4 WHERE org = $1 AND id = $2`
		_, err := tx.ExecContext(ctx, q, org, id, s.Now().Add(formerLife).UnixMicro(), sealed)
		return err
	})
	if err != nil {
		return none, err
	}
	return plain, nil
}

// Test has a message of no meaning sent to a webhook, and returns its delivery.
func (s *Service) Test(ctx context.Context, a registry.Actor, org auth.OrgID, id string) (Delivery, error) {
	if err := s.Registry.MayAlert(ctx, a, org, permission.AlertWrite); err != nil {
		return Delivery{}, err
	}
	now := s.Now().UTC().Truncate(time.Microsecond)
	body, err := json.Marshal(payload{"alert.test", now, data{Org: org, Rule: "test", Subject: "webhook:" + id, Summary: "This is a test."}})
	if err != nil {
		return Delivery{}, err
	}
	var d Delivery
	err = s.change(ctx, a, org, "webhook.test", id, nil, func(tx *store.Tx) error {
		if _, err := readWebhook(ctx, tx, org, id); err != nil {
			return err
		}
		d, err = insertDelivery(ctx, tx, Delivery{Org: org, Kind: kindWebhook, Target: id, body: string(body), Created: now})
		return err
	})
	if err == nil {
		s.kick()
	}
	return d, err
}

// Emails returns to which addresses the alerts of an organisation go.
func (s *Service) Emails(ctx context.Context, a registry.Actor, org auth.OrgID) (all []string, err error) {
	if err := s.Registry.MayAlert(ctx, a, org, permission.AlertRead); err != nil {
		return nil, err
	}
	err = s.DB.View(store.ForOrg(ctx, string(org)), func(tx *store.Tx) (err error) {
		all, err = readEmails(ctx, tx, org)
		return err
	})
	return all, fault(err)
}

func readEmails(ctx context.Context, tx *store.Tx, org auth.OrgID) ([]string, error) {
	var text string
	err := tx.QueryRowContext(ctx, `SELECT emails FROM alert_setting WHERE org = $1`, org).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read addresses: %w", err)
	}
	var all []string
	return all, json.Unmarshal([]byte(text), &all)
}

// SetEmails replaces to which addresses the alerts of an organisation go.
func (s *Service) SetEmails(ctx context.Context, a registry.Actor, org auth.OrgID, all []string) error {
	if err := s.Registry.MayAlert(ctx, a, org, permission.AlertWrite); err != nil {
		return err
	}
	if len(all) > maxEmails {
		return errs.E(errs.Invalid, "emails may have %d addresses, has %d", maxEmails, len(all))
	}
	for i, e := range all {
		if err := mail.CheckAddress(e); err != nil {
			return errs.E(errs.Invalid, "emails[%d]: %s", i, errs.Message(err))
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return s.change(ctx, a, org, "alert.emails", string(org), map[string]any{"emails": strings.Join(all, " ")}, func(tx *store.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO alert_setting (org, emails) VALUES ($1, $2) ON CONFLICT (org) DO UPDATE SET emails = $2`, org, string(text))
		return err
	})
}
