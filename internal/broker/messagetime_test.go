package broker

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// expires makes a PUBLISH one of a message that expires.
func expires(p *mqtt.Publish, seconds uint32) *mqtt.Publish {
	p.Expiry = mqtt.Some(seconds)
	return p
}

func acked(c *client, m *mqtt.Publish) {
	c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID})
}

// A message waits in a queue no longer than it lives, and says how long it may
// still live when it is sent, in whole seconds [MQTT-3.3.2-5] [MQTT-3.3.2-6].
func TestMessageExpiryInQueue(t *testing.T) {
	for _, tt := range []struct {
		lives uint32
		waits time.Duration
		left  int // -1: it is not sent
	}{
		{100, 0, 100}, {100, time.Second, 99}, {100, 37 * time.Second, 63}, {100, 37500 * time.Millisecond, 63},
		{100, 99 * time.Second, 1}, {100, 100*time.Second - time.Millisecond, 1}, {100, 100 * time.Second, -1}, {100, time.Hour, -1},
		{1, time.Second, -1}, {0, 0, -1}, {1<<32 - 1, time.Hour, 1<<32 - 1 - 3600},
	} {
		t.Run(fmt.Sprintf("%d/%v", tt.lives, tt.waits), func(t *testing.T) {
			both(t, func(t *testing.T, v mqtt.Version) {
				for _, restart := range []bool{false, true} {
					durably(t, nil, func(t *testing.T, s *stable) {
						stay := func(p *mqtt.Connect) {
							lasting(p)
							p.Properties.SessionExpiry = mqtt.Some[uint32](7200)
							p.KeepAlive = 0
						}
						c := s.resume(v, "c", false, stay)
						c.sub("#", 2)
						c.bye()
						p := s.connect(mqtt.V5, "p", func(p *mqtt.Connect) { as(p, testOrg, "v") })
						p.send(expires(pub("a", "1", 1, 1), tt.lives), expires(pub("a", "2", 2, 2), tt.lives), pub("a", "ever", 1, 3))
						p.expectAck(mqtt.PUBACK, 1, 0)
						p.expectAck(mqtt.PUBREC, 2, 0)
						p.expectAck(mqtt.PUBACK, 3, 0)
						if restart {
							s.crash(tt.waits)
						} else {
							time.Sleep(tt.waits)
						}
						c = s.resume(v, "c", true, stay)
						if tt.left >= 0 {
							for _, payload := range []string{"1", "2"} {
								m := c.receive("a", payload)
								if left, ok := m.Expiry.Get(); ok != (v == mqtt.V5) || ok && int(left) != tt.left {
									t.Errorf("%s: %d %v left, want %d", payload, left, ok, tt.left)
								}
							}
						}
						c.receive("a", "ever")
						synctest.Wait()
						c.sub("other", 0) // with it goes what is acknowledged inside
						if tt.left < 0 {
							time.Sleep(2 * time.Millisecond) // the engine sweeps by the millisecond
						}
						synctest.Wait()
						if n := s.stats().Queued; n != int64(1+2*min(1, tt.left+1)) {
							t.Errorf("%d queued", n)
						}
					})
				}
			})
		})
	}
}

// A retained message is there as long as it lives.
func TestRetainedExpiryTime(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		for _, restart := range []bool{false, true} {
			durably(t, nil, func(t *testing.T, s *stable) {
				p := s.connect(mqtt.V5, "p", func(p *mqtt.Connect) { as(p, testOrg, "v"); p.KeepAlive = 0 })
				p.send(expires(retain("r/0", "0", 0, 0), 100), expires(retain("r/1", "1", 1, 1), 100), retain("r/2", "ever", 1, 2))
				p.expectAck(mqtt.PUBACK, 1, 0)
				p.expectAck(mqtt.PUBACK, 2, 0)
				look := func(left int) {
					t.Helper()
					for i, f := range []func(*mqtt.Connect){nil, lasting} { // from the engine, and from the queue
						c := s.connect(v, fmt.Sprint("c", i), f)
						c.sub("r/+", 1)
						var got []string
						for range 3 {
							if left < 0 && len(got) == 1 {
								break
							}
							m := expect[*mqtt.Publish](c)
							got = append(got, string(m.Payload))
							if e, ok := m.Expiry.Get(); v == mqtt.V5 && string(m.Payload) != "ever" && (!ok || int(e) != left) {
								t.Errorf("%s has %d %v left, want %d", m.Payload, e, ok, left)
							}
							if m.QoS == 1 {
								acked(c, m)
							}
						}
						c.ping()
						if slices.Sort(got); left < 0 && got[0] != "ever" || left >= 0 && fmt.Sprint(got) != "[0 1 ever]" {
							t.Errorf("received %v", got)
						}
						c.bye()
					}
				}
				look(100)
				if restart {
					s.restart(30500 * time.Millisecond)
				} else {
					time.Sleep(30500 * time.Millisecond)
				}
				look(70)
				time.Sleep(69500*time.Millisecond - time.Millisecond)
				look(1)
				time.Sleep(time.Millisecond)
				look(-1)
				time.Sleep(2 * time.Millisecond) // the engine sweeps by the millisecond
				synctest.Wait()
				if n := s.stats().Retained; n != 1 {
					t.Errorf("%d retained", n)
				}
			})
		}
	})
}

