package crash

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// presence is what a client knows of its session at the server.
type presence int

const (
	absent presence = iota
	either
	present
)

// A client is one that does what the standard says, and remembers what the
// standard says, for as long as the test lasts. One goroutine uses it at a time.
type client struct {
	h       *history
	address string
	tls     *tls.Config

	id, user, password string
	version            mqtt.Version
	expiry             uint32 // MQTT 5, in seconds
	will               string // its payload; "": none
	window             int    // unacknowledged messages that it publishes; also its Receive Maximum
	tolerant           bool   // the server may refuse what it asks for
	volatile           bool   // its session ends with the connection

	session presence
	ended   presenceClock
	discard bool // the next CONNECT is with Clean Start

	w    *wire
	conn int // counts connections
	held bool
	due  []mqtt.Packet // acknowledgements that are held back

	// State of the sender.
	lastID uint16
	out    []*outgoing // in the order of their first PUBLISH

	// State of the receiver.
	r       *receiver
	in      map[uint16]*incoming
	past    map[uint16]*incoming // the last one with an identifier
	ordinal int                  // of the last incoming
	resent  int                  // ordinal of the last one repeated on this connection

	wanted map[string]bool     // filters to be subscribed whatever happens
	subs   map[string]*stretch // filters that are, or may be, subscribed
	asked  map[uint16]string   // SUBSCRIBE and UNSUBSCRIBE without an answer

	onAck     func()
	onRefusal func()
}

// An outgoing message is one that the client publishes.
type outgoing struct {
	p        mqtt.Publish
	done     func() // it was taken
	refused  func() // it was not
	received bool   // PUBREC came, PUBREL was sent
	again    bool   // PUBREL was sent on an earlier connection
}

// An incoming message is one of QoS 1 before its PUBACK was sent, or of QoS 2
// before its PUBREL came.
type incoming struct {
	text    string
	qos     byte
	ordinal int
	conn    int
	taken   bool // PUBREC was sent
}

// connect makes a connection and resumes the session.
func (c *client) connect(ctx context.Context) error {
	w, err := dial(ctx, c.address, c.tls, c.version)
	if err != nil {
		return err
	}
	expected, clean := c.session, c.discard || c.volatile
	began, start := c.h.tick(), time.Now()
	switch {
	case clean:
		expected = absent
		c.session = either
	case c.session == absent:
		c.session = either
	}
	p := &mqtt.Connect{
		Version: c.version, CleanStart: clean, KeepAlive: 60, ClientID: c.id,
		Username: mqtt.Some(c.user), Password: mqtt.Credential(c.password),
	}
	if c.will != "" {
		p.Will = &mqtt.Will{Topic: "will/" + c.id, Payload: []byte(c.will), QoS: 1}
	}
	if c.version >= mqtt.V5 {
		p.Properties.SessionExpiry = mqtt.Some(c.expiry)
		p.Properties.ReceiveMaximum = mqtt.Some(uint16(c.window))
	}
	w.write(p)
	ack, ok := w.next().(*mqtt.Connack)
	if !ok {
		w.close()
		c.unanswered(expected, start)
		return fmt.Errorf("no CONNACK")
	}
	if ack.Code != mqtt.Success {
		w.close()
		return fmt.Errorf("%w: %v", errRefused, ack.Code)
	}
	expected = c.ended.judge(expected, start)
	if ack.SessionPresent && expected == absent || !ack.SessionPresent && expected == present {
		c.fault("session present is %v", ack.SessionPresent) // [MQTT-3.2.2-2] [MQTT-3.2.2-3]
	}
	c.w, c.discard, c.held = w, false, false
	c.session = present
	if c.volatile {
		c.session = absent
	}
	c.conn++
	c.due, c.resent = nil, 0
	if !ack.SessionPresent {
		c.forget(began)
	}
	c.resume(ack.SessionPresent)
	return nil
}

// unanswered is what a client does whose CONNECT may have been heard. If its
// session may have expired by then, the server may have begun another, of which
// the client has no state: it asks for a new one. [MQTT-3.2.2-4]
func (c *client) unanswered(expected presence, start time.Time) {
	if c.ended.judge(expected, start) != expected {
		c.discard = true
	}
	c.ended.cut()
}

