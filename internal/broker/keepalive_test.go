package broker

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/quota"
)

// alive makes a CONNECT one with a keep alive.
func alive(seconds uint16) func(*mqtt.Connect) {
	return func(p *mqtt.Connect) { p.KeepAlive = seconds }
}

// Silence for one and a half times the keep alive ends the connection
// [MQTT-3.1.2-22], and not a moment less; without a keep alive nothing does.
func TestKeepAlive(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		for seconds, want := range map[uint16]time.Duration{
			1: 1500 * time.Millisecond, 10: 15 * time.Second, 60: 90 * time.Second, 65535: 98302500 * time.Millisecond,
		} {
			t.Run(fmt.Sprint(v, "/", seconds), func(t *testing.T) {
				bubble(t, nil, func(t *testing.T, w *world) {
					c := w.connect(v, "c", alive(seconds))
					time.Sleep(want - 1)
					c.ping() // a moment before: it counts
					time.Sleep(want - 1)
					c.silent()
					c.endsAt(time.Now().Add(1), mqtt.KeepAliveTimeout)
				})
			})
		}
		t.Run(fmt.Sprint(v, "/0"), func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, w *world) {
				c := w.connect(v, "c", alive(0))
				time.Sleep(10_000 * time.Hour)
				c.silent()
				c.ping()
			})
		})
	}
}

// Over WebSocket it is the same, and none of HTTP's own limits applies.
func TestKeepAliveOverWebSocket(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		bubble(t, nil, func(t *testing.T, w *world) {
			c := w.dialWebSocket("/mqtt", v)
			c.send(hello(v, "c", alive(10)))
			expect[*mqtt.Connack](c)
			for range 10 {
				time.Sleep(15*time.Second - 1)
				c.ping()
			}
			// The WebSocket takes a moment to wake its reader.
			c.endsAt(time.Now().Add(15*time.Second+1), mqtt.KeepAliveTimeout)

			c = w.dialWebSocket("/mqtt", v)
			c.send(hello(v, "c", alive(0)))
			expect[*mqtt.Connack](c)
			time.Sleep(1000 * time.Hour)
			c.ping()
		})
	})
}

// Every packet of the client counts, whole ones only; what the server sends
// does not.
func TestKeepAliveCounts(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		bubble(t, nil, func(t *testing.T, w *world) {
			c := w.connect(v, "c", func(p *mqtt.Connect) { lasting(p); p.KeepAlive = 10 })
			p := w.connect(v, "p", func(q *mqtt.Connect) { as(q, testOrg, "v"); q.KeepAlive = 0 })
			c.sub("a", 2)
			var last *mqtt.Publish
			for name, send := range map[string]func(){
				"PINGREQ":     func() { c.ping() },
				"PUBLISH 0":   func() { c.send(pub("x", "", 0, 0)) },
				"PUBLISH 1":   func() { c.publish("x", "") },
				"SUBSCRIBE":   func() { c.sub("y", 0) },
				"UNSUBSCRIBE": func() { c.send(&mqtt.Unsubscribe{PacketID: 3, Filters: []string{"y"}}); expect[*mqtt.Unsuback](c) },
				"unknown id":  func() { c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: 999}) },
				"QoS 2": func() {
					c.send(pub("x", "", 2, 5))
					c.expectAck(mqtt.PUBREC, 5, 0)
					time.Sleep(14 * time.Second)
					c.send(&mqtt.Ack{Type: mqtt.PUBREL, PacketID: 5})
					c.expectAck(mqtt.PUBCOMP, 5, 0)
				},
				"PUBACK": func() { // of a client that does nothing but acknowledge
					c.ping()
					for range 5 {
						p.publish("a", "m")
						last = c.receive("a", "m")
						time.Sleep(14 * time.Second)
						c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: last.PacketID})
						time.Sleep(14 * time.Second)
						c.ping()
					}
				},
			} {
				time.Sleep(14 * time.Second)
				c.silent()
				if send(); t.Failed() {
					t.Fatal(name)
				}
			}
			synctest.Wait()
			begun := time.Now()
			time.Sleep(10 * time.Second)
			p.publish("a", "delivered, and not an answer")
			c.receive("a", "delivered, and not an answer")
			c.raw([]byte{0xc0}) // half a PINGREQ
			c.endsAt(begun.Add(15*time.Second), mqtt.KeepAliveTimeout)
		})
	})
}

