package registry

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/secret"
)

// A twin is one of two organisations that use the same names, and what it should
// look like.
type twin struct {
	org     auth.OrgID
	actor   Actor
	devices map[string]secret.String // "type:id" → its present token
	before  map[string]secret.String // … the one before, while that is good
	teams   map[string]bool
	runners map[string]secret.String // service account → the token of its API key
	keys    map[string]Application
	blocked map[string]bool
	queue   int64 // the limit client.queue of the type; 0: none is set
}

// Two organisations do random things with the same names. Whatever the one
// does, the other neither sees it nor is touched by it.
func TestOrganisationsNeverMeet(t *testing.T) {
	w := newWorld(t)
	rapid.Check(t, func(rt *rapid.T) {
		ctx := context.Background()
		twins := [2]*twin{newTwin(t, w), newTwin(t, w)}
		reader := w.changes.subscribe()
		defer w.changes.unsubscribe(reader)
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			i := rapid.IntRange(0, 1).Draw(rt, "who")
			id := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "id")
			what := rapid.SampledFrom([]string{"create", "create", "delete", "rotate", "overlap", "overlap", "retire", "team", "team", "disband", "service", "service", "shut", "disable", "enable", "limit", "limit"}).Draw(rt, "what")
			if err := twins[i].do(ctx, w, what, id); err != nil {
				rt.Fatalf("%s %s: %v", what, id, err)
			}
			for len(reader.ch) > 0 {
				if p := <-reader.ch; p.Org != twins[i].org {
					rt.Fatalf("a change of %v is told about %v", twins[i].org, p)
				}
			}
			trespass(ctx, rt, w, twins[i].actor, twins[1-i].org)
		}
		for i := range twins {
			if err := twins[i].same(ctx, w, twins[1-i]); err != nil {
				rt.Fatal(err)
			}
		}
	})
}

func newTwin(t *testing.T, w *world) *twin {
	t.Helper()
	org := w.newOrg(t, ProfileIoT2)
	w.newType(t, org, "t", ClassDevice)
	p, _ := w.newApplication(t, org)
	return &twin{org: org, actor: Actor{Principal: p.Principal()}, devices: map[string]secret.String{}, before: map[string]secret.String{}, teams: map[string]bool{}, runners: map[string]secret.String{}, keys: map[string]Application{}, blocked: map[string]bool{}}
}

// do makes a change with the organisation's own API key, and checks that it
// succeeds just if it should.
func (t *twin) do(ctx context.Context, w *world, what, id string) error {
	_, there := t.devices[id]
	var token secret.String
	var err error
	who := auth.Principal{Org: t.org, Kind: auth.Device, ID: "t:" + id}
	switch what {
	case "team", "disband":
		return t.doTeam(ctx, w, what, id)
	case "service", "shut":
		return t.doService(ctx, w, what, id)
	case "overlap":
		token, err = w.RotateToken(ctx, t.actor, who, Rotation{Overlap: time.Hour})
		if _, two := t.before[id]; two {
			return want(err, errs.Conflict)
		}
		if there && err == nil {
			t.before[id], t.devices[id] = t.devices[id], token
		}
	case "retire":
		err = w.RetireToken(ctx, t.actor, who)
		if _, two := t.before[id]; there && !two {
			return want(err, errs.Conflict)
		}
		delete(t.before, id)
	case "create":
		_, token, err = w.CreateDevice(ctx, t.actor, Device{Org: t.org, Type: "t", ID: id})
		if there {
			return want(err, errs.Conflict)
		}
		t.devices[id], t.blocked[id] = token, false
		return err
	case "limit":
		if t.queue = int64(len(id)) * 7; len(t.devices) > 0 {
			t.queue = 3
		}
		_, err = w.SetTypeLimits(ctx, t.actor, t.org, "t", map[string]any{"client.queue": t.queue})
		return err
	case "rotate":
		token, err = w.RotateToken(ctx, t.actor, auth.Principal{Org: t.org, Kind: auth.Device, ID: "t:" + id}, Rotation{})
		if there && err == nil {
			t.devices[id] = token
			delete(t.before, id)
		}
	case "delete":
		err = w.DeleteDevice(ctx, t.actor, t.org, "t", id)
		delete(t.devices, id)
		delete(t.before, id)
	default:
		err = w.SetDeviceDisabled(ctx, t.actor, t.org, "t", id, what == "disable")
		t.blocked[id] = what == "disable"
	}
	if !there {
		return want(err, errs.NotFound)
	}
	return err
}

