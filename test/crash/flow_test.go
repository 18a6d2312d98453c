package crash

import (
	"slices"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// handle serves one packet of the server.
func (c *client) handle(p mqtt.Packet) {
	switch p := p.(type) {
	case *mqtt.Publish:
		c.received(p)
	case *mqtt.Ack:
		c.acknowledged(p)
	case *mqtt.Suback:
		c.suback(p)
	case *mqtt.Unsuback:
		c.unsuback(p)
	case *mqtt.Disconnect, *mqtt.Pingresp:
	default:
		c.fault("got a %T", p)
	}
}

func (c *client) acknowledged(a *mqtt.Ack) {
	if a.Type == mqtt.PUBREL {
		c.release(a.PacketID)
		return
	}
	i := slices.IndexFunc(c.out, func(o *outgoing) bool { return o.p.PacketID == a.PacketID })
	if i < 0 {
		c.fault("%v for %d, which is not in use", a.Type, a.PacketID)
		return
	}
	o := c.out[i]
	forgotten := a.Type == mqtt.PUBCOMP && a.Code == mqtt.PacketIdentifierNotFound && o.again
	switch {
	case a.Code.IsError() && c.tolerant && a.Type != mqtt.PUBCOMP:
		c.onRefusal()
		o.refused()
		c.out = slices.Delete(c.out, i, i+1)
		return
	case a.Code.IsError() && !forgotten:
		c.fault("%v %d: %v %s", a.Type, a.PacketID, a.Code, a.ReasonString.Or(""))
	case a.Type == mqtt.PUBACK && o.p.QoS == 1:
		o.done()
	case a.Type == mqtt.PUBREC && o.p.QoS == 2:
		if !o.received {
			o.done()
		}
		o.received = true
		c.w.write(&mqtt.Ack{Type: mqtt.PUBREL, PacketID: a.PacketID})
		if c.onAck != nil {
			c.onAck()
		}
		return
	case a.Type == mqtt.PUBCOMP && o.received:
	default:
		c.fault("%v for %d, a message of QoS %d", a.Type, a.PacketID, o.p.QoS)
	}
	c.out = slices.Delete(c.out, i, i+1)
	if c.onAck != nil {
		c.onAck()
	}
}

// received takes a message in, once.
func (c *client) received(p *mqtt.Publish) {
	text := string(p.Topic) + " " + string(p.Payload)
	known := c.in[p.PacketID]
	if p.QoS > 0 && known != nil {
		c.repeated(known, p, text)
	}
	if known == nil || p.QoS < 2 {
		if c.r == nil {
			c.fault("got a message, and has no subscription")
		} else if len(p.Payload) > 0 {
			c.h.arrive(c.r, string(p.Topic), string(p.Payload))
		}
	}
	if p.QoS == 0 {
		return
	}
	if known == nil {
		c.ordinal++
		known = &incoming{ordinal: c.ordinal}
		if old := c.past[p.PacketID]; old != nil && p.Dup && old.text == text {
			known.ordinal = old.ordinal // the server has missed our acknowledgement
		}
		c.in[p.PacketID], c.past[p.PacketID] = known, known
	}
	known.text, known.qos, known.conn = text, p.QoS, c.conn
	c.checkWindow()
	typ := mqtt.PUBACK
	if p.QoS == 2 {
		typ = mqtt.PUBREC
	}
	c.due = append(c.due, &mqtt.Ack{Type: typ, PacketID: p.PacketID})
	c.acknowledge()
}

// repeated checks that a message with an identifier in use is the same one.
func (c *client) repeated(known *incoming, p *mqtt.Publish, text string) {
	switch {
	case known.qos != p.QoS, known.text != text:
		c.fault("identifier %d used for %.80q before %.80q was done with [MQTT-2.2.1-4]", p.PacketID, text, known.text)
	case known.conn == c.conn:
		c.fault("%.80q sent twice on one connection [MQTT-4.4.0-1]", text)
	case !p.Dup:
		c.fault("%.80q sent again without DUP [MQTT-3.3.1-1]", text)
	case known.ordinal < c.resent:
		c.fault("%.80q sent again out of order [MQTT-4.6.0-1]", text)
	}
	c.resent = max(c.resent, known.ordinal)
}

// checkWindow checks that the server keeps to the Receive Maximum [MQTT-3.3.4-9].
func (c *client) checkWindow() {
	n := 0
	for _, in := range c.in {
		if in.conn == c.conn {
			n++
		}
	}
	if c.version >= mqtt.V5 && n > c.window {
		c.fault("%d messages in flight, the Receive Maximum is %d", n, c.window)
	}
}

func (c *client) release(id uint16) {
	if in := c.in[id]; in != nil {
		if in.qos != 2 || !in.taken {
			c.fault("PUBREL for %d, for which PUBREC was not sent", id)
		}
		delete(c.in, id)
	}
	c.w.write(&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: id})
}

// acknowledge sends the acknowledgements that are due.
func (c *client) acknowledge() {
	if c.held || len(c.due) == 0 {
		return
	}
	for _, p := range c.due {
		switch a := p.(*mqtt.Ack); a.Type {
		case mqtt.PUBACK:
			delete(c.in, a.PacketID)
		case mqtt.PUBREC:
			if in := c.in[a.PacketID]; in != nil {
				in.taken = true
			}
		}
	}
	c.w.write(c.due...)
	c.due = nil
}

func (c *client) suback(p *mqtt.Suback) {
	filter, ok := c.asked[p.PacketID]
	if ok && c.tolerant && len(p.Codes) == 1 && p.Codes[0].IsError() {
		delete(c.asked, p.PacketID) // it is asked for again later
		return
	}
	if !ok || len(p.Codes) != 1 || byte(p.Codes[0]) != c.r.qos {
		c.fault("SUBACK for %d (%q): %v %s", p.PacketID, filter, p.Codes, p.ReasonString.Or(""))
		return
	}
	delete(c.asked, p.PacketID)
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	if x := c.subs[filter]; x.subAcked == 0 {
		x.subAcked = c.h.now()
	}
}

func (c *client) unsuback(p *mqtt.Unsuback) {
	filter, ok := c.asked[p.PacketID]
	if ok && c.tolerant && len(p.Codes) == 1 && p.Codes[0].IsError() {
		delete(c.asked, p.PacketID)
		return
	}
	if !ok || len(p.Codes) == 1 && p.Codes[0].IsError() {
		c.fault("UNSUBACK for %d (%q): %v %s", p.PacketID, filter, p.Codes, p.ReasonString.Or(""))
		return
	}
	delete(c.asked, p.PacketID)
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	x := c.subs[filter]
	if len(p.Codes) == 1 && p.Codes[0] == mqtt.NoSubscriptionExisted && x.asked == 1 && x.subAcked != 0 {
		c.h.faults = append(c.h.faults, c.id+": the subscription of "+filter+" was lost")
	}
	x.unsubAcked = c.h.now()
	delete(c.subs, filter)
}