// The server may shorten the keep alive of whom it can tell [MQTT-3.1.2-21].
func TestServerKeepAlive(t *testing.T) {
	for _, tt := range []struct {
		v    mqtt.Version
		asks uint16
		most time.Duration
		told int // -1: nothing
		ends time.Duration
	}{
		{mqtt.V5, 10, time.Minute, -1, 15 * time.Second},
		{mqtt.V5, 60, time.Minute, -1, 90 * time.Second},
		{mqtt.V5, 61, time.Minute, 60, 90 * time.Second},
		{mqtt.V5, 0, time.Minute, 60, 90 * time.Second},
		{mqtt.V5, 0, 90500 * time.Millisecond, 90, 135 * time.Second},
		{mqtt.V5, 0, 100 * time.Hour, 65535, 98302500 * time.Millisecond},
		{mqtt.V5, 65535, 0, -1, 98302500 * time.Millisecond},
		{mqtt.V311, 600, time.Minute, -1, 900 * time.Second},
		{mqtt.V311, 0, time.Minute, -1, 0},
	} {
		t.Run(fmt.Sprintf("%v/%d/%v", tt.v, tt.asks, tt.most), func(t *testing.T) {
			bubble(t, func(c *Config) { c.MaxKeepAlive = tt.most }, func(t *testing.T, w *world) {
				c, ack := w.try(hello(tt.v, "c", alive(tt.asks)))
				told, ok := ack.Properties.ServerKeepAlive.Get()
				if ok != (tt.told >= 0) || ok && int(told) != tt.told {
					t.Errorf("told %d %v, want %d", told, ok, tt.told)
				}
				if tt.ends == 0 {
					time.Sleep(1000 * time.Hour)
					c.ping()
					return
				}
				c.endsAt(time.Now().Add(tt.ends), mqtt.KeepAliveTimeout)
			})
		})
	}
}

// A client that reads slowly and pings in time is alive, though its pings wait
// until it has read what is before it.
func TestKeepAliveOfSlowReader(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		bubble(t, func(c *Config) { c.Limits = c.Limits.With(quota.ClientOutbound, 1) }, func(t *testing.T, w *world) {
			c := newClient(t, w.dial(nil), v)
			c.small()
			c.send(hello(v, "c", alive(10)))
			expect[*mqtt.Connack](c)
			c.sub("a", 0)
			p := w.connect(v, "p", func(q *mqtt.Connect) { as(q, testOrg, "v"); q.KeepAlive = 0 })
			payload := strings.Repeat("x", 600<<10)
			p.publish("a", payload)
			c.nc.SetReadDeadline(time.Time{})
			read := 0
			for read < len(payload) {
				time.Sleep(5 * time.Second)
				c.raw([]byte{0xc0, 0})
				n, err := c.nc.Read(make([]byte, 16<<10))
				if err != nil {
					t.Fatalf("cut after %d bytes: %v", read, err)
				}
				read += n
			}
			if n := w.b.Snapshot().Connected; n != 2 {
				t.Errorf("%d connected", n)
			}
		})
	})
}

// Time in which the engine keeps us from reading is not the client's silence.
func TestKeepAliveWhileServed(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		bubble(t, func(c *Config) { c.Limits = c.Limits.With(quota.ClientInflight, 2) }, func(t *testing.T, w *world) {
			c := w.connect(v, "c", alive(10))
			goOn := w.mem.hang()
			// One more than may be under way: the last is served when there is room.
			c.send(pub("a", "", 1, 1), pub("a", "", 0, 0), pub("a", "", 0, 0), pub("a", "", 0, 0), &mqtt.Pingreq{})
			time.Sleep(10 * time.Minute)
			c.silent()
			goOn()
			for range 2 { // whichever comes first
				if _, err := c.packet(); err != nil {
					t.Fatal(err)
				}
			}
			c.endsAt(time.Now().Add(15*time.Second), mqtt.KeepAliveTimeout)
		})
	})
}

// Who is ended may read why, for two seconds; a will goes out after that, as the
// session ends.
func TestKeepAliveOfDeaf(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		bubble(t, nil, func(t *testing.T, w *world) {
			sub := w.connect(v, "sub", func(p *mqtt.Connect) { as(p, testOrg, "v"); p.KeepAlive = 0 })
			sub.sub("will", 0)
			c := newClient(t, w.dial(nil), v)
			c.small()
			c.send(hello(v, "c", willed(0, alive(10))))
			expect[*mqtt.Connack](c)
			c.sub("a", 0)
			w.dir.add(testOrg, "p", func(s *auth.Spec) {})
			p := w.connect(v, "p", func(q *mqtt.Connect) { as(q, testOrg, "p"); q.KeepAlive = 0 })
			begun := time.Now()
			p.publish("a", strings.Repeat("x", 20<<10)) // and it reads nothing
			sub.receive("will", "gone")
			sub.came(begun.Add(15*time.Second + closeTimeout))
		})
	})
}

// A keep alive that runs out while the connection ends does not go on for ever.
func TestKeepAliveEnds(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		c := w.connect(mqtt.V5, "c", func(p *mqtt.Connect) { p.KeepAlive = 10 })
		var k *conn
		w.b.mu.Lock()
		for _, k = range w.b.sessions {
		}
		w.b.mu.Unlock()
		c.bye()
		<-k.over
		k.heard.Store(0)
		k.keepAliveExpired() // as if it had been under way
		if k.alive.Stop() {
			t.Error("it runs on")
		}
	})
}
