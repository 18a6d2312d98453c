package broker

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/quota"
)

// willed gives a CONNECT a will that lasts longer than the connection.
func willed(delay uint32, more ...func(*mqtt.Connect)) func(*mqtt.Connect) {
	return func(p *mqtt.Connect) {
		p.Will = &mqtt.Will{Topic: "will", Payload: []byte("gone"), QoS: 1, Delay: delay, Expiry: mqtt.Some[uint32](50)}
		p.Properties.SessionExpiry = mqtt.Some[uint32](100)
		for _, f := range more {
			f(p)
		}
	}
}

func TestWill(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w := start(t, nil)
		sub := w.connect(v, "sub", nil)
		sub.sub("will", 0)
		away := func() { eventually(t, "it is away", func() bool { return w.b.Snapshot().Connected == 1 }) }
		for name, tt := range map[string]struct {
			end  func(*client)
			want bool
		}{
			"cut":        {func(c *client) { c.cut() }, true},
			"malformed":  {func(c *client) { c.raw([]byte{0}) }, true},
			"disconnect": {func(c *client) { c.bye() }, false}, // [MQTT-3.14.4-3]
			"disconnect with will": {func(c *client) {
				if v == mqtt.V5 {
					c.send(&mqtt.Disconnect{Code: mqtt.DisconnectWithWill})
				} else {
					c.cut()
				}
			}, true},
		} {
			c := w.connect(v, "c", willed(0))
			tt.end(c)
			away()
			if tt.want {
				m := sub.receive("will", "gone")
				if s := m.Expiry.Or(0); v == mqtt.V5 && (s < 48 || s > 50) {
					t.Errorf("%s: expiry %d", name, s) // counts from the publication
				}
			}
			sub.ping()
		}
	})
}

func TestWillDelay(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		sub := w.connect(mqtt.V5, "sub", nil)
		sub.sub("will", 0)
		away := func() { eventually(t, "it is away", func() bool { return w.b.Snapshot().Connected == 1 }) }
		begin := func(delay uint32, more ...func(*mqtt.Connect)) {
			w.connect(mqtt.V5, "c", willed(delay, more...)).cut()
			away()
		}
		begin(1)
		sub.ping() // not yet
		sub.receive("will", "gone")
		eventually(t, "the engine forgot it", func() bool { return w.mem.wills() == 0 })

		begin(1)
		c := w.connect(mqtt.V5, "c", func(p *mqtt.Connect) { p.CleanStart = false }) // in time
		sub.ping()
		c.bye()
		away()

		begin(60)
		w.connect(mqtt.V5, "c", nil).bye() // the session ends: at once [MQTT-3.1.3-9]
		sub.receive("will", "gone")

		away()
		begin(60, func(p *mqtt.Connect) { p.Properties.SessionExpiry = mqtt.Opt[uint32]{} })
		sub.receive("will", "gone") // the session ends with the connection

		begin(60)
		w.dir.set(testOrg, "u", func(u *user) { u.refused = errs.E(errs.Denied, "disabled") })
		w.connect(mqtt.V5, "c", func(p *mqtt.Connect) { as(p, testOrg, "v") }).bye()
		sub.closed() // it is u as well
	})
}

func TestWillOnTakeover(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w := start(t, nil)
		sub := w.connect(v, "sub", nil)
		sub.sub("will", 0)
		w.connect(v, "c", willed(0, lasting))
		w.connect(v, "c", willed(60, lasting))
		sub.receive("will", "gone") // a delay of 0 is over at once
		if v == mqtt.V5 {
			w.connect(v, "c", willed(60, lasting))
			sub.ping() // the session goes on in time
			w.connect(v, "c", nil)
			sub.receive("will", "gone") // it does not
		}
		sub.ping()
	})
}

// The will of a client that is not let in is not published, and nobody's will
// goes where its owner may not publish.
func TestWillIsAuthorised(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w := start(t, nil)
		w.dir.add(testOrg, "narrow", func(s *auth.Spec) {
			s.Rules = []auth.Rule{{Action: auth.Publish, Filter: filter("will")}}
		})
		sub := w.connect(v, "sub", nil)
		sub.sub("#", 0)
		_, ack := w.try(hello(v, "c", willed(0, func(p *mqtt.Connect) { p.Password = []byte("wrong") })))
		if ack.Code == 0 {
			t.Fatal("let in")
		}
		_, ack = w.try(hello(v, "c", willed(0, func(p *mqtt.Connect) {
			as(p, testOrg, "narrow")
			p.Will.Topic = "elsewhere"
		})))
		want := mqtt.NotAuthorized
		if v < mqtt.V5 {
			want = mqtt.ReasonCode(mqtt.ReturnNotAuthorized)
		}
		if ack.Code != want {
			t.Errorf("will elsewhere: %v", ack.Code)
		}
		// Allowed at CONNECT, and not any more when it is due.
		c := w.connect(v, "c", willed(0, func(p *mqtt.Connect) { as(p, testOrg, "narrow") }))
		w.dir.set(testOrg, "narrow", func(u *user) { u.spec.Rules = nil })
		c.cut()
		// Revoked altogether.
		w.dir.add(testOrg, "gone", nil)
		c = w.connect(v, "c", willed(0, func(p *mqtt.Connect) { as(p, testOrg, "gone") }))
		w.dir.set(testOrg, "gone", func(u *user) { u.refused = errs.E(errs.Unauthenticated, "rotated") })
		c.closed()
		eventually(t, "all are away", func() bool { return w.b.Snapshot().Connected == 1 })
		sub.ping()
		if n := w.b.Snapshot().Wills; n != 0 {
			t.Errorf("%d wills published", n)
		}
	})
}

