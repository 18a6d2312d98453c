package conformance

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/coder/websocket"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// patience bounds everything that should happen at once.
const patience = 30 * time.Second

// silence is the answer to a CONNECT that is not answered.
const silence mqtt.ReturnCode = 0xFF

// A client speaks MQTT packet by packet. It writes as its trial says, and fails
// its test when something else happens than what is expected.
type client struct {
	t       *trial
	nc      net.Conn
	cut     func() // ends the connection without a word
	r       *mqtt.Reader
	pending []byte // written before the next read
	ack     *mqtt.Connack
	header  mqtt.Header // of the packet that came last
	body    []byte
}

func (t *trial) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(t.site.MQTTPort)) }

// dial opens a connection on which nothing has been said.
func (t *trial) dial() *client {
	t.Helper()
	if t.transport == overWebSocket {
		ws, _, err := t.dialWebSocket("mqtt")
		if err != nil {
			t.Fatal(err)
		}
		return t.speak(websocket.NetConn(context.Background(), ws, websocket.MessageBinary), func() { ws.CloseNow() })
	}
	nc, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", t.address(), t.site.TLS())
	if err != nil {
		t.Fatal(err)
	}
	return t.speak(nc, func() { nc.NetConn().Close() })
}

func (t *trial) speak(nc net.Conn, cut func()) *client {
	t.Cleanup(cut)
	c := &client{t: t, nc: nc, cut: cut, r: mqtt.NewReader(nc, mqtt.MaxPacketSize)}
	t.clients = append(t.clients, c)
	return c
}

// dialWebSocket opens a WebSocket with these subprotocols.
func (t *trial) dialWebSocket(protocols ...string) (*websocket.Conn, *http.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	web := &http.Transport{TLSClientConfig: t.site.TLS()}
	t.Cleanup(web.CloseIdleConnections)
	ws, res, err := websocket.Dial(ctx, "wss://"+t.address()+"/mqtt", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: web}, Subprotocols: protocols,
	})
	if err == nil {
		ws.SetReadLimit(-1)
	}
	return ws, res, err
}

// send writes packets, each as one packet.
func (c *client) send(packets ...mqtt.Packet) {
	c.t.Helper()
	for _, p := range packets {
		c.raw(p.Append(nil, c.t.version))
	}
}

// raw writes bytes: a packet, or what is none.
func (c *client) raw(b []byte) {
	c.t.Helper()
	switch c.t.writing {
	case coalesced:
		c.pending = append(c.pending, b...)
	case split:
		// The rest of a long packet is no news to a reader of pieces.
		const pieces = 300
		for i := range min(len(b), pieces) {
			c.write(b[i : i+1])
		}
		if len(b) > pieces {
			c.write(b[pieces:])
		}
	default:
		c.write(b)
	}
}

// flush writes what clients have kept back.
func (t *trial) flush() {
	t.Helper()
	for _, c := range t.clients {
		if len(c.pending) > 0 {
			c.write(c.pending)
			c.pending = nil
		}
	}
}

// write makes one write. The server may have ended the connection before it has
// read all: what it said before comes with the next read.
func (c *client) write(b []byte) {
	c.t.Helper()
	_ = c.nc.SetWriteDeadline(time.Now().Add(patience))
	if _, err := c.nc.Write(b); errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatal("the server reads nothing")
	}
}

// next returns the next packet, or nil when the connection has ended.
func (c *client) next() mqtt.Packet {
	c.t.Helper()
	c.t.flush()
	deadline := time.Now().Add(patience)
	_ = c.nc.SetReadDeadline(deadline)
	h, body, err := c.r.Next()
	pe := new(mqtt.Error)
	switch {
	case errors.As(err, &pe):
		c.t.Fatalf("the server sent what is no packet: %v", err)
	case err != nil && !time.Now().Before(deadline):
		c.t.Fatal("neither a packet nor the end of the connection")
	case err != nil:
		return nil
	}
	c.header, c.body = h, bytes.Clone(body)
	p, err := mqtt.Decode(c.header, c.body, c.t.version)
	if err != nil {
		c.t.Fatalf("the server sent a bad packet, %v % x: %v", h.Type, body, err)
	}
	return p
}

// expect returns the next packet, which must be a P.
func expect[P mqtt.Packet](c *client) P {
	c.t.Helper()
	got := c.next()
	p, ok := got.(P)
	if !ok {
		c.t.Fatalf("got %s, want %T", describe(got), p)
	}
	return p
}

func describe(p mqtt.Packet) string {
	switch p := p.(type) {
	case nil:
		return "the end of the connection"
	case *mqtt.Publish:
		return fmt.Sprintf("PUBLISH %q %.100q (QoS %d, id %d)", p.Topic, p.Payload, p.QoS, p.PacketID)
	case *mqtt.Ack:
		return fmt.Sprintf("%v of %d: %v", p.Type, p.PacketID, p.Code)
	case *mqtt.Disconnect:
		reason, _ := p.Properties.ReasonString.Get()
		return fmt.Sprintf("DISCONNECT %v (%s)", p.Code, reason)
	case *mqtt.Connack:
		return fmt.Sprintf("CONNACK %#x", byte(p.Code))
	}
	return fmt.Sprintf("%T", p)
}

// closed expects the end of the connection, and no packet before it.
func (c *client) closed() {
	c.t.Helper()
	if p := c.next(); p != nil {
		c.t.Fatalf("got %s, want the end of the connection", describe(p))
	}
}