func (t *twin) doTeam(ctx context.Context, w *world, what, id string) error {
	if what == "team" {
		_, err := w.PutTeam(ctx, t.actor, Team{Org: t.org, ID: id, Role: "member"})
		t.teams[id] = true
		return err
	}
	err := w.DeleteTeam(ctx, t.actor, t.org, id)
	if !t.teams[id] {
		return want(err, errs.NotFound)
	}
	delete(t.teams, id)
	return err
}

// doService makes a service account with an API key, or disables it. Only a person
// does; KeepMQ stands for one.
func (t *twin) doService(ctx context.Context, w *world, what, id string) error {
	_, there := t.keys[id]
	if what == "shut" {
		err := w.SetServiceDisabled(ctx, t.actor, t.org, id, true)
		if !there {
			return want(err, errs.NotFound)
		}
		delete(t.runners, id)
		return err
	}
	if there {
		delete(t.runners, id)
		return w.SetServiceDisabled(ctx, t.actor, t.org, id, true)
	}
	if _, err := w.PutService(ctx, t.actor, Service{Org: t.org, ID: id, Role: "member"}); errs.CodeOf(err) != errs.Denied {
		return fmt.Errorf("an API key makes a service account: %v", err)
	}
	if _, err := w.PutService(ctx, w.system(), Service{Org: t.org, ID: id, Role: "member"}); err != nil {
		return err
	}
	p, token, err := w.CreateApplication(ctx, w.system(), Application{Org: t.org, Maker: auth.Principal{Kind: auth.Service, ID: id}})
	t.keys[id], t.runners[id] = p, token
	return err
}

func want(err error, code errs.Code) error {
	if err == nil || errs.CodeOf(err) != code {
		return fmt.Errorf("got %v, want code %d", err, code)
	}
	return nil
}

// same checks that the organisation is as it should be, and that the tokens of
// the other are of no use in it.
func (t *twin) same(ctx context.Context, w *world, other *twin) error {
	list, _, err := w.Devices(ctx, t.actor, t.org, DeviceFilter{}, Page{})
	if err != nil {
		return err
	}
	var got, want []string
	for _, d := range list {
		got = append(got, d.ID)
	}
	for id, token := range t.devices {
		want = append(want, id)
		g, err := w.Verify(ctx, deviceLogin(t.org, "t:"+id, token))
		if err == nil {
			if l := g.Limits(quota.Limits{}); l.Get(quota.ClientQueue) != t.queue {
				return fmt.Errorf("device %s has a queue of %d, want %d", id, l.Get(quota.ClientQueue), t.queue)
			}
		}
		if (err == nil) == t.blocked[id] {
			return fmt.Errorf("device %s, disabled %v: %v", id, t.blocked[id], err)
		}
		if _, err := w.Verify(ctx, deviceLogin(other.org, "t:"+id, token)); err == nil {
			return fmt.Errorf("the token of %s is good in another organisation", id)
		}
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		return fmt.Errorf("organisation has %q, want %q", got, want)
	}
	return t.sameTokens(ctx, w, other)
}

// sameTokens checks the tokens from before, the report of tokens, and the teams.
func (t *twin) sameTokens(ctx context.Context, w *world, other *twin) error {
	for id, token := range t.before {
		if _, err := w.Verify(ctx, deviceLogin(t.org, "t:"+id, token)); (err == nil) == t.blocked[id] {
			return fmt.Errorf("device %s with the token before, disabled %v: %v", id, t.blocked[id], err)
		}
		if _, err := w.Verify(ctx, deviceLogin(other.org, "t:"+id, token)); err == nil {
			return fmt.Errorf("the token before of %s is good in another organisation", id)
		}
	}
	for id, p := range t.keys {
		token, open := t.runners[id]
		_, err := w.ApplicationActor(ctx, p.Key, token, "")
		if (err == nil) != open {
			return fmt.Errorf("the API key of service account %s, which is open %v: %v", id, open, err)
		}
		if _, err := w.DeviceType(ctx, Actor{Principal: p.Principal()}, other.org, "t"); errs.CodeOf(err) != errs.NotFound {
			return fmt.Errorf("%s sees another organisation: %v", p.Key, err)
		}
	}
	teams, err := w.Teams(ctx, t.actor, t.org)
	if err != nil || len(teams) != len(t.teams) {
		return fmt.Errorf("organisation has %d teams, want %d: %v", len(teams), len(t.teams), err)
	}
	report, _, err := w.Credentials(ctx, t.actor, t.org, CredentialFilter{Kind: auth.Device}, Page{})
	if err != nil || len(report) != len(t.devices) {
		return fmt.Errorf("the report has %d devices, want %d: %v", len(report), len(t.devices), err)
	}
	for _, c := range report {
		if _, two := t.before[strings.TrimPrefix(c.Holder.ID, "t:")]; c.Holder.Org != t.org || c.Before.IsZero() == two {
			return fmt.Errorf("the report says %+v", c)
		}
	}
	return nil
}

