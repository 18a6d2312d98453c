package security

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// seeds are valid packets to be spoilt.
func seeds(l login) [][]byte {
	var out [][]byte
	will := l.packet()
	will.Will = &mqtt.Will{Topic: "iot-2/evt/will/fmt/json", Payload: []byte("{}"), QoS: 1, Delay: 1}
	for _, p := range []mqtt.Packet{
		will,
		&mqtt.Publish{Topic: []byte("iot-2/evt/a/fmt/json"), Payload: []byte("{}"), QoS: 1, PacketID: 1},
		&mqtt.Publish{Topic: []byte("iot-2/evt/a/fmt/json"), Payload: []byte("{}"), QoS: 2, PacketID: 2, TopicAlias: 1},
		&mqtt.Subscribe{PacketID: 3, Subscriptions: []mqtt.Subscription{{Filter: "iot-2/cmd/+/fmt/+", QoS: 2}}},
		&mqtt.Unsubscribe{PacketID: 4, Filters: []string{"iot-2/cmd/+/fmt/+"}},
		&mqtt.Ack{Type: mqtt.PUBREL, PacketID: 2},
		&mqtt.Pingreq{},
		&mqtt.Disconnect{},
	} {
		out = append(out, p.Append(nil, mqtt.V5))
	}
	return out
}

// Spoilt packets and plain noise end their own connection and nothing else.
func TestMalformedPacketsHarmNobodyElse(t *testing.T) {
	s := start(t)
	witness := s.connect(t, s.ours.asApp().packet())
	before := s.memory(t)
	rnd := rand.New(rand.NewPCG(7, 11))
	valid := seeds(s.ours.asDevice())
	began := time.Now()
	for i := range 1500 {
		c := s.dial(t, nil)
		var b []byte
		switch {
		case i%10 == 0:
			b = make([]byte, rnd.IntN(600))
			for k := range b {
				b[k] = byte(rnd.Uint32())
			}
			if i%20 == 0 && len(b) > 0 {
				b[0] = 0x10
			}
		default:
			b = append(b, valid[0]...)
			for range rnd.IntN(6) {
				b = append(b, valid[1+rnd.IntN(len(valid)-1)]...)
			}
			from := len(valid[0])
			if i%3 == 0 || len(b) == from {
				from = 0
			}
			for range 1 + rnd.IntN(4) {
				at := from + rnd.IntN(len(b)-from)
				switch rnd.IntN(3) {
				case 0:
					b[at] ^= 1 << rnd.IntN(8)
				case 1:
					b[at] = byte(rnd.Uint32())
				case 2:
					b = append(b[:at:at], b[min(at+1, len(b)):]...)
				}
				if len(b) <= from {
					break
				}
			}
		}
		_ = c.raw(b)
		_ = c.nc.CloseWrite()
		for c.within(5*time.Second) != nil {
		}
		c.nc.NetConn().Close()
	}
	t.Logf("1500 connections in %v, %d KiB more memory", time.Since(began), (s.memory(t)-before)>>10)
	witness.ping()
	s.healthy(t)
}

// Packets at and above every limit are refused, and cost bounded memory.
func TestHugePacketsAreRefused(t *testing.T) {
	s := start(t)
	witness := s.connect(t, s.ours.asApp().packet())
	before := s.memory(t)
	long := strings.Repeat("x", 65535)
	deep := strings.Repeat("/", 30_000)
	t.Run("length promised", func(t *testing.T) {
		for range 200 {
			c := s.dial(t, nil)
			if err := c.raw([]byte{0x10, 0xff, 0xff, 0xff, 0x7f, 0, 4}); err != nil {
				t.Fatal(err)
			}
			c.ended()
		}
	})
	t.Run("large CONNECT", func(t *testing.T) {
		p := s.ours.asDevice().packet()
		p.Properties.UserProperties = bomb(130 << 10)
		c := s.dial(t, nil)
		_ = c.raw(p.Append(nil, mqtt.V5))
		if a, ok := c.next().(*mqtt.Connack); ok && !a.Code.IsError() {
			t.Error("it was let in")
		}
	})
	for name, topic := range map[string]string{"long topic": long, "deep topic": deep} {
		t.Run(name, func(t *testing.T) {
			c := s.connect(t, s.ours.asDevice().packet())
			if code := c.publish(topic, "x", false); !code.IsError() {
				t.Errorf("publish: %v", code)
			}
			a := s.connect(t, s.ours.asApp().packet())
			for _, filter := range []string{topic, strings.Repeat("+/", 20_000) + "#", "$share/g/" + topic[:60_000%len(topic)]} {
				for _, code := range a.subscribe(1, filter) {
					if !code.IsError() {
						t.Errorf("a filter of %d bytes: %v", len(filter), code)
					}
				}
				a = s.connect(t, s.ours.asApp().packet())
			}
		})
	}
	t.Run("user properties", func(t *testing.T) {
		c := s.connect(t, s.ours.asDevice().packet())
		for i := range 20 {
			var q mqtt.Properties
			q.UserProperties = bomb(900 << 10)
			m := &mqtt.Publish{Topic: []byte("iot-2/evt/a/fmt/json"), QoS: 1, PacketID: uint16(i + 1), Carried: q.Carried()}
			if c.raw(m.Append(nil, mqtt.V5)) != nil || c.next() == nil {
				break
			}
		}
	})
	t.Run("many filters", func(t *testing.T) {
		c := s.connect(t, s.ours.asApp().packet())
		filters := make([]string, 12_000)
		for i := range filters {
			filters[i] = fmt.Sprintf("iot-2/type/+/id/+/evt/e%d/fmt/+", i)
		}
		granted := 0
		for _, code := range c.subscribe(1, filters...) {
			if !code.IsError() {
				granted++
			}
		}
		t.Logf("%d of %d filters granted", granted, len(filters))
		if granted > 10_000 {
			t.Errorf("%d subscriptions in one session", granted)
		}
		s.healthy(t)
	})
	for _, filter := range []string{"$share", "$share/", "$share//a", "$share/g", "$share/g/", "$share/+/a", "$share/#", "$share/g+/a", "$SHARE/g/#", "a/#/b", "a+", "#/", ""} {
		c := s.connect(t, login{"a:" + s.ours.id + ":odd", s.ours.key, s.ours.token}.packet())
		for _, code := range c.subscribe(0, filter) {
			if !code.IsError() {
				t.Errorf("%q: %v", filter, code)
			}
		}
	}
	more := s.memory(t) - before
	t.Logf("%d MiB more memory", more>>20)
	if more > 300<<20 {
		t.Errorf("the server grew by %d MiB", more>>20)
	}
	witness.ended() // "screen" was taken over by its own kind above
	s.healthy(t)
}

// bomb returns about size bytes of user properties.
func bomb(size int) []mqtt.UserProperty {
	return slices.Repeat([]mqtt.UserProperty{{Key: "k", Value: "value"}}, size/11)
}
