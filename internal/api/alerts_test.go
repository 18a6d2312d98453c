package api_test

import (
	"testing"
)

func TestWebhooks(t *testing.T) {
	f := start(t)
	org := "/api/v1/orgs/" + string(f.first.Org.ID)
	var h struct {
		ID, Secret string
		Disabled   bool
	}
	f.ask(t, f.admin, "POST", org+"/webhooks", map[string]any{"name": "ops", "url": "https://example.com/hook"}).is(t, 201).into(t, &h)
	if len(h.Secret) < 40 || h.Secret[:6] != "whsec_" {
		t.Errorf("secret %q", h.Secret)
	}
	for _, url := range []string{"http://example.com", "https://127.0.0.1/", "https://169.254.169.254/"} {
		f.ask(t, f.admin, "POST", org+"/webhooks", map[string]any{"name": "in", "url": url}).is(t, 422)
	}
	var l struct{ Items []struct{ ID, Secret string } }
	f.ask(t, f.admin, "GET", org+"/webhooks", nil).is(t, 200).into(t, &l)
	if len(l.Items) != 1 || l.Items[0].ID != h.ID || l.Items[0].Secret != "" {
		t.Errorf("list %+v", l)
	}
	one := org + "/webhooks/" + h.ID
	f.ask(t, f.admin, "PATCH", one, map[string]any{"disabled": true}).is(t, 200).into(t, &h)
	if !h.Disabled {
		t.Error("it is not disabled")
	}
	var s struct{ Secret string }
	f.ask(t, f.admin, "POST", one+"/secret", nil).is(t, 200).into(t, &s)
	if s.Secret == "" || s.Secret == h.Secret {
		t.Errorf("new secret %q", s.Secret)
	}
	f.ask(t, f.admin, "POST", one+"/test", nil).is(t, 200)
	var d struct {
		Items []struct{ State, Next string }
		Next  string
	}
	f.ask(t, f.admin, "GET", one+"/deliveries?limit=1", nil).is(t, 200).into(t, &d)
	if len(d.Items) != 1 || d.Items[0].State != "waiting" || d.Items[0].Next == "" {
		t.Errorf("deliveries %+v", d)
	}
	f.ask(t, f.admin, "PUT", org+"/alert-emails", map[string]any{"emails": []string{"ops@example.com"}}).is(t, 200)
	f.ask(t, f.admin, "PUT", org+"/alert-emails", map[string]any{"emails": []string{"ops@example.com\r\nBcc: x@y.z"}}).is(t, 422)
	f.ask(t, f.admin, "GET", org+"/alerts?state=open", nil).is(t, 200)
	f.ask(t, f.admin, "PATCH", org+"/alerts/none", map[string]any{"state": "resolved"}).is(t, 404)
	standard := application(f.first.Application.Key, f.first.ApplicationToken.Reveal())
	f.ask(t, standard, "GET", "/api/v1/orgs/zzzzzz/webhooks", nil).is(t, 404)
	f.ask(t, f.admin, "DELETE", one, nil).is(t, 204)
	f.ask(t, f.admin, "GET", one+"/deliveries", nil).is(t, 404)
}