func (c *client) fault(format string, a ...any) {
	c.h.fault("%s (connection %d): %s", c.id, c.conn, fmt.Sprintf(format, a...))
}

// forget is what a client does when the server has not kept the session: what
// it received goes, what it wants to publish is new.
func (c *client) forget(began int64) {
	c.in, c.past = map[uint16]*incoming{}, map[uint16]*incoming{}
	for _, o := range c.out {
		o.p.Dup, o.received, o.again = false, false, false
	}
	c.subs = map[string]*stretch{}
	if c.r != nil {
		c.h.mu.Lock()
		defer c.h.mu.Unlock()
		c.h.discard(c.r, began)
	}
}

// resume repeats what was not answered: messages in their order with their
// identifiers [MQTT-4.4.0-1] [MQTT-4.6.0-1], then subscriptions.
func (c *client) resume(present bool) {
	var all []mqtt.Packet
	for _, o := range c.out {
		if o.received {
			o.again = true
			all = append(all, &mqtt.Ack{Type: mqtt.PUBREL, PacketID: o.p.PacketID})
			continue
		}
		o.p.Dup = present // [MQTT-3.3.1-1]
		all = append(all, &o.p)
	}
	if len(all) > 0 {
		c.w.write(all...)
	}
	c.asked = map[uint16]string{}
	for f, x := range c.subs {
		switch {
		case x.unsubSent != 0:
			c.unsubscribe(f)
		case x.subAcked == 0:
			c.subscribe(f)
		}
	}
	for f := range c.wanted {
		if c.subs[f] == nil {
			c.subscribe(f)
		}
	}
}

// cut ends the connection without a word.
func (c *client) cut() {
	if c.w != nil {
		c.w.close()
		c.w = nil
	}
}

// leave ends the connection with DISCONNECT and waits for the server's end.
func (c *client) leave() {
	if c.w == nil {
		return
	}
	c.w.write(&mqtt.Disconnect{})
	late := time.After(patience)
	for {
		select {
		case p, ok := <-c.w.packets:
			if !ok {
				c.cut()
				return
			}
			c.handle(p)
		case <-late:
			c.fault("the server did not close after DISCONNECT")
			c.cut()
			return
		}
	}
}

func (c *client) newID() uint16 {
	for {
		c.lastID++
		_, asked := c.asked[c.lastID]
		used := slices.ContainsFunc(c.out, func(o *outgoing) bool { return o.p.PacketID == c.lastID })
		if c.lastID != 0 && !asked && !used {
			return c.lastID
		}
	}
}

// publish sends a message; done is called when the server has taken it, refused
// when it has not.
func (c *client) publish(topic, payload string, qos byte, retain bool, done, refused func()) {
	o := &outgoing{done: done, refused: refused, p: mqtt.Publish{
		QoS: qos, Retain: retain, PacketID: c.newID(), Topic: []byte(topic), Payload: []byte(payload),
	}}
	c.out = append(c.out, o)
	c.w.write(&o.p)
}

// subscribe asks for a filter, again if need be.
func (c *client) subscribe(filter string) {
	c.h.mu.Lock()
	x := c.subs[filter]
	if x == nil {
		x = &stretch{filter: filter, subSent: c.h.now()}
		c.subs[filter] = x
		c.r.stretches = append(c.r.stretches, x)
	}
	c.h.mu.Unlock()
	id := c.newID()
	c.asked[id] = filter
	c.w.write(&mqtt.Subscribe{PacketID: id, Subscriptions: []mqtt.Subscription{{Filter: filter, QoS: c.r.qos}}})
}

// unsubscribe asks to end a subscription, again if need be.
func (c *client) unsubscribe(filter string) {
	c.h.mu.Lock()
	x := c.subs[filter]
	x.asked++
	if x.unsubSent == 0 {
		x.unsubSent = c.h.now()
	}
	c.h.mu.Unlock()
	id := c.newID()
	c.asked[id] = filter
	c.w.write(&mqtt.Unsubscribe{PacketID: id, Filters: []string{filter}})
}

// idle reports whether nothing of the client waits for an answer.
func (c *client) idle() bool { return len(c.out)+len(c.asked) == 0 }
