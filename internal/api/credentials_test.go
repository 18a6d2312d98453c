package api_test

import (
	"testing"
	"time"
)

func TestCredentials(t *testing.T) {
	f := start(t)
	org := "/api/v1/orgs/" + string(f.first.Org.ID)
	f.ask(t, f.admin, "POST", org+"/devices", map[string]any{"type": "sensor", "id": "c-1"}).is(t, 201)
	one := org + "/devices/sensor/c-1/token"
	end := time.Now().Add(90 * time.Minute).UTC().Truncate(time.Second)
	f.ask(t, f.admin, "POST", one, map[string]any{"overlap_seconds": 3600, "expires": end}).is(t, 200)
	type credential struct {
		Kind, Holder string
		Version      int
		Expires      *time.Time
		BeforeUntil  *time.Time     `json:"before_until"`
		LastUse      map[string]any `json:"last_use"`
	}
	var l struct{ Items []credential }
	f.ask(t, f.admin, "GET", org+"/credentials?two=true", nil).is(t, 200).into(t, &l)
	if len(l.Items) != 1 || l.Items[0].Holder != "sensor:c-1" || l.Items[0].Version != 2 || l.Items[0].BeforeUntil == nil ||
		l.Items[0].Expires == nil || !l.Items[0].Expires.Equal(end) || l.Items[0].LastUse != nil {
		t.Errorf("%+v", l.Items)
	}
	f.ask(t, f.admin, "POST", one, map[string]any{"overlap_seconds": 3600}).is(t, 409)
	f.ask(t, f.admin, "POST", one, map[string]any{"overlap_seconds": -1}).is(t, 422)
	f.ask(t, f.admin, "POST", one, map[string]any{"expires": "2001-01-01T00:00:00Z"}).is(t, 422)
	f.ask(t, f.admin, "DELETE", one+"/before", nil).is(t, 204)
	f.ask(t, f.admin, "DELETE", one+"/before", nil).is(t, 409)
	f.ask(t, f.admin, "PATCH", one, map[string]any{"expires": nil}).is(t, 200)
	f.ask(t, f.admin, "PATCH", one, map[string]any{}).is(t, 422)
	f.ask(t, f.admin, "PATCH", org+"/devices/sensor/nope/token", map[string]any{"expires": nil}).is(t, 404)
	f.ask(t, f.admin, "DELETE", org+"/apps/nope/token/before", nil).is(t, 404)
	f.ask(t, f.admin, "PATCH", org+"/users/nope/password", map[string]any{"expires": nil}).is(t, 404)
	f.ask(t, f.admin, "GET", org+"/credentials?kind=person", nil).is(t, 422)
	f.ask(t, f.admin, "GET", org+"/credentials?after=x", nil).is(t, 422)
	f.ask(t, f.admin, "GET", org+"/credentials?expires_within_seconds=60", nil).is(t, 200).into(t, &l)
	if len(l.Items) != 0 {
		t.Errorf("%+v", l.Items)
	}
}
