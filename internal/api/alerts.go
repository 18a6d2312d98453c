package api

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/keepmq/keepmq/internal/alert"
	"github.com/keepmq/keepmq/internal/registry"
)

// alertRoutes is the routes of alerts and where they are sent.
func (s *server) alertRoutes(a huma.API) {
	get(s, a, "/orgs/{org}/alerts", "list-alerts", "List what was unusual, latest first", s.listAlerts)
	update(s, a, "/orgs/{org}/alerts/{id}", "update-alert", "Acknowledge, resolve or reopen an alert", s.updateAlert)
	get(s, a, "/orgs/{org}/alert-emails", "get-alert-emails", "To which e-mail addresses alerts go", s.getAlertEmails)
	replace(s, a, "/orgs/{org}/alert-emails", "put-alert-emails", "Replace to which e-mail addresses alerts go", s.putAlertEmails)
	get(s, a, "/orgs/{org}/webhooks", "list-webhooks", "List the webhooks that alerts are sent to", s.listWebhooks)
	create(s, a, "/orgs/{org}/webhooks", "create-webhook", "Create a webhook; its secret is shown once", s.createWebhook)
	update(s, a, "/orgs/{org}/webhooks/{id}", "update-webhook", "Change, disable or enable a webhook", s.updateWebhook)
	remove(s, a, "/orgs/{org}/webhooks/{id}", "delete-webhook", "Delete a webhook, and what was to be sent to it", s.deleteWebhook)
	get(s, a, "/orgs/{org}/webhooks/{id}/deliveries", "list-deliveries", "List what was and is to be sent to a webhook, latest first", s.listDeliveries)
	act(s, a, "/orgs/{org}/webhooks/{id}/test", "test-webhook", "Send a test to a webhook", s.testWebhook)
	act(s, a, "/orgs/{org}/webhooks/{id}/secret", "rotate-webhook-secret", "Replace a webhook's secret; the former one signs too for a day", s.rotateWebhookSecret)
}

// Alert says that something is unusual.
type Alert struct {
	ID        string     `json:"id"`
	Rule      string     `json:"rule" doc:"What was noticed."`
	Subject   string     `json:"subject" doc:"Whom or what it is about."`
	Summary   string     `json:"summary"`
	State     string     `json:"state" enum:"open,acknowledged,resolved"`
	Count     int64      `json:"count" doc:"How often it was seen since first."`
	First     time.Time  `json:"first"`
	Last      time.Time  `json:"last"`
	Changed   *time.Time `json:"changed,omitempty" doc:"When somebody changed its state."`
	ChangedBy string     `json:"changedBy,omitempty"`
}

func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = utc(t)
	return &t
}

func alertOf(a alert.Alert) Alert {
	return Alert{ID: a.ID, Rule: a.Rule, Subject: a.Subject, Summary: a.Summary, State: a.State, Count: a.Count,
		First: utc(a.First), Last: utc(a.Last), Changed: when(a.Changed), ChangedBy: a.ChangedBy}
}

// InID names an alert or a webhook.
type InID struct {
	ID string `path:"id" minLength:"1" maxLength:"64"`
}

// next is the position of the page after a full one.
func next[T any](all []T, limit int, id func(T) string) string {
	if len(all) < limit {
		return ""
	}
	return id(all[len(all)-1])
}

func (s *server) listAlerts(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	InPage
	State string `query:"state" enum:"open,acknowledged,resolved" doc:"Only alerts in this state."`
}) (*body[list[Alert]], error) {
	all, err := s.alerts.Alerts(ctx, actor, in.org(), in.State, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	return newList(all, next(all, in.Limit, func(a alert.Alert) string { return a.ID }), alertOf), nil
}

func (s *server) updateAlert(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	InID
	Body struct {
		State string `json:"state" enum:"open,acknowledged,resolved"`
	}
}) (*body[Alert], error) {
	a, err := s.alerts.SetState(ctx, actor, in.org(), in.ID, in.Body.State)
	if err != nil {
		return nil, err
	}
	return &body[Alert]{Body: alertOf(a)}, nil
}

// AlertEmails is to which addresses alerts go.
type AlertEmails struct {
	Emails []string `json:"emails" maxItems:"20" doc:"E-mail addresses."`
}

func (s *server) getAlertEmails(ctx context.Context, actor registry.Actor, in *InOrg) (*body[AlertEmails], error) {
	all, err := s.alerts.Emails(ctx, actor, in.org())
	if err != nil {
		return nil, err
	}
	return &body[AlertEmails]{Body: AlertEmails{Emails: append([]string{}, all...)}}, nil
}