// A message for who is there is sent at once, or not at all if it does not live.
func TestMessageExpiryAtOnce(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		for _, qos := range []byte{0, 1, 2} {
			c := w.connect(mqtt.V5, "c", nil)
			c.sub("#", qos)
			c.send(expires(pub("a", "over", 0, 0), 0), expires(pub("a", "lasting", 0, 0), 100))
			if s, ok := c.receive("a", "lasting").Expiry.Get(); !ok || s != 100 {
				t.Errorf("remaining %v %v", s, ok)
			}
		}
	})
}

// What waits in memory for a client that has too much under way expires, too.
func TestMessageExpiryBehindWindow(t *testing.T) {
	for _, expiry := range []uint32{0, 1000} {
		bubble(t, nil, func(t *testing.T, w *world) {
			c := w.connect(mqtt.V5, "c", func(p *mqtt.Connect) {
				p.Properties.ReceiveMaximum = mqtt.Some[uint16](1)
				p.Properties.SessionExpiry = mqtt.Some(expiry)
				p.KeepAlive = 0
			})
			c.sub("a", 1)
			p := w.connect(mqtt.V5, "p", func(p *mqtt.Connect) { as(p, testOrg, "v"); p.KeepAlive = 0 })
			p.send(pub("a", "first", 1, 1), expires(pub("a", "short", 1, 2), 10), expires(pub("a", "long", 1, 3), 100))
			m := c.receive("a", "first")
			time.Sleep(10 * time.Second)
			c.silent()
			acked(c, m)
			m = c.receive("a", "long")
			if e := m.Expiry.Or(0); e != 90 {
				t.Errorf("%d left, want 90", e)
			}
			acked(c, m)
			c.ping()
			if n := w.b.Snapshot().DroppedExpired; n != 1 {
				t.Errorf("%d dropped", n)
			}
		})
	}
}

// A message whose delivery has begun is delivered to the end, whether it lives
// or not: the client may have it, and its identifier with it [MQTT-4.3.3-7].
func TestMessageExpiryInFlight(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		for _, crash := range []bool{false, true} {
			durably(t, nil, func(t *testing.T, s *stable) {
				stay := func(p *mqtt.Connect) { lasting(p); p.KeepAlive = 0 }
				c := s.resume(v, "c", false, stay)
				c.sub("a", 2)
				p := s.connect(mqtt.V5, "p", func(p *mqtt.Connect) { as(p, testOrg, "v"); p.KeepAlive = 0 })
				p.send(expires(pub("a", "one", 1, 1), 10), expires(pub("a", "two", 2, 2), 10), expires(pub("a", "released", 2, 3), 10))
				one, two, three := c.receive("a", "one"), c.receive("a", "two"), c.receive("a", "released")
				c.send(&mqtt.Ack{Type: mqtt.PUBREC, PacketID: three.PacketID})
				c.expectAck(mqtt.PUBREL, three.PacketID, 0)
				c.cut()
				synctest.Wait()
				p.send(expires(pub("a", "not sent", 2, 4), 10))
				if crash {
					s.crash(time.Minute)
				} else {
					time.Sleep(time.Minute)
				}
				c = s.resume(v, "c", true, stay)
				for _, first := range []*mqtt.Publish{one, two} {
					m := c.receive("a", string(first.Payload))
					if !m.Dup || m.PacketID != first.PacketID || m.QoS != first.QoS {
						t.Errorf("again: %+v, first: %+v", m, first)
					}
					if left, ok := m.Expiry.Get(); ok != (v == mqtt.V5) || left != 0 {
						t.Errorf("%s: %d %v left", m.Payload, left, ok)
					}
				}
				c.expectAck(mqtt.PUBREL, three.PacketID, 0)
				acked(c, one)
				c.send(&mqtt.Ack{Type: mqtt.PUBREC, PacketID: two.PacketID})
				c.expectAck(mqtt.PUBREL, two.PacketID, 0)
				c.send(&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: two.PacketID}, &mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: three.PacketID})
				c.ping()
				c.bye()
				s.restart(0)
				if n := s.stats().Queued; n != 0 {
					t.Errorf("%d queued", n)
				}
			})
		}
	})
}

