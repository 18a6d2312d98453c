package security

import (
	"fmt"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// ack returns the next acknowledgement of that type and packet identifier.
func (c *client) ack(typ mqtt.Type, id uint16) *mqtt.Ack {
	c.t.Helper()
	a, ok := c.next().(*mqtt.Ack)
	if !ok || a.Type != typ || a.PacketID != id {
		c.t.Fatalf("got %+v, want %v %d", a, typ, id)
	}
	return a
}

// Packet identifiers of a client and of the server, and of QoS 1 and 2, are
// numbered apart. After a session goes on, each flow ends as it was begun: no
// message is lost, none comes twice, none is mistaken for another.
func TestPacketIDConfusionAfterResume(t *testing.T) {
	s := start(t)
	h := s.house()
	ann := h.user("ann")
	sink := s.connect(t, h.user("sink").packet())
	sink.subscribe(2, "up/#")
	c := s.connect(t, lasting(ann.packet()))
	c.subscribe(2, "down/#")
	up := func(c *client, id uint16, payload string, dup bool) {
		c.send(&mqtt.Publish{Topic: []byte("up/x"), Payload: []byte(payload), QoS: 2, PacketID: id, Dup: dup})
	}
	up(c, 1, "one", false)
	c.ack(mqtt.PUBREC, 1)
	up(c, 2, "two", false)
	c.ack(mqtt.PUBREC, 2)
	writer := s.connect(t, h.user("writer").packet())
	for i := range 3 {
		writer.send(&mqtt.Publish{Topic: []byte("down/x"), Payload: []byte(fmt.Sprint(i)), QoS: 2, PacketID: uint16(i + 1)})
		writer.ack(mqtt.PUBREC, uint16(i+1))
		writer.send(&mqtt.Ack{Type: mqtt.PUBREL, PacketID: uint16(i + 1)})
		writer.ack(mqtt.PUBCOMP, uint16(i+1))
	}
	// Down 0 is received, down 1 released, down 2 only sent: all under their own numbers.
	var ids [3]uint16
	for i := range ids {
		p, ok := c.next().(*mqtt.Publish)
		if !ok || string(p.Payload) != fmt.Sprint(i) {
			t.Fatalf("got %+v", p)
		}
		ids[i] = p.PacketID
	}
	for _, id := range ids[:2] {
		c.send(&mqtt.Ack{Type: mqtt.PUBREC, PacketID: id})
		c.ack(mqtt.PUBREL, id)
	}
	c.send(&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: ids[0]})
	c.ping()
	c.nc.NetConn().Close()

	c = s.dial(t, nil)
	c.send(lasting(ann.packet()))
	if a, ok := c.next().(*mqtt.Connack); !ok || !a.SessionPresent {
		t.Fatalf("the session is gone: %+v", a)
	}
	c.ack(mqtt.PUBREL, ids[1]) // not sent again: it was received
	p, ok := c.next().(*mqtt.Publish)
	if !ok || !p.Dup || p.PacketID != ids[2] || string(p.Payload) != "2" {
		t.Fatalf("got %+v", p)
	}
	// The same numbers mean something else in the other direction.
	up(c, 2, "two", true) // a repetition
	c.ack(mqtt.PUBREC, 2)
	up(c, ids[2], "three", false) // new, whatever the server calls its own
	if ids[2] == 1 || ids[2] == 2 {
		t.Fatalf("the test needs another number than %d", ids[2])
	}
	c.ack(mqtt.PUBREC, ids[2])
	c.send(&mqtt.Publish{Topic: []byte("up/x"), Payload: []byte("four"), QoS: 1, PacketID: 4})
	c.ack(mqtt.PUBACK, 4)
	c.send(&mqtt.Ack{Type: mqtt.PUBREC, PacketID: ids[2]}) // of what came down: "three" is not touched by it
	c.ack(mqtt.PUBREL, ids[2])
	for _, id := range []uint16{1, 2, ids[2]} {
		c.send(&mqtt.Ack{Type: mqtt.PUBREL, PacketID: id})
		if a := c.ack(mqtt.PUBCOMP, id); a.Code != mqtt.Success {
			t.Errorf("PUBREL %d: %v", id, a.Code)
		}
	}
	up(c, 1, "five", false) // the number is free again
	c.ack(mqtt.PUBREC, 1)
	c.send(&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: ids[1]})
	c.send(&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: ids[2]})
	if got := c.ping(); len(got) != 0 {
		t.Errorf("%q came again", got[0].Payload)
	}
	if got := sink.takeAll(5); fmt.Sprint(got) != "[one two three four five]" {
		t.Errorf("up: got %v", got)
	}
	if got := sink.ping(); len(got) != 0 {
		t.Errorf("%q came twice", got[0].Payload)
	}
	// What went down has come to its end, too: nothing of it is left.
	c.nc.NetConn().Close()
	c = s.connect(t, lasting(ann.packet()))
	writer.publish("down/x", "end", false)
	if p, ok := c.next().(*mqtt.Publish); !ok || string(p.Payload) != "end" {
		t.Errorf("got %+v", p)
	}
}

// takeAll receives n messages to the end of their flows, and returns their payloads.
func (c *client) takeAll(n int) (got []string) {
	c.t.Helper()
	for open := n; open > 0; {
		switch p := c.next().(type) {
		case *mqtt.Publish:
			got = append(got, string(p.Payload))
			if p.QoS == 1 {
				c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: p.PacketID})
				open--
			} else {
				c.send(&mqtt.Ack{Type: mqtt.PUBREC, PacketID: p.PacketID})
			}
		case *mqtt.Ack:
			if p.Type != mqtt.PUBREL {
				c.t.Fatalf("got %+v", p)
			}
			c.send(&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: p.PacketID})
			open--
		case nil:
			c.t.Fatalf("the connection ended after %v", got)
		}
	}
	return got
}
