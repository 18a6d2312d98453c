package console_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/registry"
)

func TestCredentialsPage(t *testing.T) {
	f := start(t)
	org := f.first.Org.ID
	path := "/credentials?org=" + string(org)
	f.do(t, "GET", path).is(t, http.StatusUnauthorized)
	f.signIn(t)
	a := f.do(t, "GET", path).is(t, 200).says(t, "sensor:sensor-1").says(t, "<strong>All</strong>")
	checkPage(t, path, a.body)
	_, _, err := f.registry.CreateApplication(context.Background(), f.admin, registry.Application{Org: org, Name: "<script>alert(1)</script>"})
	must(t, err)
	who := auth.Principal{Org: org, Kind: auth.Device, ID: "sensor:sensor-1"}
	token, err := f.registry.RotateToken(context.Background(), f.admin, who, registry.Rotation{Overlap: time.Hour})
	must(t, err)
	a = f.do(t, "GET", path+"&show=two").is(t, 200).says(t, "good until").says(t, "not used").says(t, `show=never`)
	checkPage(t, path, a.body)
	if strings.Contains(a.body, "a-"+string(org)) || strings.Contains(a.body, token.Reveal()) {
		t.Error("the choice shows others, or a token")
	}
	a = f.do(t, "GET", path+"&show=never").is(t, 200).says(t, "&lt;script&gt;alert(1)")
	checkPage(t, path, a.body)
	f.do(t, "GET", path+"&show=old").is(t, 200).says(t, "None.")
	f.do(t, "GET", path+"&after=x").is(t, 400)
	f.do(t, "GET", "/credentials?org=zzzzzz").is(t, 404)
	f.do(t, "GET", "/?org="+string(org)).is(t, 200).says(t, `href="/credentials?org=`+string(org))
}
