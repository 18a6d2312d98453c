package broker

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/quota"
)

// addPump adds a device of type pump.
func (d *directory) addPump(org auth.OrgID, id string) {
	d.add(org, "pump:"+id, func(s *auth.Spec) { s.Principal.Kind = auth.Device })
}

// has waits until the client with that identifier has a limit.
func (w *world) has(id string, l quota.Limit, want int64) {
	w.t.Helper()
	eventually(w.t, fmt.Sprintf("%s of %s is %d", l, id, want), func() bool {
		w.b.mu.Lock()
		defer w.b.mu.Unlock()
		for k, c := range w.b.sessions {
			if k.Client == id {
				return c.limits.Load().Get(l) == want
			}
		}
		return false
	})
}

// Limits that change hold for whoever is connected: of the organisation, of the
// type below it, and of nobody else.
func TestLimitsChange(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w := start(t, nil)
		w.dir.addPump(testOrg, "1")
		w.dir.addPump("other1", "1")
		pump := w.connect(v, "pump", func(p *mqtt.Connect) { as(p, testOrg, "pump:1") })
		w.connect(v, "user", nil)
		w.connect(v, "other", func(p *mqtt.Connect) { as(p, "other1", "pump:1") })
		def, l := quota.ClientPayload.Default(), quota.ClientPayload
		var none quota.Limits
		for _, step := range []struct {
			typ               string
			set               quota.Limits
			pump, user, other int64
		}{
			{"", none.With(l, 500), 500, 500, def},
			{"pump", none.With(l, 9), 9, 500, def},
			{"", none.With(l, 5), 5, 5, def},
			{"", none.With(l, 2*def), 9, 2 * def, def},
			{"lamp", none.With(l, 1), 9, 2 * def, def},
			{"pump", none.With(l, 3*def), 2 * def, 2 * def, def},
			{"", none, def, def, def},
			{"pump", none.With(l, 3), 3, def, def},
		} {
			w.dir.setLimits(testOrg, step.typ, step.set)
			w.has("pump", l, step.pump)
			w.has("user", l, step.user)
			w.has("other", l, step.other)
		}
		if asked := w.renewals(); asked != 0 {
			t.Errorf("%d grants were asked for", asked)
		}
		if v == mqtt.V5 {
			pump.send(pub("a", "four", 1, 1))
			pump.expectAck(mqtt.PUBACK, 1, mqtt.QuotaExceeded)
		}
	})
}

// renewals returns how many grants the broker asked for again.
func (w *world) renewals() int {
	w.dir.mu.Lock()
	defer w.dir.mu.Unlock()
	return w.dir.renewed
}

// The engine is told what holds for an organisation, at every change of it.
func TestEngineIsToldOfLimits(t *testing.T) {
	w := start(t, nil)
	w.dir.addPump(testOrg, "1")
	told := func(want int64) {
		t.Helper()
		eventually(t, fmt.Sprintf("the engine is told %d", want), func() bool {
			w.mem.mu.Lock()
			defer w.mem.mu.Unlock()
			l := w.mem.limits[testOrg]
			return l.Get(quota.OrgRetained) == want
		})
	}
	var none quota.Limits
	w.dir.setLimits(testOrg, "", none.With(quota.OrgRetained, 4)) // nobody was here
	w.connect(mqtt.V5, "c", func(p *mqtt.Connect) { as(p, testOrg, "pump:1") })
	told(4)
	w.dir.setLimits(testOrg, "", none.With(quota.OrgRetained, 7))
	told(7)
	w.dir.setLimits(testOrg, "pump", none.With(quota.ClientQueue, 7))
	w.has("c", quota.ClientQueue, 7)
	told(7)
	w.dir.setLimits(testOrg, "", none)
	told(quota.OrgRetained.Default())
}

// If the limits cannot be read, each client is asked for; who is not answered
// for ends.
func TestChangedLimitsUnreadable(t *testing.T) {
	w := start(t, nil)
	c := w.connect(mqtt.V5, "c", nil)
	w.dir.mu.Lock()
	w.dir.refused = errors.New("the store is down")
	w.dir.mu.Unlock()
	var none quota.Limits
	w.dir.setLimits(testOrg, "", none.With(quota.ClientPayload, 3))
	w.has("c", quota.ClientPayload, 3) // with the grant, which can be had
	c.ping()
}

// A limit is not laid on by who comes with an older grant.
func TestOlderLimitsAreNotTold(t *testing.T) {
	mem := newMemory()
	b := newBroker(t, mem, newDirectory(), nil)
	tenant, _ := b.tenantOf(auth.Principal{Org: testOrg, Kind: auth.User, ID: "u"})
	var none quota.Limits
	older, newer := none.With(quota.OrgRetained, 3), none.With(quota.OrgRetained, 5)
	seen := b.changes.Load()
	b.changes.Add(1)
	b.limitOrg(tenant, newer, b.changes.Load())
	b.limitOrg(tenant, older, seen)
	if mem.limits[testOrg] != newer {
		t.Errorf("the engine was told %v", mem.limits[testOrg].Map())
	}
}

// BenchmarkLimitsChanged shows how long a change of a type's limits takes that
// 100,000 connected devices have.
func BenchmarkLimitsChanged(b *testing.B) {
	const many = 100_000
	dir := newDirectory()
	br := newBroker(b, newMemory(), dir, nil)
	for i := range many {
		p := auth.Principal{Org: testOrg, Kind: auth.Device, ID: "pump:" + fmt.Sprint(i)}
		c := &conn{b: br, id: engine.SessionID{Owner: p, Client: p.ID}}
		c.tenant, c.group = br.tenantOf(p)
		c.setGrant(auth.NewGrant(auth.Spec{Ref: auth.Ref{Principal: p}, Rules: all()}), br.changes.Load())
		br.mu.Lock()
		if err := c.tenant.enter(c); err != nil {
			b.Fatal(err)
		}
		br.mu.Unlock()
	}
	for _, typ := range []string{"", "pump"} {
		b.Run(strings.TrimSuffix("org/"+typ, "/"), func(b *testing.B) {
			n := int64(0)
			for b.Loop() {
				n++
				dir.setLimits(testOrg, typ, quota.Limits{}.With(quota.ClientQueue, 10+n%7))
				br.limitsChanged(auth.Change{Principal: auth.Principal{Org: testOrg}, Limits: true, Type: typ})
			}
			b.ReportMetric(float64(b.Elapsed())/float64(time.Millisecond)/float64(n), "ms/change")
		})
	}
}

// A limit of levels that changes holds for topics that were used before, too.
func TestTopicLevelsChange(t *testing.T) {
	w := start(t, nil)
	c := w.connect(mqtt.V5, "c", nil)
	var none quota.Limits
	for i, step := range []struct {
		most int64
		want mqtt.ReasonCode
	}{{3, mqtt.Success}, {2, mqtt.QuotaExceeded}, {3, mqtt.Success}} {
		w.dir.setLimits(testOrg, "", none.With(quota.ClientTopicLevels, step.most))
		w.has("c", quota.ClientTopicLevels, step.most)
		c.send(pub("a/b/c", "x", 1, uint16(i+1)))
		c.expectAck(mqtt.PUBACK, uint16(i+1), step.want)
	}
}
