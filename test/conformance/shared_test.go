package conformance

import (
	"fmt"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// A shared subscription has a name without / + and #, and a filter behind it.
func TestSharedSubscriptionForms(t *testing.T) {
	both(t, func(t *trial) {
		alone := t.elsewhere()
		for form, ok := range map[string]bool{
			"$share/g/" + t.topic("a"): true, "$share/g/#": true, "$share/g//": true, "$share/$x/" + t.topic("+"): true, "$share/ü/" + t.topic("a"): true,
			"$share//" + t.topic("a"): false, "$share/": false, "$share": false, // [MQTT-4.8.2-1]
			"$share/g": false, "$share/g/": false, "$share/g+/" + t.topic("a"): false, "$share/+/" + t.topic("a"): false, // [MQTT-4.8.2-2]
			"$share/#/" + t.topic("a"): false, "$share/#": false, "$share/g#/a": false, "$share/g/a#": false, "$share/g/#/a": false,
		} {
			c := t.connect(alone)
			got := c.answered(subscription(form, 1))[0]
			if ok && got != 1 || !ok && !got.IsError() {
				t.Errorf("%s: %v", form, got)
			}
			c.leave()
		}
	})
}

// Each message to a shared subscription goes to one of its members, with at most
// the QoS that was granted to it; other subscriptions get it as ever.
func TestSharedSubscription(t *testing.T) {
	both(t, func(t *trial) {
		shared := "$share/g/" + t.topic("a")
		members := map[*client]byte{t.connect(): 0, t.connect(): 1, t.connect(): 2}
		for c, qos := range members {
			c.subscribe(qos, shared)
		}
		plain, pub := t.connect(), t.connect()
		plain.subscribe(1, t.topic("a"))
		const n = 30
		for i := range n {
			pub.publish(message(t.topic("a"), fmt.Sprint(i), 2))
			plain.takes(t.topic("a"), fmt.Sprint(i))
		}
		seen := map[string]int{}
		for c, qos := range members {
			for _, p := range c.received() {
				seen[string(p.Payload)]++
				if p.QoS != qos || p.Retain { // [MQTT-4.8.2-3]
					t.Errorf("%s, granted was %d", describe(p), qos)
				}
			}
		}
		if len(seen) != n {
			t.Errorf("%d messages of %d came", len(seen), n)
		}
		for payload, times := range seen {
			if times != 1 {
				t.Errorf("%s came %d times", payload, times)
			}
		}
	})
}

// A message of QoS 2 that was begun with one member of a shared subscription is
// finished with it; one that a member refused, or whose session ended, goes to nobody else.
func TestSharedDeliveryStaysWithItsClient(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		shared := "$share/g/" + t.topic("a")
		c := t.connectAs(t.persistent("c"))
		c.subscribe(2, shared)
		pub := t.connect()
		for i := range 3 {
			pub.publish(message(t.topic("a"), fmt.Sprint(i), 2))
		}
		var ids []uint16
		for range 3 {
			ids = append(ids, expect[*mqtt.Publish](c).PacketID)
		}
		other := t.connect()
		other.subscribe(2, shared)
		c.ackWith(mqtt.PUBREC, ids[0], mqtt.UnspecifiedError) // [MQTT-4.8.2-6]
		c.ackWith(mqtt.PUBREC, ids[1], 0)
		c.acknowledged(mqtt.PUBREL, ids[1])
		c.nothing()
		c.cut()
		other.nothing()
		c = t.resume() // [MQTT-4.8.2-4]
		c.acknowledged(mqtt.PUBREL, ids[1])
		if p := expect[*mqtt.Publish](c); p.PacketID != ids[2] {
			t.Errorf("got %s", describe(p))
		}
		c.nothing()
		c.send(&mqtt.Disconnect{Properties: mqtt.Properties{SessionExpiry: mqtt.Some[uint32](0)}})
		c.closed()
		other.nothing() // [MQTT-4.8.2-5]
		pub.publish(message(t.topic("a"), "new", 2))
		other.takes(t.topic("a"), "new")
	})
}

// A shared subscription is sent no retained messages when it is made.
func TestSharedSubscriptionHasNoRetained(t *testing.T) {
	both(t, func(t *trial) {
		c, pub := t.connect(), t.connect()
		pub.retain(t.topic("a"), "kept")
		c.subscribe(1, "$share/g/"+t.topic("a"))
		c.nothing()
		pub.publish(message(t.topic("a"), "live", 1))
		c.takes(t.topic("a"), "live")
	})
}
