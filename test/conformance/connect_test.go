package conformance

import (
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// Two clients connect, subscribe, publish with each QoS, ping, unsubscribe and leave.
func TestWholeConversation(t *testing.T) {
	everywhere(t, func(t *trial) {
		sub, pub := t.connect(), t.connect()
		sub.subscribe(2, t.topic("a"), t.topic("b"))
		for qos := range byte(3) {
			pub.publish(message(t.topic("a"), "hello", qos))
			if p := sub.takes(t.topic("a"), "hello"); p.QoS != qos {
				t.Errorf("got %s, want QoS %d", describe(p), qos)
			}
		}
		sub.nothing()
		sub.send(&mqtt.Unsubscribe{PacketID: 2, Filters: []string{t.topic("a")}})
		expect[*mqtt.Unsuback](sub)
		pub.publish(message(t.topic("a"), "again", 1))
		pub.publish(message(t.topic("b"), "other", 1))
		sub.takes(t.topic("b"), "other")
		sub.leave()
		pub.leave()
	})
}
