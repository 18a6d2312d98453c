package registry

import (
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
)

// Every gateway has a resource group: itself, and what is attached to it now.
func TestGroupOfAGateway(t *testing.T) {
	h := newHeld(t)
	ctx := t.Context()
	h.newType(t, h.org, "g", ClassGateway)
	h.newDevice(t, Device{Org: h.org, Type: "g", ID: "g1"})
	h.newDevice(t, Device{Org: h.org, Type: "g", ID: "g2"})
	h.newDevice(t, Device{Org: h.org, Type: "t", ID: "in", Gateway: "g:g1"})
	group := "gw_def_res_grp:" + string(h.org) + ":g:g1"
	p, token, err := h.CreateApplication(ctx, h.admin, Application{Org: h.org, Role: permission.Application, Limited: true, Groups: []string{group, "hall"}})
	check(t, err)
	key := Actor{Principal: p.Principal()}
	sees := func() string {
		t.Helper()
		var all []string
		list, _, err := h.Devices(ctx, key, h.org, DeviceFilter{}, Page{})
		check(t, err)
		for _, d := range list {
			all = append(all, d.ID)
			if _, err := h.Device(ctx, key, h.org, d.Type, d.ID); err != nil {
				t.Errorf("%s is listed, and not shown: %v", d.ID, err)
			}
		}
		return strings.Join(all, " ")
	}
	want := func(what, all string) {
		t.Helper()
		if got := sees(); got != all {
			t.Errorf("%s: sees %q, want %q", what, got, all)
		}
		g, err := h.Verify(ctx, applicationLogin(p, token))
		check(t, err)
		for _, id := range []string{"in", "later", "other"} {
			name := "iot-2/type/t/id/" + id + "/evt/e/fmt/json"
			if got := allows(t, g, auth.Receive, name); got != strings.Contains(" "+all+" ", " "+id+" ") {
				t.Errorf("%s: receives from %s: %v", what, id, got)
			}
		}
	}
	want("made", "g1 d in")
	h.newDevice(t, Device{Org: h.org, Type: "t", ID: "later", Gateway: "g:g1"})
	want("one more", "g1 d in later")
	check(t, h.SetDeviceGateway(ctx, h.admin, h.org, "t", "in", "g:g2"))
	want("one moved", "g1 d later")
	check(t, h.SetDeviceGateway(ctx, h.admin, h.org, "t", "other", "g:g1"))
	want("one attached", "g1 d later other")
	check(t, h.SetDeviceGateway(ctx, h.admin, h.org, "t", "other", ""))
	check(t, h.DeleteDevice(ctx, h.admin, h.org, "t", "later"))
	want("detached and deleted", "g1 d")
	wantCode(t, second(h.Device(ctx, key, h.org, "g", "g2")), errs.NotFound)
	devices, err := h.GroupDevices(ctx, key, h.org, group)
	check(t, err)
	if len(devices) != 1 || devices[0] != (DeviceName{"g", "g1"}) {
		t.Errorf("%v", devices)
	}
	// It follows its gateway, and nothing else.
	wantCode(t, h.ChangeGroupDevices(ctx, h.admin, h.org, group, []DeviceName{{"t", "other"}}, nil), errs.Invalid)
	wantCode(t, h.DeleteGroup(ctx, h.admin, h.org, group), errs.Invalid)
	wantCode(t, second(h.CreateGroup(ctx, h.admin, Group{Org: h.org, ID: group})), errs.Invalid)
	for _, no := range []string{"gw_def_res_grp:" + string(h.org) + ":g:nope", "gw_def_res_grp:" + string(h.org) + ":t:d", "gw_def_res_grp:zzzzzz:g:g1",
		"gw_def_res_grp:" + string(h.org), "gw_def_res_grp:"} {
		wantCode(t, second(h.Group(ctx, h.admin, h.org, no)), errs.NotFound)
		_, _, err := h.CreateApplication(ctx, h.admin, Application{Org: h.org, Limited: true, Groups: []string{no}})
		wantCode(t, err, errs.NotFound)
	}
	// A later gateway of that name is another one.
	check(t, h.DeleteDevice(ctx, h.admin, h.org, "g", "g1"))
	want("gateway deleted", "d")
	h.newDevice(t, Device{Org: h.org, Type: "g", ID: "g1"})
	h.newDevice(t, Device{Org: h.org, Type: "t", ID: "later", Gateway: "g:g1"})
	want("another of its name", "d")
}
