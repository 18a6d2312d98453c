package registry

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/topic"
)

// heard returns who was told about while do ran.
func (w *world) heard(t *testing.T, do func()) (all []auth.Principal) {
	t.Helper()
	rd := w.changes.subscribe()
	do()
	w.changes.unsubscribe(rd)
	for len(rd.ch) > 0 {
		all = append(all, (<-rd.ch).Principal)
	}
	return all
}

// Whoever is locked out does not go on with the API keys they made, nor with
// those made with these.
func TestLocksReachKeys(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	s.newPerson(t, "ann")
	ann := s.join(t, s.iot, "ann", permission.Manager)
	first, firstToken, err := s.CreateApplication(ctx, ann, Application{Org: s.iot, Role: "PD_BACKEND_APP"})
	check(t, err)
	next, nextToken, err := s.CreateApplication(ctx, Actor{Principal: first.Principal()}, Application{Org: s.iot})
	check(t, err)
	client := "a:" + string(s.iot) + ":x"
	g, err := s.Verify(ctx, login(client, next.Key, nextToken))
	check(t, err)
	all := func() map[string]error {
		_, connect := s.Verify(ctx, login(client, first.Key, firstToken))
		_, stay := s.Renew(ctx, g.Ref())
		_, call := s.ApplicationActor(ctx, next.Key, nextToken, "198.51.100.7")
		_, do := s.Device(ctx, Actor{Principal: first.Principal(), Address: "198.51.100.7"}, s.iot, "t", "d")
		return map[string]error{"connect": connect, "stay": stay, "call": call, "do": do}
	}
	for _, target := range []struct {
		org auth.OrgID
		who string
	}{{s.iot, "person:ann"}, {s.iot, "application:" + first.Key}, {"", "person:ann"}} {
		var l Lock
		heard := s.heard(t, func() {
			l, err = s.CreateLock(ctx, s.admin, Lock{Org: target.org, Kind: LockPrincipal, Target: target.who, Reason: "private"})
			check(t, err)
		})
		if target.org != "" && (!slices.Contains(heard, first.Principal()) || !slices.Contains(heard, next.Principal())) {
			t.Errorf("lock of %s: heard %v", target.who, heard)
		}
		for what, err := range all() {
			own := strings.HasPrefix(target.who, "application") && (what == "connect" || what == "do")
			if errs.CodeOf(err) != errs.Denied || strings.Contains(errs.Message(err), "private") != own {
				t.Errorf("lock of %s: %s: %v", target.who, what, err)
			}
		}
		check(t, s.DeleteLock(ctx, s.admin, target.org, l.ID))
		for what, err := range all() {
			if err != nil {
				t.Errorf("after the lock of %s: %s: %v", target.who, what, err)
			}
		}
	}
}

// A lock is not deleted by whoever could not give what it took.
func TestLocksAreDeletedByThoseWhoMay(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	s.newPerson(t, "manager")
	manager := s.join(t, s.iot, "manager", permission.Manager)
	manager.Address = "203.0.113.9"
	strong, _, err := s.CreateApplication(ctx, s.admin, Application{Org: s.iot, Role: permission.Owner})
	check(t, err)
	weak, _, err := s.CreateApplication(ctx, s.admin, Application{Org: s.iot})
	check(t, err)
	s.newPerson(t, "co-owner")
	s.join(t, s.iot, "co-owner", permission.Owner)
	for target, code := range map[string]errs.Code{
		"person:co-owner": errs.Denied, "application:" + strong.Key: errs.Denied, "application:" + weak.Key: 0, "device:t:d": 0,
	} {
		l, err := s.CreateLock(ctx, s.admin, Lock{Org: s.iot, Kind: LockPrincipal, Target: target, Reason: "x"})
		check(t, err)
		switch err := s.DeleteLock(ctx, manager, s.iot, l.ID); {
		case code == 0:
			check(t, err)
		default:
			wantCode(t, err, code)
			check(t, s.DeleteLock(ctx, s.admin, s.iot, l.ID))
		}
	}
}

// A gateway does not speak for a device that is locked, until the lock is over.
func TestLocksReachGateways(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	gateway := auth.Principal{Org: s.iot, Kind: auth.Gateway, ID: "g:g"}
	may := func() bool {
		t.Helper()
		g, err := s.Verify(ctx, s.good()["gateway"].c)
		check(t, err)
		behind, err := topic.ParseName("iot-2/type/t/id/behind/evt/e/fmt/json")
		check(t, err)
		own, err := topic.ParseName("iot-2/type/g/id/g/evt/e/fmt/json")
		check(t, err)
		if err := g.Allow(auth.Publish, own); err != nil {
			t.Errorf("for itself: %v", err)
		}
		return g.Allow(auth.Publish, behind) == nil
	}
	for _, l := range []Lock{{Kind: LockPrincipal, Target: "device:t:behind"}, {Kind: LockType, Target: "t"}} {
		l.Org, l.Reason, l.Expires = s.iot, "stolen", s.now().Add(time.Minute)
		concerned := func(heard []auth.Principal) {
			t.Helper()
			if !slices.Contains(heard, gateway) && !slices.Contains(heard, auth.Principal{Org: s.iot}) {
				t.Errorf("lock of %s: heard %v", l.Target, heard)
			}
		}
		if !may() {
			t.Fatal("before any lock")
		}
		var made Lock
		var err error
		concerned(s.heard(t, func() { made, err = s.CreateLock(ctx, s.admin, l); check(t, err) }))
		if may() {
			t.Errorf("lock of %s: the gateway speaks for it", l.Target)
		}
		before := s.now()
		if heard := s.heard(t, func() { check(t, s.tellEndedLocks(ctx, before, s.now())) }); len(heard) > 0 {
			t.Errorf("before the end: heard %v", heard)
		}
		s.clock.move(time.Minute)
		concerned(s.heard(t, func() { check(t, s.tellEndedLocks(ctx, before, s.now())) }))
		if !may() {
			t.Errorf("lock of %s has ended", l.Target)
		}
		s.clock.move(-time.Minute)
		concerned(s.heard(t, func() { check(t, s.DeleteLock(ctx, s.admin, s.iot, made.ID)) }))
		if !may() {
			t.Errorf("lock of %s is deleted", l.Target)
		}
	}
}

// What is locked is not registered by a gateway under its name.
func TestLocksReachRegistration(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	check(t, s.SetDeviceRegisters(ctx, s.admin, s.iot, "g", "g", true))
	g, err := s.Verify(ctx, s.good()["gateway"].c)
	check(t, err)
	for _, l := range []Lock{{Kind: LockPrincipal, Target: "device:t:fresh"}, {Kind: LockType, Target: "t"}} {
		l.Org, l.Reason = s.iot, "stolen"
		l, err = s.CreateLock(ctx, s.admin, l)
		check(t, err)
		wantCode(t, s.Register(ctx, g.Ref(), "iot-2/type/t/id/fresh/evt/e/fmt/json"), errs.Denied)
		check(t, s.DeleteLock(ctx, s.admin, s.iot, l.ID))
	}
	check(t, s.Register(ctx, g.Ref(), "iot-2/type/t/id/fresh/evt/e/fmt/json"))
}
