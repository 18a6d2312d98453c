package console_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/registry"
)

func TestLimitsPage(t *testing.T) {
	f := start(t)
	path := "/limits?org=" + string(f.first.Org.ID)
	f.do(t, "GET", path).is(t, http.StatusUnauthorized)
	f.signIn(t)
	a := f.do(t, "GET", path).is(t, 200).says(t, "Nobody, since").says(t, "org.connections").says(t, ">1000000<")
	checkPage(t, path, a.body)
	ctx := context.Background()
	_, err := f.registry.SetOrgLimits(ctx, f.admin, f.first.Org.ID, map[string]any{"org.connections": 77})
	must(t, err)
	_, err = f.registry.CreateOrg(ctx, f.admin, registry.Org{ID: "second"})
	must(t, err)
	f.events.Add(quota.Event{Org: string(f.first.Org.ID), Principal: "device:x", Client: "<script>alert(1)</script>", Limit: quota.ClientQueue, Value: 9, Outcome: quota.Dropped, Count: 4321})
	a = f.do(t, "GET", path).is(t, 200).says(t, `<td class="number">12</td><td class="number">77 <span class="dim">set</span>`).
		says(t, "4321").says(t, "dropped").says(t, "&lt;script&gt;alert(1)")
	checkPage(t, path, a.body)
	if a := f.do(t, "GET", "/limits?org=second").is(t, 200); strings.Contains(a.body, "4321") {
		t.Error("another organisation's events are shown")
	}
	f.do(t, "GET", "/limits").is(t, 404)
	f.do(t, "GET", "/limits?org=zzzzzz").is(t, 404)
	f.do(t, "GET", "/?org="+string(f.first.Org.ID)).is(t, 200).says(t, `href="/limits?org=`+string(f.first.Org.ID))
}