// Nothing is sent again while a connection lasts, however long it takes; on the
// next one everything is, in order, marked and under its identifier, and only
// what is not acknowledged [MQTT-4.4.0-1] [MQTT-4.6.0-1].
func TestRetry(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		for _, restart := range []bool{false, true} {
			durably(t, nil, func(t *testing.T, s *stable) {
				stay := func(p *mqtt.Connect) {
					lasting(p)
					p.KeepAlive, p.Properties.SessionExpiry = 0, mqtt.Some[uint32](100_000)
				}
				c := s.resume(v, "c", false, stay)
				c.sub("a", 2)
				p := s.connect(v, "p", func(p *mqtt.Connect) { as(p, testOrg, "v"); p.KeepAlive = 0 })
				var first []*mqtt.Publish
				for i := range 9 {
					qos := byte(1 + i%2)
					p.send(pub("a", fmt.Sprint(i), qos, uint16(i+1)))
					p.expectAck([]mqtt.Type{mqtt.PUBACK, mqtt.PUBREC}[i%2], uint16(i+1), 0)
					m := c.receive("a", fmt.Sprint(i))
					if m.Dup || m.QoS != qos {
						t.Errorf("first: %+v", m)
					}
					first = append(first, m)
				}
				c.send(&mqtt.Ack{Type: mqtt.PUBREC, PacketID: first[3].PacketID}, &mqtt.Ack{Type: mqtt.PUBACK, PacketID: first[4].PacketID})
				c.expectAck(mqtt.PUBREL, first[3].PacketID, 0)
				time.Sleep(3 * time.Hour)
				c.silent()
				for range 3 { // each time again
					p.publish("b", "what was acknowledged is on disk with this")
					c.cut()
					synctest.Wait()
					if restart {
						s.restart(time.Minute)
						p = s.connect(v, "p", func(p *mqtt.Connect) { as(p, testOrg, "v"); p.KeepAlive = 0 })
					}
					c = s.resume(v, "c", true, stay)
					began := time.Now()
					for i, f := range first {
						switch i {
						case 3:
							c.expectAck(mqtt.PUBREL, f.PacketID, 0)
						case 4:
						default:
							m := c.receive("a", string(f.Payload))
							if !m.Dup || m.PacketID != f.PacketID || m.QoS != f.QoS {
								t.Errorf("again: %+v, first: %+v", m, f)
							}
							c.came(began)
						}
					}
					time.Sleep(time.Hour)
					c.silent()
				}
				c.bye() // a goodbye changes nothing
				c = s.resume(v, "c", true, stay)
				if m := c.receive("a", "0"); !m.Dup {
					t.Error("no DUP")
				}
			})
		}
	})
}

// A session that ends with its connection has nothing to send again.
func TestNoRetryWithoutSession(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		bubble(t, nil, func(t *testing.T, w *world) {
			c := w.connect(v, "c", alive(0))
			c.sub("a", 2)
			p := w.connect(v, "p", func(p *mqtt.Connect) { as(p, testOrg, "v"); p.KeepAlive = 0 })
			p.publish("a", "1")
			c.receive("a", "1")
			time.Sleep(time.Hour)
			c.silent()
			c.cut()
			synctest.Wait()
			c = w.resume(v, "c", false, lasting)
			time.Sleep(time.Minute)
			c.silent()
		})
	})
}
