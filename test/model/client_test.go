package model

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// A device is a client with what it keeps over its connections.
type device struct {
	id   identity
	conn *conn   // nil: none
	out  []*flow // messages it sent and that are not done
	owed []owed  // acknowledgements it holds back
	hold bool    // it holds them back
	late bool    // it holds PUBREL back
	next uint16
}

// A flow is a QoS 1 or 2 message from a device.
type flow struct {
	m       *message
	p       *mqtt.Publish
	unsure  bool // nobody knows whether the server has it
	receipt bool // PUBREC was received
	freed   bool // PUBREL was sent
}

// owed is an acknowledgement that a device holds back.
type owed struct {
	typ mqtt.Type
	e   *entry
}

// identifier returns a packet identifier that is not in use.
func (d *device) identifier() uint16 {
	for {
		d.next = d.next%maxInflight + 1
		if !slices.ContainsFunc(d.out, func(f *flow) bool { return f.p.PacketID == d.next }) {
			return d.next
		}
	}
}

func (d *device) forget(f *flow) {
	d.out = slices.DeleteFunc(d.out, func(o *flow) bool { return o == f })
}

// An arrival is a packet that a client received.
type arrival struct {
	p  mqtt.Packet
	at time.Time
}

// A conn is one connection of a device.
type conn struct {
	w       *world
	d       *device
	number  int
	version mqtt.Version
	raw     *wire
	nc      *tls.Conn

	mu   sync.Mutex // guards got and err
	got  []arrival
	err  error // why nothing follows
	done chan struct{}

	// Of the model.
	s         *session          // nil: not let in
	reading   bool              // false: half open, nobody is there
	over      bool              // it has ended, or must
	codes     []mqtt.ReasonCode // what DISCONNECT may say then; empty: there must be none
	may       bool              // it may have ended
	cut       bool              // by the client
	said      *mqtt.Disconnect
	expiry    time.Duration
	will      *will
	window    int
	largest   int
	aliasMax  int
	keepAlive time.Duration
	spoke     time.Time         // when the client last sent something
	given     map[uint16]string // aliases of the server
	own       map[uint16]string // aliases of the client
	expected  []expected
	resent    int
}

// expected is an answer that has to come.
type expected struct {
	what string
	typ  mqtt.Type
	id   uint16
	then func(p mqtt.Packet)
}

func (c *conn) String() string { return fmt.Sprintf("connection %d of %v", c.number, c.d.id) }

// dial opens a connection and sends CONNECT.
func (w *world) dial(d *device, p *mqtt.Connect) *conn {
	w.dialed++
	total.connections.Add(1)
	c := &conn{
		w: w, d: d, number: w.dialed, version: p.Version, done: make(chan struct{}),
		reading: true, given: map[uint16]string{}, own: map[uint16]string{}, spoke: time.Now(),
	}
	c.raw = w.ln.dial(w.dialed)
	c.nc = tls.Client(c.raw, w.clientTLS())
	w.conns = append(w.conns, c)
	hello := p.Append(nil, p.Version)
	go c.run(hello)
	return c
}

// run notes what the server sends.
func (c *conn) run(hello []byte) {
	defer close(c.done)
	err := c.nc.HandshakeContext(context.Background())
	if err == nil {
		_, err = c.nc.Write(hello)
	}
	r := mqtt.NewReader(c.nc, mqtt.MaxPacketSize)
	for err == nil {
		var h mqtt.Header
		var body []byte
		if h, body, err = r.Next(); err != nil {
			break
		}
		var p mqtt.Packet
		if p, err = mqtt.Decode(h, body, c.version); err != nil {
			err = fmt.Errorf("the server sent what cannot be decoded: %w", err)
			break
		}
		if q, ok := p.(*mqtt.Publish); ok {
			p = q.Clone()
		}
		c.mu.Lock()
		if limit := c.largest; limit > 0 && h.Size() > limit {
			err = fmt.Errorf("a packet of %d bytes came, Maximum Packet Size is %d [MQTT-3.1.2-24]", h.Size(), limit)
		}
		c.got = append(c.got, arrival{p, time.Now()})
		c.mu.Unlock()
	}
	c.mu.Lock()
	c.err = err
	c.mu.Unlock()
}

// take returns what came since the last time, and why nothing follows.
func (c *conn) take() ([]arrival, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	got := c.got
	c.got = nil
	return got, c.err
}

// send sends packets in one write.
func (c *conn) send(ps ...mqtt.Packet) {
	var b []byte
	total.sent.Add(int64(len(ps)))
	for _, p := range ps {
		b = p.Append(b, c.version)
	}
	c.write(b)
}

func (c *conn) write(b []byte) {
	c.spoke = time.Now()
	if c.d.conn != c {
		return
	}
	// A server that has closed meanwhile is none of the client's mistakes.
	_, _ = c.nc.Write(b)
}

// expect registers an answer. Answers of one kind come in order [MQTT-4.6.0-2].
func (c *conn) expect(what string, typ mqtt.Type, id uint16, then func(p mqtt.Packet)) {
	c.expected = append(c.expected, expected{what, typ, id, then})
}

// answered finds what an answer is to.
func (c *conn) answered(typ mqtt.Type, id uint16, p mqtt.Packet) {
	for i, x := range c.expected {
		if x.typ != typ {
			continue
		}
		if x.id != id {
			c.w.failf("%v: %v %d came, want %d for %s first [MQTT-4.6.0-2]", c, typ, id, x.id, x.what)
		}
		c.expected = slices.Delete(c.expected, i, i+1)
		x.then(p)
		return
	}
	c.w.failf("%v: %v %d answers nothing", c, typ, id)
}

// closedByServer reports whether an error is the end of the connection.
func closedByServer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errReset)
}

// inflight counts the messages that the client has not acknowledged on c.
func (c *conn) inflight() int {
	n := 0
	for _, e := range c.s.queue {
		if e.on == c && e.qos > 0 && e.phase > waiting && e.phase < done {
			n++
		}
	}
	return n
}
