package broker

import (
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

func TestPublishSubscribe(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w := start(t, nil)
		for qos := range byte(3) {
			sub := w.connect(v, "sub", nil)
			sub.sub("a/+", qos)
			p := w.connect(v, "pub", nil)
			p.send(pub("a/b", "hello", qos, 7))
			switch qos {
			case 1:
				p.expectAck(mqtt.PUBACK, 7, mqtt.Success)
			case 2:
				p.expectAck(mqtt.PUBREC, 7, mqtt.Success)
				p.send(&mqtt.Ack{Type: mqtt.PUBREL, PacketID: 7})
				p.expectAck(mqtt.PUBCOMP, 7, mqtt.Success)
			}
			m := sub.receive("a/b", "hello")
			if m.QoS != qos || m.Dup || m.Retain {
				t.Errorf("QoS %d: got %+v", qos, m)
			}
			switch qos {
			case 1:
				sub.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID})
			case 2:
				sub.send(&mqtt.Ack{Type: mqtt.PUBREC, PacketID: m.PacketID})
				sub.expectAck(mqtt.PUBREL, m.PacketID, mqtt.Success)
				sub.send(&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: m.PacketID})
			}
			sub.ping()
			sub.bye()
			p.bye()
		}
	})
}
