package floor

import (
	"crypto/tls"
	"errors"
	"runtime"
	"sync"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// A read buffer begins small, for the connections that are idle, and grows to
// a TLS record and a bit for those that fill it.
const (
	firstRead = 512
	fullRead  = 17 << 10
)

// maxBatch is how many records are handled without a flush.
const maxBatch = 64

// A conn is one connection. Its reader goroutine owns the fields above mu; qos
// is written by it before others see the connection in a match.
type conn struct {
	nc      *tls.Conn
	raw     *records
	relay   *Relay
	filters []string
	qos     byte
	pub     mqtt.Publish

	topic   string  // the topic of the last PUBLISH
	to      []*conn // who gets it
	matched uint64  // the generation that to was made in
	touched []*conn // who has something unsent since the last flush

	mu      sync.Mutex // guards the fields below
	out     []byte
	spare   []byte
	id      uint16
	writing bool
}

var errEnd = errors.New("the client ended the connection")

// read handles what arrives until the connection ends, and flushes everyone it
// has written for when no more has arrived. Before that it lets the other
// readers run that have something to do: what they have for the same receivers
// goes in the same write. Nobody waits for a timer.
func (c *conn) read() {
	buf, have := make([]byte, firstRead), 0
	batch := 0 // records handled since the last flush
	for {
		n, err := c.nc.Read(buf[have:])
		if err != nil {
			return
		}
		have += n
		used, err := c.handleAll(buf[:have])
		if batch++; err != nil || batch == maxBatch || !c.raw.more() {
			batch = 0
			c.flushTouched()
		}
		if err != nil {
			return
		}
		full := have == len(buf)
		have = copy(buf, buf[used:have])
		if have == len(buf) || full && len(buf) < fullRead {
			buf = append(buf, make([]byte, len(buf))...)
		}
	}
}

func (c *conn) flushTouched() {
	if len(c.touched) == 0 {
		return
	}
	runtime.Gosched()
	for _, t := range c.touched {
		t.flush()
	}
	clear(c.touched)
	c.touched = c.touched[:0]
}

// handleAll handles the whole packets in buf and returns their length.
func (c *conn) handleAll(buf []byte) (used int, err error) {
	for {
		h, body, n, err := mqtt.Frame(buf[used:], maxPacket)
		if err != nil || n == 0 {
			return used, err
		}
		if err := c.handle(h, body, buf[used:used+n]); err != nil {
			return used, err
		}
		used += n
	}
}

func (c *conn) handle(h mqtt.Header, body, packet []byte) error {
	switch h.Type {
	case mqtt.PUBLISH:
		return c.publish(h, body, packet)
	case mqtt.CONNECT:
		c.reply(&mqtt.Connack{})
	case mqtt.SUBSCRIBE:
		p, err := mqtt.DecodeSubscribe(body, version)
		if err != nil {
			return err
		}
		codes := make([]mqtt.ReasonCode, len(p.Subscriptions))
		for i, s := range p.Subscriptions {
			codes[i] = mqtt.ReasonCode(min(s.QoS, 1))
			c.filters = append(c.filters, s.Filter)
			c.relay.add(s.Filter, min(s.QoS, 1), c)
		}
		c.reply(&mqtt.Suback{PacketID: p.PacketID, Codes: codes})
	case mqtt.PINGREQ:
		c.reply(&mqtt.Pingresp{})
	case mqtt.DISCONNECT:
		return errEnd
	}
	return nil
}

// publish appends the message to the outbound buffer of every receiver.
func (c *conn) publish(h mqtt.Header, body, packet []byte) error {
	if err := c.pub.Decode(h.Flags, body, version); err != nil {
		return err
	}
	if g := c.relay.generation.Load(); c.matched != g || c.topic != string(c.pub.Topic) {
		c.topic = string(c.pub.Topic)
		c.to, c.matched = c.relay.match(c.topic), g
	}
	for _, t := range c.to {
		if t.append(&c.pub, packetQoS(h.Flags), packet) {
			c.touched = append(c.touched, t)
		}
	}
	if c.pub.QoS == 1 {
		c.reply(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: c.pub.PacketID})
	}
	return nil
}

// append adds a message to the outbound buffer. It reports whether the buffer
// was empty: then the caller must flush it.
func (c *conn) append(p *mqtt.Publish, qos byte, packet []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := len(c.out) == 0
	if qos > c.qos {
		s := mqtt.Shared{Topic: string(p.Topic), Payload: p.Payload}
		c.out = mqtt.AppendPublish(c.out, version, &s, &mqtt.Delivery{QoS: c.qos})
		return first
	}
	at := len(c.out)
	c.out = append(c.out, packet...)
	if qos > 0 {
		if c.id++; c.id == 0 {
			c.id = 1
		}
		mqtt.SetPacketID(c.out[at:], c.id)
	}
	return first
}

// reply adds an answer for the connection itself.
func (c *conn) reply(p mqtt.Packet) {
	c.mu.Lock()
	first := len(c.out) == 0
	c.out = p.Append(c.out, version)
	c.mu.Unlock()
	if first {
		c.touched = append(c.touched, c)
	}
}

// flush writes what waits. If someone is already writing, that one also writes
// what was added meanwhile, so nobody waits for a slow receiver twice.
func (c *conn) flush() {
	c.mu.Lock()
	if c.writing {
		c.mu.Unlock()
		return
	}
	c.writing = true
	for len(c.out) > 0 {
		b := c.out
		c.out = c.spare[:0]
		c.mu.Unlock()
		_, err := c.nc.Write(b) // an error ends the reader too, which cleans up
		c.mu.Lock()
		c.spare = b
		if err != nil {
			c.out = nil
			break
		}
	}
	c.writing = false
	c.mu.Unlock()
}
