package registry

import (
	"fmt"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/topic"
)

// A gateway registers what is new, of a type that is there, if it may; and what
// it registers is its own, and nobody's to connect as.
func TestRegister(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org, _ := w.simple(t)
	w.newType(t, org, "g", ClassGateway)
	token := w.newDevice(t, Device{Org: org, Type: "g", ID: "one", Registers: true})
	w.newDevice(t, Device{Org: org, Type: "g", ID: "two"})
	w.newDevice(t, Device{Org: org, Type: "t", ID: "of-two", Gateway: "g:two"})
	grant := func() *auth.Grant {
		t.Helper()
		g, err := w.Verify(ctx, login("g:"+string(org)+":g:one", userDeviceToken, token))
		check(t, err)
		return g
	}
	event := func(typ, id string) string { return "iot-2/type/" + typ + "/id/" + id + "/evt/e/fmt/json" }
	may := func(s string) bool {
		n, err := topic.ParseName(s)
		check(t, err)
		return grant().Allow(auth.Publish, n) == nil
	}
	ref := grant().Ref()
	if may(event("t", "new")) {
		t.Fatal("before it is registered")
	}
	before := len(w.records(t))
	reader := w.changes.subscribe()
	check(t, w.Register(ctx, ref, event("t", "new")))
	if got := w.records(t)[before:]; len(got) != 1 || got[0] != "device.register" {
		t.Errorf("records %q", got)
	}
	told := map[string]bool{}
	for len(reader.ch) > 0 {
		c := <-reader.ch
		told[c.Principal.String()] = true
	}
	w.changes.unsubscribe(reader)
	if !told["gateway:"+string(org)+":g:one"] {
		t.Errorf("told about %v", told)
	}
	if !may(event("t", "new")) || may(event("t", "other")) {
		t.Error("after it is registered")
	}
	d, err := w.Device(ctx, w.admin, org, "t", "new")
	check(t, err)
	if d.Gateway != "g:one" || d.Class != ClassDevice || d.Registers {
		t.Errorf("registered %+v", d)
	}
	if _, err := w.Verify(ctx, deviceLogin(org, "t:new", token)); errs.CodeOf(err) != errs.Unauthenticated {
		t.Errorf("with the gateway's token: %v", err)
	}
	// What must not be: all of it looks the same to the gateway.
	for name, s := range map[string]string{
		"its own again": event("t", "new"), "free": event("t", "d"), "another's": event("t", "of-two"), "no type": event("nope", "x"),
		"a gateway": event("g", "three"), "itself": event("g", "one"), "a wildcard": event("t", "+"), "no device": "iot-2/app/x", "a name": event("t", "a b"),
	} {
		if err := w.Register(ctx, ref, s); errs.CodeOf(err) != errs.Denied {
			t.Errorf("%s: %v", name, err)
		}
	}
	if d, err := w.Device(ctx, w.admin, org, "t", "of-two"); err != nil || d.Gateway != "g:two" {
		t.Errorf("another's device went over: %+v, %v", d, err)
	}
	two, err := w.Renew(ctx, ref)
	check(t, err)
	other := two.Ref()
	other.Principal.ID = "g:two"
	if err := w.Register(ctx, other, event("t", "x")); err == nil {
		t.Error("with the reference of another")
	}
	// It ends with the right to it, and with the gateway.
	check(t, w.SetDeviceRegisters(ctx, w.admin, org, "g", "one", false))
	if err := w.Register(ctx, ref, event("t", "x")); errs.CodeOf(err) != errs.Denied || grant().Registrar() {
		t.Errorf("not any more: %v", err)
	}
	check(t, w.SetDeviceRegisters(ctx, w.admin, org, "g", "one", true))
	check(t, w.SetDeviceDisabled(ctx, w.admin, org, "g", "one", true))
	if err := w.Register(ctx, ref, event("t", "x")); err == nil {
		t.Error("disabled")
	}
	check(t, w.SetDeviceDisabled(ctx, w.admin, org, "g", "one", false))
	wantCode(t, w.SetDeviceRegisters(ctx, w.admin, org, "t", "d", true), errs.Invalid)
	if _, _, err := w.CreateDevice(ctx, w.admin, Device{Org: org, Type: "t", ID: "x", Registers: true}); errs.CodeOf(err) != errs.Invalid {
		t.Errorf("a device that registers: %v", err)
	}
	if _, err := w.Device(ctx, w.admin, org, "t", "x"); errs.CodeOf(err) != errs.NotFound {
		t.Errorf("x is there: %v", err)
	}
	w.db.fail(errDisk)
	if err := w.Register(ctx, ref, event("t", "x")); errs.CodeOf(err) != errs.Unavailable {
		t.Errorf("without a store: %v", err)
	}
	w.db.fail(nil)
}

// A gateway cannot fill the organisation with devices.
func TestRegisterIsBounded(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org, _ := w.simple(t)
	w.newType(t, org, "g", ClassGateway)
	token := w.newDevice(t, Device{Org: org, Type: "g", ID: "one", Registers: true})
	g, err := w.Verify(ctx, login("g:"+string(org)+":g:one", userDeviceToken, token))
	check(t, err)
	for i := range maxRegistered {
		check(t, w.Register(ctx, g.Ref(), fmt.Sprintf("iot-2/type/t/id/d%d/evt/e/fmt/f", i)))
	}
	wantCode(t, w.Register(ctx, g.Ref(), "iot-2/type/t/id/more/evt/e/fmt/f"), errs.Exhausted)
	check(t, w.DeleteDevice(ctx, w.admin, org, "t", "d7"))
	check(t, w.Register(ctx, g.Ref(), "iot-2/type/t/id/more/evt/e/fmt/f"))
}
