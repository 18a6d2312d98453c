package conformance

import (
	"fmt"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// More unacknowledged messages than Receive Maximum allows end the connection;
// as many as it allows do not.
func TestReceiveMaximumOfServer(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		c := t.connect()
		most := c.ack.Properties.ReceiveMaximum.Or(mqtt.DefaultReceiveMaximum)
		send := func(id uint16) {
			p := message(t.topic("a"), "x", 2)
			p.PacketID = id
			c.send(p)
		}
		for id := range most {
			send(id + 1)
		}
		for id := range most {
			c.acknowledged(mqtt.PUBREC, id+1)
		}
		c.ackWith(mqtt.PUBREL, 1, 0)
		c.acknowledged(mqtt.PUBCOMP, 1)
		send(1)
		c.acknowledged(mqtt.PUBREC, 1)
		c.nothing()
		send(most + 1) // [MQTT-3.3.4-7]
		c.ended(mqtt.ReceiveMaximumExceeded)
	})
}

// The server sends as many unacknowledged messages as the client's Receive
// Maximum and no more; everything else goes on.
func TestReceiveMaximumOfClient(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		for _, persistent := range []bool{false, true} {
			for _, most := range []uint16{1, 3} {
				t.prefix += "m"
				hello := t.hello()
				if persistent {
					hello = t.persistent("c")
				}
				hello.Properties.ReceiveMaximum = mqtt.Some(most)
				sub, pub := t.connectAs(hello), t.connect()
				sub.subscribe(2, t.topic("#"))
				for i := range 6 {
					pub.publish(message(t.topic("a"), fmt.Sprint(i), byte(1+i%2)))
				}
				pub.publish(message(t.topic("zero"), "zero", 0))
				pub.received()
				var first []*mqtt.Publish
				for range most {
					p := expect[*mqtt.Publish](sub)
					if string(p.Payload) == "zero" {
						t.Errorf("QoS 0 came before %d messages that were published before", int(most)-len(first))
					}
					first = append(first, p)
				}
				if p := sub.takes(t.topic("zero"), "zero"); p.QoS != 0 { // [MQTT-3.3.4-10] [MQTT-4.9.0-3]
					t.Errorf("got %s", describe(p))
				}
				sub.nothing() // PINGREQ is answered, no message comes [MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2]
				if first[0].QoS == 1 {
					sub.ackWith(mqtt.PUBACK, first[0].PacketID, 0)
				}
				if p := expect[*mqtt.Publish](sub); string(p.Payload) != fmt.Sprint(most) {
					t.Errorf("got %s, want %d", describe(p), most)
				}
				sub.nothing()
				// A PUBREC that does not refuse makes no room, PUBCOMP does.
				if most > 1 {
					sub.ackWith(mqtt.PUBREC, first[1].PacketID, 0)
					sub.acknowledged(mqtt.PUBREL, first[1].PacketID)
					sub.nothing()
					sub.ackWith(mqtt.PUBCOMP, first[1].PacketID, 0)
					expect[*mqtt.Publish](sub)
					sub.nothing()
				}
			}
		}
	})
}