func (s *server) putAlertEmails(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Body AlertEmails
}) (*body[AlertEmails], error) {
	if err := s.alerts.SetEmails(ctx, actor, in.org(), in.Body.Emails); err != nil {
		return nil, err
	}
	return &body[AlertEmails]{Body: in.Body}, nil
}

// Webhook is a receiver of alerts.
type Webhook struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	URL      string    `json:"url"`
	Disabled bool      `json:"disabled"`
	Created  time.Time `json:"created"`
	Secret   string    `json:"secret,omitempty" doc:"With what messages are signed (Standard Webhooks). Only in the answer to its creation or replacement."`
}

func webhookOf(h alert.Webhook) Webhook {
	return Webhook{ID: h.ID, Name: h.Name, URL: h.URL, Disabled: h.Disabled, Created: utc(h.Created)}
}

func (s *server) listWebhooks(ctx context.Context, actor registry.Actor, in *InOrg) (*body[list[Webhook]], error) {
	all, err := s.alerts.AllWebhooks(ctx, actor, in.org())
	if err != nil {
		return nil, err
	}
	return newList(all, "", webhookOf), nil
}

func (s *server) createWebhook(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Body struct {
		Name string `json:"name" minLength:"1" maxLength:"100"`
		URL  string `json:"url" minLength:"1" maxLength:"1000" doc:"https:// only, on the public internet."`
	}
}) (*body[Webhook], error) {
	h, plain, err := s.alerts.CreateWebhook(ctx, actor, alert.Webhook{Org: in.org(), Name: in.Body.Name, URL: in.Body.URL})
	if err != nil {
		return nil, err
	}
	x := webhookOf(h)
	x.Secret = plain.Reveal()
	return &body[Webhook]{Body: x}, nil
}

func (s *server) updateWebhook(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	InID
	Body struct {
		Name     *string `json:"name,omitempty" minLength:"1" maxLength:"100"`
		URL      *string `json:"url,omitempty" minLength:"1" maxLength:"1000"`
		Disabled *bool   `json:"disabled,omitempty"`
	}
}) (*body[Webhook], error) {
	h, err := s.alerts.UpdateWebhook(ctx, actor, in.org(), in.ID, alert.WebhookChange(in.Body))
	if err != nil {
		return nil, err
	}
	return &body[Webhook]{Body: webhookOf(h)}, nil
}

func (s *server) deleteWebhook(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	InID
}) error {
	return s.alerts.DeleteWebhook(ctx, actor, in.org(), in.ID)
}

// Delivery is something that was or is to be sent.
type Delivery struct {
	ID       string     `json:"id" doc:"The webhook-id of every attempt."`
	Alert    string     `json:"alert,omitempty" doc:"Absent: a test."`
	State    string     `json:"state" enum:"waiting,delivered,failed"`
	Attempts int64      `json:"attempts"`
	Next     *time.Time `json:"next,omitempty" doc:"When it is tried next, while it is waiting."`
	Error    string     `json:"error,omitempty" doc:"Of the latest attempt."`
	Created  time.Time  `json:"created"`
	Ended    *time.Time `json:"ended,omitempty"`
}

func deliveryOf(d alert.Delivery) Delivery {
	x := Delivery{ID: d.ID, Alert: d.Alert, State: d.State, Attempts: d.Attempts, Error: d.Error, Created: utc(d.Created), Ended: when(d.Ended)}
	if d.State == alert.Waiting {
		x.Next = when(d.Next)
	}
	return x
}

func (s *server) listDeliveries(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	InID
	InPage
}) (*body[list[Delivery]], error) {
	all, err := s.alerts.Deliveries(ctx, actor, in.org(), in.ID, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	return newList(all, next(all, in.Limit, func(d alert.Delivery) string { return d.ID }), deliveryOf), nil
}

func (s *server) testWebhook(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	InID
}) (*body[Delivery], error) {
	d, err := s.alerts.Test(ctx, actor, in.org(), in.ID)
	if err != nil {
		return nil, err
	}
	return &body[Delivery]{Body: deliveryOf(d)}, nil
}

// WebhookSecret is the new secret of a webhook.
type WebhookSecret struct {
	Secret string `json:"secret" doc:"Shown once."`
}

func (s *server) rotateWebhookSecret(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	InID
}) (*body[WebhookSecret], error) {
	plain, err := s.alerts.RotateSecret(ctx, actor, in.org(), in.ID)
	if err != nil {
		return nil, err
	}
	return &body[WebhookSecret]{Body: WebhookSecret{plain.Reveal()}}, nil
}
