package broker

import (
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/quota"
)

const never = -1

// leaves is a client with a will that goes, and after so many seconds comes back.
type leaves struct {
	name   string
	delay  uint32
	expiry uint32
	end    func(c *client) // nil: it is cut
	back   time.Duration   // 0: it stays away
	clean  bool            // when it comes back
	want   time.Duration   // after the end of the connection
}

func disconnect(code mqtt.ReasonCode, expiry ...uint32) func(*client) {
	return func(c *client) {
		d := &mqtt.Disconnect{Code: code}
		for _, s := range expiry {
			d.Properties.SessionExpiry = mqtt.Some(s)
		}
		c.send(d)
	}
}

// The will is published when its delay is over or its session ends, whichever
// is first, unless the session goes on before [MQTT-3.1.3-9].
func TestWillDelayTime(t *testing.T) {
	for _, tt := range []leaves{
		{name: "no delay", delay: 0, expiry: 100, want: 0},
		{name: "delay", delay: 30, expiry: 100, want: 30 * time.Second},
		{name: "delay as long as the session", delay: 100, expiry: 100, want: 100 * time.Second},
		{name: "session ends first", delay: 500, expiry: 100, want: 100 * time.Second},
		{name: "session ends with the connection", delay: 30, expiry: 0, want: 0},
		{name: "longest delay", delay: 1<<32 - 1, expiry: 1<<32 - 1, want: 2 * time.Hour},
		{name: "back in time", delay: 30, expiry: 100, back: 30*time.Second - 1, want: never},
		{name: "back at once", delay: 1, expiry: 100, back: 1, want: never},
		{name: "back too late", delay: 30, expiry: 100, back: 30*time.Second + 1, want: 30 * time.Second},
		{name: "another session", delay: 30, expiry: 100, back: 10 * time.Second, clean: true, want: 10 * time.Second},
		{name: "goodbye", delay: 30, expiry: 100, end: disconnect(0), want: never},
		{name: "goodbye with the will", delay: 30, expiry: 100, end: disconnect(mqtt.DisconnectWithWill), want: 30 * time.Second},
		{name: "goodbye, no delay", delay: 0, expiry: 100, end: disconnect(mqtt.DisconnectWithWill), want: 0},
		{name: "session made shorter", delay: 30, expiry: 100, end: disconnect(mqtt.DisconnectWithWill, 5), want: 5 * time.Second},
		{name: "session made longer", delay: 500, expiry: 100, end: disconnect(mqtt.DisconnectWithWill, 1000), want: 500 * time.Second},
		{name: "session ended", delay: 30, expiry: 100, end: disconnect(mqtt.DisconnectWithWill, 0), want: 0},
		{name: "malformed", delay: 30, expiry: 100, end: func(c *client) { c.raw([]byte{0}) }, want: 30 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			durably(t, func(c *Config) { c.MaxSessionExpiry = 2 * time.Hour }, func(t *testing.T, s *stable) {
				away := s.resume(mqtt.V5, "away", false, func(p *mqtt.Connect) {
					as(p, testOrg, "v")
					p.Properties.SessionExpiry = mqtt.Some[uint32](mqtt.SessionNeverExpires)
				})
				away.sub("will", 1)
				away.bye()
				sub := s.connect(mqtt.V5, "sub", func(p *mqtt.Connect) { as(p, testOrg, "v"); p.KeepAlive = 0 })
				sub.sub("will", 0)
				c := s.connect(mqtt.V5, "c", func(p *mqtt.Connect) {
					willed(tt.delay)(p)
					p.KeepAlive = 0
					p.Properties.SessionExpiry = mqtt.Some(tt.expiry)
				})
				time.Sleep(10 * time.Minute) // while it is connected nothing runs out
				sub.silent()
				begun := time.Now()
				if tt.end == nil {
					c.cut()
				} else {
					tt.end(c)
				}
				if tt.back > 0 {
					time.Sleep(tt.back)
					c, ack := s.try(hello(mqtt.V5, "c", func(p *mqtt.Connect) { lasting(p); p.CleanStart, p.KeepAlive = tt.clean, 0 }))
					if ack.SessionPresent == tt.clean {
						t.Errorf("session present %v", ack.SessionPresent)
					}
					defer c.bye()
				}
				if tt.want == never {
					time.Sleep(3 * time.Hour)
					sub.silent()
					return
				}
				m := sub.receive("will", "gone")
				sub.came(begun.Add(tt.want))
				if e := m.Expiry.Or(0); e != 50 {
					t.Errorf("expires after %d, want 50: it counts from the publication", e)
				}
				if tt.want > time.Hour {
					return // the other session is over, too
				}
				time.Sleep(20500 * time.Millisecond)
				away = s.resume(mqtt.V5, "away", true, func(p *mqtt.Connect) { lasting(p); as(p, testOrg, "v") })
				if m := away.receive("will", "gone"); m.Expiry.Or(0) != 30 && tt.back < tt.want {
					t.Errorf("expires after %d, want 30", m.Expiry.Or(0))
				}
				time.Sleep(3 * time.Hour)
				sub.silent() // and once only
			})
		})
	}
}