// ended expects that the server ends the connection because of what the client
// did: in MQTT 5 with a DISCONNECT of this reason, before without a word.
func (c *client) ended(code mqtt.ReasonCode) {
	c.t.Helper()
	if c.t.is5() {
		if p := expect[*mqtt.Disconnect](c); p.Code != code {
			c.t.Fatalf("got %s, want %v", describe(p), code)
		}
	}
	c.closed()
}

// refused expects that CONNECT is refused: in MQTT 5 with code, before with old
// or, if that is silence, without an answer.
func (c *client) refused(code mqtt.ReasonCode, old mqtt.ReturnCode) {
	c.t.Helper()
	want := code
	if !c.t.is5() {
		want = mqtt.ReasonCode(old)
	}
	if c.t.is5() || old != silence {
		p := expect[*mqtt.Connack](c)
		if p.Code != want || p.SessionPresent {
			c.t.Fatalf("got %s (session present: %v), want %#x", describe(p), p.SessionPresent, byte(want))
		}
	}
	c.closed()
}

// received returns the messages that came until now, unacknowledged: all that was
// done before is served before the answer to a ping.
func (c *client) received() (got []*mqtt.Publish) {
	c.t.Helper()
	c.send(&mqtt.Pingreq{})
	for {
		switch p := c.next().(type) {
		case *mqtt.Publish:
			got = append(got, p)
		case *mqtt.Pingresp:
			return got
		default:
			c.t.Fatalf("got %s, want PINGRESP", describe(p))
		}
	}
}

// nothing expects that nothing has come, and that the connection is alive.
func (c *client) nothing() {
	c.t.Helper()
	for _, p := range c.received() {
		c.t.Fatalf("got %s, want nothing", describe(p))
	}
}

// subscribe subscribes to filters with one QoS, which must be granted.
func (c *client) subscribe(qos byte, filters ...string) {
	c.t.Helper()
	p := &mqtt.Subscribe{PacketID: 1}
	for _, f := range filters {
		p.Subscriptions = append(p.Subscriptions, mqtt.Subscription{Filter: f, QoS: qos})
	}
	c.subscribed(p)
}

// subscribed sends SUBSCRIBE, of which everything must be granted.
func (c *client) subscribed(p *mqtt.Subscribe) {
	c.t.Helper()
	c.send(p)
	ack := expect[*mqtt.Suback](c)
	if ack.PacketID != p.PacketID || len(ack.Codes) != len(p.Subscriptions) {
		c.t.Fatalf("SUBACK %d with %d codes, want %d with %d", ack.PacketID, len(ack.Codes), p.PacketID, len(p.Subscriptions))
	}
	for i, s := range p.Subscriptions {
		if byte(ack.Codes[i]) != s.QoS {
			c.t.Fatalf("%q: got %v, want QoS %d", s.Filter, ack.Codes[i], s.QoS)
		}
	}
}

// message returns what a message is made of in most tests.
func message(topic, payload string, qos byte) *mqtt.Publish {
	p := &mqtt.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos}
	if qos > 0 {
		p.PacketID = 7
	}
	return p
}

// publish sends a message and sees its acknowledgement through.
func (c *client) publish(p *mqtt.Publish) {
	c.t.Helper()
	c.send(p)
	switch p.QoS {
	case 1:
		c.acknowledged(mqtt.PUBACK, p.PacketID)
	case 2:
		c.acknowledged(mqtt.PUBREC, p.PacketID)
		c.send(&mqtt.Ack{Type: mqtt.PUBREL, PacketID: p.PacketID})
		c.acknowledged(mqtt.PUBCOMP, p.PacketID)
	}
}

// acknowledged expects an acknowledgement that is no refusal.
func (c *client) acknowledged(t mqtt.Type, id uint16) {
	c.t.Helper()
	if p := expect[*mqtt.Ack](c); p.Type != t || p.PacketID != id || p.Code.IsError() {
		c.t.Fatalf("got %s, want %v of %d", describe(p), t, id)
	}
}

// take expects a message and sees its acknowledgement through.
func (c *client) take() *mqtt.Publish {
	c.t.Helper()
	p := expect[*mqtt.Publish](c)
	switch p.QoS {
	case 1:
		c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: p.PacketID})
	case 2:
		c.send(&mqtt.Ack{Type: mqtt.PUBREC, PacketID: p.PacketID})
		c.acknowledged(mqtt.PUBREL, p.PacketID)
		c.send(&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: p.PacketID})
	}
	return p
}

// takes expects a message with this topic and payload.
func (c *client) takes(topic, payload string) *mqtt.Publish {
	c.t.Helper()
	p := c.take()
	if string(p.Topic) != topic || string(p.Payload) != payload {
		c.t.Fatalf("got %s, want %q %q", describe(p), topic, payload)
	}
	return p
}

// reaches expects that the next message that comes to another client, which is
// subscribed to topic with QoS 1 or 2, is one that c publishes now. What a session
// has kept is sent after CONNACK and may come after the answer to a ping; it
// cannot come after this.
func (c *client) reaches(other *client, topic string) {
	c.t.Helper()
	c.publish(message(topic, "marker", 1))
	other.takes(topic, "marker")
}

// leave says goodbye and waits until the server has taken note.
func (c *client) leave() {
	c.t.Helper()
	c.send(&mqtt.Disconnect{})
	c.closed()
}

// closeWrite says that the client has nothing more to send, where it can.
func (c *client) closeWrite() error {
	c.t.flush()
	if nc, ok := c.nc.(interface{ CloseWrite() error }); ok {
		return nc.CloseWrite()
	}
	return c.nc.Close()
}