// trespass tries everything in an organisation that is not a's.
func trespass(ctx context.Context, rt *rapid.T, w *world, a Actor, org auth.OrgID) {
	tries := map[string]func() error{
		"org":         func() error { _, err := w.Org(ctx, a, org); return err },
		"types":       func() error { _, _, err := w.DeviceTypes(ctx, a, org, Page{}); return err },
		"type":        func() error { _, err := w.DeviceType(ctx, a, org, "t"); return err },
		"limits":      func() error { _, err := w.OrgLimits(ctx, a, org); return err },
		"type limits": func() error { _, err := w.TypeLimits(ctx, a, org, "t"); return err },
		"limit": func() error {
			_, err := w.SetTypeLimits(ctx, a, org, "t", map[string]any{"client.queue": 1})
			return err
		},
		"devices":      func() error { _, _, err := w.Devices(ctx, a, org, DeviceFilter{}, Page{}); return err },
		"device":       func() error { _, err := w.Device(ctx, a, org, "t", "a"); return err },
		"certificates": func() error { _, err := w.Certificates(ctx, a, org, "t", "a"); return err },
		"applications": func() error { _, _, err := w.Applications(ctx, a, org, Page{}); return err },
		"users":        func() error { _, _, err := w.Users(ctx, a, org, Page{}); return err },
		"create":       func() error { _, _, err := w.CreateDevice(ctx, a, Device{Org: org, Type: "t", ID: "a"}); return err },
		"rotate": func() error {
			_, err := w.RotateToken(ctx, a, auth.Principal{Org: org, Kind: auth.Device, ID: "t:a"}, Rotation{})
			return err
		},
		"overlap": func() error {
			_, err := w.RotateToken(ctx, a, auth.Principal{Org: org, Kind: auth.Device, ID: "t:a"}, Rotation{Overlap: time.Hour})
			return err
		},
		"retire": func() error { return w.RetireToken(ctx, a, auth.Principal{Org: org, Kind: auth.Device, ID: "t:a"}) },
		"expiry": func() error {
			return w.SetTokenExpiry(ctx, a, auth.Principal{Org: org, Kind: auth.Device, ID: "t:a"}, time.Time{})
		},
		"report":   func() error { _, _, err := w.Credentials(ctx, a, org, CredentialFilter{}, Page{}); return err },
		"team":     func() error { _, err := w.Team(ctx, a, org, "a"); return err },
		"teams":    func() error { _, err := w.Teams(ctx, a, org); return err },
		"services": func() error { _, err := w.Services(ctx, a, org); return err },
		"service":  func() error { _, err := w.Service(ctx, a, org, "a"); return err },
		"shut":     func() error { return w.SetServiceDisabled(ctx, a, org, "a", true) },
		"put team": func() error { _, err := w.PutTeam(ctx, a, Team{Org: org, ID: "a", Role: "member"}); return err },
		"disband":  func() error { return w.DeleteTeam(ctx, a, org, "a") },
		"delete":   func() error { return w.DeleteDevice(ctx, a, org, "t", "a") },
		"disable":  func() error { return w.SetDeviceDisabled(ctx, a, org, "t", "a", true) },
		"enrol":    func() error { _, err := w.CreateEnrolment(ctx, a, org, "t", "a", 0); return err },
	}
	name := rapid.SampledFrom(slices.Sorted(maps.Keys(tries))).Draw(rt, "try")
	if err := want(tries[name](), errs.NotFound); err != nil {
		rt.Fatalf("%s: %v", name, err)
	}
	if orgs, _, err := w.Orgs(ctx, a, Page{}); err != nil || len(orgs) != 1 || orgs[0].ID == org {
		rt.Fatalf("sees %v %v", orgs, err)
	}
}