// Before MQTT 5 there is no delay.
func TestWillTimeBefore5(t *testing.T) {
	for _, clean := range []bool{true, false} {
		bubble(t, nil, func(t *testing.T, w *world) {
			sub := w.connect(mqtt.V311, "sub", func(p *mqtt.Connect) { as(p, testOrg, "v"); p.KeepAlive = 0 })
			sub.sub("will", 0)
			c := w.connect(mqtt.V311, "c", willed(0, alive(10), func(p *mqtt.Connect) { p.CleanStart = clean }))
			begun := time.Now()
			sub.receive("will", "gone")
			sub.came(begun.Add(15 * time.Second))
			c.closed()
		})
	}
}

// A will waits through a restart. Its delay counts from the end of the
// connection, or if that was a crash, from the next start.
func TestWillDelayAcrossRestart(t *testing.T) {
	for _, tt := range []struct {
		name    string
		delay   uint32
		end     func(c *client) // nil: it is there when the server ends
		crash   bool
		away    time.Duration
		expired bool
		want    time.Duration // after the end of the connection, 10 s before that of the server
	}{
		{"in time", 30, (*client).cut, false, 5 * time.Second, false, 30 * time.Second},
		{"due while away", 30, (*client).cut, false, time.Minute, false, 70 * time.Second},
		{"crash", 30, (*client).cut, true, 5 * time.Second, false, 30 * time.Second},
		{"due while crashed", 30, (*client).cut, true, time.Minute, false, 70 * time.Second},
		{"session ends first", 300, (*client).cut, false, 5 * time.Second, false, 100 * time.Second},
		{"session ends while away", 300, (*client).cut, false, 200 * time.Second, true, 210 * time.Second},
		{"session made shorter", 30, disconnect(mqtt.DisconnectWithWill, 20), false, 5 * time.Second, true, 20 * time.Second},
		{"session made longer", 150, disconnect(mqtt.DisconnectWithWill, 200), false, 5 * time.Second, false, 150 * time.Second},
		{"connected", 30, nil, false, 5 * time.Second, false, 40 * time.Second},
		{"cut by a crash", 30, nil, true, 5 * time.Second, false, 45 * time.Second},
		{"cut by a crash, session ends first", 300, nil, true, 5 * time.Second, false, 115 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			durably(t, nil, func(t *testing.T, s *stable) {
				asV := func(p *mqtt.Connect) { lasting(p); as(p, testOrg, "v"); p.KeepAlive = 0 }
				s.resume(mqtt.V5, "sub", false, asV).sub("will", 1)
				c := s.connect(mqtt.V5, "c", willed(tt.delay, alive(0)))
				begun := time.Now()
				if tt.end != nil {
					tt.end(c)
				}
				time.Sleep(10 * time.Second)
				if tt.crash {
					s.crash(tt.away)
				} else {
					s.restart(tt.away)
				}
				sub := s.resume(mqtt.V5, "sub", true, asV)
				m := sub.receive("will", "gone")
				sub.came(begun.Add(tt.want))
				if e := m.Expiry.Or(0); e != 50 {
					t.Errorf("expires after %d, want 50", e)
				}
				sub.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID})
				sub.ping()
				s.restart(time.Hour)
				sub = s.resume(mqtt.V5, "sub", false, asV) // gone for an hour
				time.Sleep(time.Hour)
				sub.silent() // and the will is not published again
			})
		})
	}
}

// A will that an earlier run kept is not published if its session goes on.
func TestWillWithdrawnAfterRestart(t *testing.T) {
	durably(t, nil, func(t *testing.T, s *stable) {
		asV := func(p *mqtt.Connect) { lasting(p); as(p, testOrg, "v"); p.KeepAlive = 0 }
		s.connect(mqtt.V5, "c", willed(90, alive(0))).cut()
		s.connect(mqtt.V5, "d", willed(90, alive(0))).cut()
		s.crash(60 * time.Second)
		sub := s.resume(mqtt.V5, "sub", false, asV)
		sub.sub("will", 1)
		begun := time.Now()
		time.Sleep(30*time.Second - 1)
		s.resume(mqtt.V5, "c", true, func(p *mqtt.Connect) { lasting(p); p.KeepAlive = 0 })
		sub.receive("will", "gone") // of d
		sub.came(begun.Add(30 * time.Second))
		time.Sleep(time.Hour)
		sub.silent()
	})
}

// A will is judged by the limits of its organisation, also when it is the first
// after a start that anybody hears of it.
func TestWillLimitsAfterRestart(t *testing.T) {
	log := quota.NewLog(nil)
	durably(t, func(c *Config) { c.LimitLog = log }, func(t *testing.T, s *stable) {
		var none quota.Limits
		s.dir.setLimits(testOrg, "", none.With(quota.OrgRetained, 1))
		c := s.connect(mqtt.V5, "c", willed(90, alive(0), func(p *mqtt.Connect) { p.Will.Retain = true }))
		c.send(&mqtt.Publish{Topic: []byte("only"), Payload: []byte("x"), QoS: 1, PacketID: 1, Retain: true})
		c.expectAck(mqtt.PUBACK, 1, mqtt.Success)
		c.cut()
		s.restart(time.Second)
		time.Sleep(2 * time.Minute)
		if n := s.b.Snapshot().Wills; n != 0 {
			t.Errorf("%d wills went past the limit", n)
		}
		event(t, log, testOrg, quota.OrgRetained, quota.Refused)
	})
}