// Wills of connections that a crash cut are published by the next run.
func TestWillAfterCrash(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		asV := func(p *mqtt.Connect) { lasting(p); as(p, testOrg, "v") }
		sub := w.resume(mqtt.V5, "sub", false, asV)
		sub.sub("#", 1)
		sub.bye()
		w.connect(mqtt.V5, "c", willed(0))
		w.connect(mqtt.V5, "d", willed(1))
		w.connect(mqtt.V5, "e", willed(60))
		w.mem.crash() // the engine of the next run sees sessions that nobody holds
		w.serve(nil)
		sub = w.resume(mqtt.V5, "sub", true, asV)
		for range 2 {
			m := sub.receive("will", "gone")
			sub.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID})
		}
		sub.ping()
		eventually(t, "one is left", func() bool { return w.mem.wills() == 1 })
	})
}

// Wills that wait are bounded: who would add one over the limit of its
// organisation is refused, until some are gone.
func TestWaitingWillsAreBounded(t *testing.T) {
	log := quota.NewLog(nil)
	limits := quota.Limits{}.With(quota.OrgWillBytes, 5000)
	bubble(t, func(c *Config) { c.Limits, c.LimitLog = limits, log }, func(t *testing.T, w *world) {
		delayed := func(delay uint32, more ...func(*mqtt.Connect)) func(*mqtt.Connect) {
			return willed(delay, append(more, func(p *mqtt.Connect) { p.Will.Payload = make([]byte, 2000); p.KeepAlive = 0 })...)
		}
		left := func(n int64) {
			t.Helper()
			synctest.Wait()
			w.b.mu.Lock()
			defer w.b.mu.Unlock()
			if got := w.b.tenants[testOrg].willBytes; got/2000 != n || n == 0 && got != 0 {
				t.Errorf("%d bytes wait, want those of %d wills", got, n)
			}
		}
		for i := range 2 {
			w.connect(mqtt.V5, fmt.Sprint("c", i), delayed(60)).cut()
		}
		left(2)
		_, ack := w.try(hello(mqtt.V5, "d", delayed(60)))
		if ack.Code != mqtt.QuotaExceeded {
			t.Errorf("%v", ack.Code)
		}
		event(t, log, testOrg, quota.OrgWillBytes, quota.Refused)
		w.connect(mqtt.V5, "at once", delayed(0)).bye()
		w.connect(mqtt.V5, "other", delayed(60, func(p *mqtt.Connect) { as(p, "other1", "u") })).bye()
		w.connect(mqtt.V5, "c0", func(p *mqtt.Connect) { p.CleanStart = false; p.KeepAlive = 0 }) // its will is withdrawn
		left(1)
		w.connect(mqtt.V5, "d", delayed(60)).bye()
		time.Sleep(61 * time.Second) // c1's is published
		left(0)
		w.connect(mqtt.V5, "e", delayed(60)).cut()
		left(1)
		w.dir.set(testOrg, "u", func(*user) { delete(w.dir.users, string(testOrg)+"/u") })
		left(0)
	})
}

// A will over the limit of its owner is refused with the CONNECT.
func TestWillTooLarge(t *testing.T) {
	w := start(t, nil)
	w.dir.add(testOrg, "small", func(s *auth.Spec) { s.OrgLimits = s.OrgLimits.With(quota.ClientPayload, 3) })
	_, ack := w.try(hello(mqtt.V5, "c", willed(0, func(p *mqtt.Connect) { as(p, testOrg, "small") })))
	if ack.Code != mqtt.QuotaExceeded {
		t.Errorf("code %v", ack.Code)
	}
}

func TestWillLifetime(t *testing.T) {
	if !willLifetime(mqtt.Opt[uint32]{}).IsZero() || !willLifetime(mqtt.Some[uint32](7)).Equal(time.Unix(7, 0)) {
		t.Error("lifetime")
	}
}
