package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/quota"
)

type shownLimit struct {
	Name, About    string
	AtLimit        string `json:"at_limit"`
	Default        any
	Set, Effective any
	Used           *int64
}

// limits asks for limits, or changes them first.
func (f *fixture) limits(t *testing.T, who caller, path string, change any) map[string]shownLimit {
	t.Helper()
	method := "GET"
	if change != nil {
		method = "PATCH"
	}
	var l struct{ Items []shownLimit }
	f.ask(t, who, method, path, change).is(t, 200).into(t, &l)
	m := map[string]shownLimit{}
	for _, i := range l.Items {
		m[i.Name] = i
	}
	return m
}

func TestLimits(t *testing.T) {
	f := start(t)
	org := "/api/v1/orgs/" + string(f.first.Org.ID)
	own := f.manager(t)
	all := f.limits(t, own, org+"/limits", nil)
	if len(all) != len(quota.All()) {
		t.Errorf("%d limits are shown", len(all))
	}
	for name, l := range all {
		if l.About == "" || l.AtLimit == "" || l.Set != nil || l.Default == nil || l.Effective != l.Default {
			t.Errorf("%s: %+v", name, l)
		}
	}
	if u := all["org.connections"].Used; u == nil || *u != 3 || all["client.queue"].Used != nil {
		t.Error("usage is not shown, or shown where nothing is counted")
	}
	all = f.limits(t, f.admin, org+"/limits", map[string]any{"client.queue": 500, "client.queue_full": "end_session", "org.connections": 7})
	if l := all["client.queue"]; l.Set != 500.0 || l.Effective != 500.0 || l.Default != 100_000.0 {
		t.Errorf("set: %+v", l)
	}
	if l := all["client.queue_full"]; l.Set != "end_session" || l.Effective != "end_session" || l.Default != "refuse" {
		t.Errorf("set: %+v", l)
	}

	of := f.limits(t, own, org+"/types/sensor/limits", map[string]any{"client.queue": 900, "client.packet": 2000})
	if l := of["client.queue"]; l.Set != 900.0 || l.Effective != 500.0 {
		t.Errorf("a type has more than its organisation: %+v", l)
	}
	if l := of["client.packet"]; l.Set != 2000.0 || l.Effective != 2000.0 {
		t.Errorf("set for a type: %+v", l)
	}
	if _, ok := of["org.connections"]; ok {
		t.Error("a type is shown limits of the organisation")
	}
	if u := of["type.connections"].Used; u == nil || *u != 2 {
		t.Error("usage of the type is not shown")
	}
	if all = f.limits(t, own, org+"/limits", nil); all["client.packet"].Set != nil {
		t.Error("what is set for a type is shown as the organisation's")
	}
	all = f.limits(t, f.admin, org+"/limits", map[string]any{"client.queue": nil})
	if l := all["client.queue"]; l.Set != nil || l.Effective != 100_000.0 || all["org.connections"].Set != 7.0 {
		t.Errorf("unset: %+v, %+v", l, all["org.connections"])
	}
	if l := f.limits(t, own, org+"/types/sensor/limits", nil)["client.queue"]; l.Effective != 900.0 {
		t.Errorf("the type: %+v", l)
	}

	var audit struct {
		Items []struct {
			Action string
			Detail map[string]map[string]any
		}
	}
	f.ask(t, own, "GET", "/api/v1/audit?limit=1", nil).is(t, 200).into(t, &audit)
	if a := audit.Items[0]; a.Action != "org.limits" || a.Detail["before"]["client.queue"] != 500.0 || a.Detail["limits"]["client.queue"] != nil {
		t.Errorf("on the record: %+v", a)
	}
}

func TestLimitRefusals(t *testing.T) {
	f := start(t)
	org := "/api/v1/orgs/" + string(f.first.Org.ID)
	own := f.manager(t)
	for _, c := range []struct {
		who    caller
		path   string
		body   any
		status int
		says   string
	}{
		{own, "/limits", map[string]any{"client.queue": 5}, 403, "administrator"},
		{f.admin, "/limits", map[string]any{"client.queue": 0}, 422, "client.queue: 0 is not within 1 and 10000000"},
		{f.admin, "/limits", map[string]any{"client.queue": 1.5}, 422, "client.queue: 1.5 is not a whole number"},
		{f.admin, "/limits", map[string]any{"client.queue": []int{1}}, 422, "client.queue"},
		{f.admin, "/limits", map[string]any{"client.hats": 5}, 422, "client.hats: there is no such limit"},
		{f.admin, "/limits", map[string]any{"client.queue_full": "explode"}, 422, "refuse or end_session"},
		{own, "/types/sensor/limits", map[string]any{"org.retained": 5}, 422, "org.retained"},
		{own, "/types/nope/limits", map[string]any{"client.queue": 5}, 404, "nope"},
		{f.admin, "/limits", "7", 422, ""},
		{f.admin, "/limits", `"x"`, 422, ""},
	} {
		if p := f.ask(t, c.who, "PATCH", org+c.path, c.body).is(t, c.status).problem(t); !strings.Contains(p.Detail, c.says) {
			t.Errorf("%v: %q does not say %q", c.body, p.Detail, c.says)
		}
	}
	f.ask(t, own, "GET", org+"/types/nope/limits", nil).is(t, 404)
	if l := f.limits(t, own, org+"/limits", nil); l["client.queue"].Set != nil {
		t.Error("a refusal has set a limit")
	}
}

func TestLimitEvents(t *testing.T) {
	f := start(t)
	org := string(f.first.Org.ID)
	own := f.manager(t)
	var l struct {
		Items []struct {
			Principal, Client, Limit, Outcome string
			Value, Count                      int64
			First, Last                       time.Time
		}
	}
	path := "/api/v1/orgs/" + org + "/limit-events"
	if body := string(f.ask(t, own, "GET", path, nil).is(t, 200).body); !strings.Contains(body, `"items":[]`) {
		t.Errorf("no events: %s", body)
	}
	for i := range int64(3) {
		f.events.Add(quota.Event{Org: org, Principal: "device:" + org + ":sensor:a", Client: "c", Limit: quota.ClientQueue + quota.Limit(i), Value: i, Outcome: quota.Dropped, Count: 5})
		f.events.Add(quota.Event{Org: "other1", Principal: "user:other1:x", Limit: quota.OrgRetained})
	}
	f.ask(t, own, "GET", path+"?limit=2", nil).is(t, 200).into(t, &l)
	if len(l.Items) != 2 {
		t.Fatalf("%d events", len(l.Items))
	}
	e := l.Items[0]
	if e.Principal != "device:"+org+":sensor:a" || e.Client != "c" || e.Limit != (quota.ClientQueue+2).String() || e.Outcome != "dropped" ||
		e.Value != 2 || e.Count != 5 || e.First.IsZero() || e.Last.Before(e.First) {
		t.Errorf("the latest: %+v", e)
	}
	f.ask(t, own, "GET", path+"?limit=501", nil).is(t, 422)
	f.ask(t, own, "GET", "/api/v1/orgs/other1/limit-events", nil).is(t, 404)
}
