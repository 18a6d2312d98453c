package clients

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/extensions/rpc"
	"github.com/eclipse/paho.golang/paho/session/state"
)

// A client5 is a client of version 5 with what it receives.
type client5 struct {
	*paho.Client
	t       *testing.T
	connack *paho.Connack
	in      chan *paho.Publish
	ended   chan byte // the reason code of the server's DISCONNECT
}

// dial5 opens a connection over a transport: "tls" or "wss".
func (s *site) dial5(t *testing.T, transport string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if transport == "tls" {
		nc, err := (&tls.Dialer{Config: s.TLS()}).DialContext(ctx, "tcp", s.mqttAddress())
		if err != nil {
			t.Fatal(err)
		}
		return packets.NewThreadSafeConn(nc)
	}
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: s.TLS()}}
	t.Cleanup(h.CloseIdleConnections)
	ws, _, err := websocket.Dial(ctx, "wss://"+s.mqttAddress()+"/mqtt", &websocket.DialOptions{HTTPClient: h, Subprotocols: []string{"mqtt"}})
	if err != nil {
		t.Fatal(err)
	}
	return packets.NewThreadSafeConn(websocket.NetConn(t.Context(), ws, websocket.MessageBinary))
}

// paho5 connects a client. It may change what is sent, and how the client works.
func (s *site) paho5(t *testing.T, transport string, a account, change func(*paho.Connect, *paho.ClientConfig)) *client5 {
	t.Helper()
	c, err := s.try5(t, transport, a, change)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	return c
}

func (s *site) try5(t *testing.T, transport string, a account, change func(*paho.Connect, *paho.ClientConfig)) (*client5, error) {
	t.Helper()
	c := &client5{t: t, in: make(chan *paho.Publish, 10_000), ended: make(chan byte, 10)}
	conf := paho.ClientConfig{
		Conn: s.dial5(t, transport), PacketTimeout: patience,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			c.in <- r.Packet
			return true, nil
		}},
		OnServerDisconnect: func(d *paho.Disconnect) { c.ended <- d.ReasonCode },
	}
	connect := &paho.Connect{
		ClientID: a.Client, CleanStart: true, KeepAlive: 60, Properties: &paho.ConnectProperties{RequestProblemInfo: true},
		UsernameFlag: true, Username: a.User, PasswordFlag: true, Password: []byte(a.Password),
	}
	if change != nil {
		change(connect, &conf)
	}
	c.Client = paho.NewClient(conf)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var err error
	c.connack, err = c.Connect(ctx, connect)
	t.Cleanup(func() { conf.Conn.Close() })
	return c, err
}

func (c *client5) sub(filter string, qos byte) *paho.Suback {
	c.t.Helper()
	return c.subscribe(&paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: qos}}})
}

func (c *client5) subscribe(s *paho.Subscribe) *paho.Suback {
	c.t.Helper()
	ack, err := c.Subscribe(c.t.Context(), s)
	if ack == nil {
		c.t.Fatalf("subscribe: %v", err)
	}
	return ack
}

func (c *client5) pub(p *paho.Publish) byte {
	c.t.Helper()
	ack, err := c.Publish(c.t.Context(), p)
	switch {
	case ack != nil:
		return ack.ReasonCode
	case err != nil:
		c.t.Fatalf("publish: %v", err)
	}
	return 0
}

func (c *client5) send(topic string, qos byte, payload string) byte {
	c.t.Helper()
	return c.pub(&paho.Publish{Topic: topic, QoS: qos, Payload: []byte(payload)})
}

func (c *client5) next() *paho.Publish {
	c.t.Helper()
	select {
	case p := <-c.in:
		return p
	case <-time.After(patience):
		c.t.Fatal("no message arrived")
		return nil
	}
}

func (c *client5) end() byte {
	c.t.Helper()
	select {
	case code := <-c.ended:
		return code
	case <-time.After(patience):
		c.t.Fatal("the server did not say goodbye")
		return 0
	}
}

func brief5(p *paho.Publish) string {
	return fmt.Sprintf("%s|%d|%v|%s", p.Topic, p.QoS, p.Retain, p.Payload)
}

func ptr[T any](v T) *T { return &v }

func TestPaho5(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, transport := range []string{"tls", "wss"} {
		for name, test := range map[string]func(*testing.T, *site, string){
			"messages": paho5Messages, "properties": paho5Properties, "request": paho5Request, "flow": paho5Flow,
			"session": paho5Session, "will": paho5Will, "shared": paho5Shared, "refusals": paho5Refusals, "takeover": paho5Takeover,
		} {
			t.Run(transport+" "+name, func(t *testing.T) {
				t.Parallel()
				test(t, s, transport)
			})
		}
	}
}

func paho5Messages(t *testing.T, s *site, transport string) {
	o := s.org(t, "iot-2")
	device := s.paho5(t, transport, o.sensors(t, "one")[0], nil)
	app := s.paho5(t, transport, o.app(t, "app1"), nil)
	if device.connack.Properties.RetainAvailable {
		t.Error("retained messages of devices are the platform's own, but the server offers them")
	}
	app.sub("iot-2/type/+/id/+/evt/+/fmt/+", 2)
	device.sub("iot-2/cmd/+/fmt/+", 2)
	for qos := range byte(3) {
		device.send("iot-2/evt/e/fmt/json", qos, "event")
		same(t, "received", brief5(app.next()), fmt.Sprintf("iot-2/type/sensor/id/one/evt/e/fmt/json|%d|false|event", qos))
		app.send("iot-2/type/sensor/id/one/cmd/c/fmt/json", qos, "command")
		same(t, "received", brief5(device.next()), fmt.Sprintf("iot-2/cmd/c/fmt/json|%d|false|command", qos))
	}
	if code := app.send("iot-2/type/sensor/id/none/cmd/c/fmt/json", 1, ""); code != 0 && code != 0x10 {
		t.Errorf("a message that nobody receives: reason %#x", code)
	}
	same(t, "another's topic", device.send("iot-2/type/sensor/id/two/evt/e/fmt/json", 1, ""), 0x87)
	same(t, "another's topic", device.send("iot-2/type/sensor/id/two/evt/e/fmt/json", 2, ""), 0x87)
	device.send("iot-2/evt/e/fmt/json", 1, "still here")
	same(t, "received", brief5(app.next()), "iot-2/type/sensor/id/one/evt/e/fmt/json|1|false|still here")
}

func paho5Properties(t *testing.T, s *site, transport string) {
	o := s.org(t, "plain")
	a := o.user(t, "alice")
	c := s.paho5(t, transport, a, nil)
	if c.connack.Properties.AssignedClientID == "" {
		t.Error("a client without an identifier is not given one")
	}
	c.subscribe(&paho.Subscribe{
		Properties:    &paho.SubscribeProperties{SubscriptionIdentifier: ptr(9)},
		Subscriptions: []paho.SubscribeOptions{{Topic: "p/#", QoS: 2, RetainAsPublished: true}, {Topic: "other", QoS: 1, NoLocal: true}},
	})
	c.send("other", 1, "not to me")
	c.pub(&paho.Publish{Topic: "p/x", QoS: 2, Retain: true, Payload: []byte("hello"), Properties: &paho.PublishProperties{
		CorrelationData: []byte{0, 1}, ContentType: "text/plain", ResponseTopic: "answer", PayloadFormat: ptr(byte(1)), MessageExpiry: ptr(uint32(500)),
		User: paho.UserProperties{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}},
	}})
	p := c.next()
	q := p.Properties
	same(t, "message", brief5(p), "p/x|2|true|hello")
	same(t, "properties", fmt.Sprint(q.CorrelationData, q.ContentType, q.ResponseTopic, *q.PayloadFormat, *q.SubscriptionIdentifier, q.User),
		fmt.Sprint([]byte{0, 1}, "text/plain", "answer", 1, 9, paho.UserProperties{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}}))
	if *q.MessageExpiry > 500 || *q.MessageExpiry < 400 {
		t.Errorf("message expiry %d", *q.MessageExpiry)
	}
	// Topic aliases from the client.
	c.pub(&paho.Publish{Topic: "p/long", QoS: 1, Payload: []byte("1"), Properties: &paho.PublishProperties{TopicAlias: ptr(uint16(3))}})
	c.pub(&paho.Publish{QoS: 1, Payload: []byte("2"), Properties: &paho.PublishProperties{TopicAlias: ptr(uint16(3))}})
	same(t, "named", brief5(c.next()), "p/long|1|false|1")
	same(t, "aliased", brief5(c.next()), "p/long|1|false|2")
	large := bytes.Repeat([]byte("x"), 200_000)
	c.pub(&paho.Publish{Topic: "p/large", QoS: 1, Payload: large})
	if !bytes.Equal(c.next().Payload, large) {
		t.Error("a large message arrived changed")
	}
}

// paho5Request uses the library's own request/response, over topics of its own.
func paho5Request(t *testing.T, s *site, transport string) {
	o := s.org(t, "plain")
	asker, server := o.user(t, "asker"), o.user(t, "server")
	asker.Client = "asker"
	ask := s.paho5(t, transport, asker, nil)
	serve := s.paho5(t, transport, server, nil)
	serve.sub("add", 1)
	h, err := rpc.NewHandler(t.Context(), ask.Client)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		for range 3 {
			p, ok := <-serve.in
			if !ok {
				return
			}
			n, _ := strconv.Atoi(string(p.Payload))
			_, _ = serve.Publish(t.Context(), &paho.Publish{Topic: p.Properties.ResponseTopic, QoS: 1, Payload: []byte(strconv.Itoa(n + 1)),
				Properties: &paho.PublishProperties{CorrelationData: p.Properties.CorrelationData}})
		}
	}()
	for i := range 3 {
		p, err := h.Request(t.Context(), &paho.Publish{Topic: "add", QoS: 1, Payload: []byte(strconv.Itoa(i))})
		if err != nil {
			t.Fatal(err)
		}
		same(t, "answer", string(p.Payload), i+1)
	}
	<-answered
}

// paho5Flow holds acknowledgements back: the server sends no more than the
// client's receive maximum at one time, and QoS 0 passes by.
func paho5Flow(t *testing.T, s *site, transport string) {
	o := s.org(t, "plain")
	a := o.user(t, "alice")
	slow := s.paho5(t, transport, a, func(c *paho.Connect, conf *paho.ClientConfig) {
		c.Properties.ReceiveMaximum = ptr(uint16(2))
		conf.EnableManualAcknowledgment = true
		conf.SendAcksInterval = 10 * time.Millisecond
	})
	slow.sub("flow/#", 1)
	pub := s.paho5(t, transport, a, nil)
	for i := range 5 {
		pub.send("flow/1", 1, strconv.Itoa(i))
	}
	one, two := slow.next(), slow.next()
	pub.send("flow/0", 0, "by")
	same(t, "first", string(one.Payload)+string(two.Payload), "01")
	same(t, "while two are not acknowledged", brief5(slow.next()), "flow/0|0|false|by")
	if err := slow.Ack(one); err != nil {
		t.Fatal(err)
	}
	same(t, "after one acknowledgement", string(slow.next().Payload), "2")
	if err := slow.Ack(two); err != nil {
		t.Fatal(err)
	}
	same(t, "after two acknowledgements", string(slow.next().Payload), "3")
}

func paho5Session(t *testing.T, s *site, transport string) {
	o := s.org(t, "iot-2")
	device := s.paho5(t, transport, o.sensors(t, "one")[0], nil)
	app := o.app(t, "app1")
	session := state.NewInMemory()
	keep := func(c *paho.Connect, conf *paho.ClientConfig) {
		c.CleanStart = false
		c.Properties.SessionExpiryInterval = ptr(uint32(600))
		conf.Session = session
	}
	first := s.paho5(t, transport, app, keep)
	first.sub("iot-2/type/+/id/+/evt/+/fmt/+", 1)
	if err := first.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		device.send("iot-2/evt/e/fmt/text", 1, strconv.Itoa(i))
	}
	second := s.paho5(t, transport, app, keep)
	same(t, "session present", second.connack.SessionPresent, true)
	for i := range 10 {
		same(t, "kept", string(second.next().Payload), i)
	}
	// The client ends its session by an expiry of nought at the end. If it is
	// back before the server has read that, the session goes on: then once more.
	eventually(t, func() error {
		if err := second.Disconnect(&paho.Disconnect{Properties: &paho.DisconnectProperties{SessionExpiryInterval: ptr(uint32(0))}}); err != nil {
			t.Fatal(err)
		}
		session = state.NewInMemory()
		if second = s.paho5(t, transport, app, keep); second.connack.SessionPresent {
			return errors.New("the session is present after its end")
		}
		return nil
	})
}

func paho5Will(t *testing.T, s *site, transport string) {
	o := s.org(t, "plain")
	a := o.user(t, "alice")
	watch := s.paho5(t, transport, a, nil)
	watch.sub("will/#", 1)
	with := func(topic string) func(*paho.Connect, *paho.ClientConfig) {
		return func(c *paho.Connect, conf *paho.ClientConfig) {
			c.WillMessage = &paho.WillMessage{Topic: topic, QoS: 1, Payload: []byte("gone")}
			c.WillProperties = &paho.WillProperties{User: paho.UserProperties{{Key: "k", Value: "v"}}}
			conf.OnClientError = func(error) {}
		}
	}
	polite := s.paho5(t, transport, a, with("will/polite"))
	if err := polite.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}
	s.paho5(t, transport, a, with("will/cut")).TerminateConnectionForTest()
	p := watch.next()
	same(t, "will", brief5(p)+"|"+p.Properties.User.Get("k"), "will/cut|1|false|gone|v")
	asked := s.paho5(t, transport, a, with("will/asked"))
	if err := asked.Disconnect(&paho.Disconnect{ReasonCode: 4}); err != nil {
		t.Fatal(err)
	}
	same(t, "will", brief5(watch.next()), "will/asked|1|false|gone")
}

func paho5Shared(t *testing.T, s *site, transport string) {
	o := s.org(t, "plain")
	a := o.user(t, "alice")
	pub := s.paho5(t, transport, a, nil)
	members := []*client5{s.paho5(t, transport, a, nil), s.paho5(t, transport, a, nil)}
	for _, m := range members {
		m.sub("$share/g/job/#", 1)
		m.sub("done", 1)
	}
	const n = 30
	for i := range n {
		same(t, "publish", pub.send("job/x", 1, strconv.Itoa(i)), 0)
	}
	pub.send("done", 1, "")
	seen := map[string]int{}
	for i, m := range members {
		own := 0
		for p := m.next(); p.Topic != "done"; p = m.next() {
			seen[string(p.Payload)]++
			own++
		}
		if own == 0 || own == n {
			t.Errorf("member %d received %d of %d", i, own, n)
		}
	}
	for i := range n {
		same(t, fmt.Sprintf("receivers of %d", i), seen[strconv.Itoa(i)], 1)
	}
}

func paho5Refusals(t *testing.T, s *site, transport string) {
	o := s.org(t, "iot-2")
	device := o.sensors(t, "one")[0]
	wrong := device
	wrong.Password = "wrong"
	c, err := s.try5(t, transport, wrong, nil)
	if err == nil || c.connack == nil || c.connack.ReasonCode != 0x86 || c.connack.Properties.ReasonString == "" {
		t.Errorf("wrong token: %+v, %v, want reason 0x86 and a reason string", c.connack, err)
	}
	one := s.paho5(t, transport, device, nil)
	ack := one.subscribe(&paho.Subscribe{Subscriptions: []paho.SubscribeOptions{
		{Topic: "iot-2/cmd/+/fmt/+", QoS: 1}, {Topic: "#", QoS: 1}, {Topic: "iot-2/type/+/id/+/cmd/+/fmt/+", QoS: 1},
	}})
	same(t, "reasons", ack.Reasons, []byte{1, 0x87, 0x87})
	// What breaks the protocol ends the connection, with a reason.
	o2 := s.org(t, "plain")
	breaker := s.paho5(t, transport, o2.user(t, "alice"), nil)
	_, _ = breaker.Publish(t.Context(), &paho.Publish{Topic: "a/+/b", Payload: []byte("x")})
	same(t, "goodbye to a wildcard in a topic name", breaker.end(), 0x81) // malformed [MQTT-3.3.2-2]
}

func paho5Takeover(t *testing.T, s *site, transport string) {
	o := s.org(t, "iot-2")
	device := o.sensors(t, "one")[0]
	first := s.paho5(t, transport, device, nil)
	second := s.paho5(t, transport, device, nil)
	same(t, "goodbye", first.end(), 0x8E)
	second.send("iot-2/evt/e/fmt/text", 1, "here")
}

// A server that is stopped tells its clients so.
func TestShutdownSaysGoodbye(t *testing.T) {
	t.Parallel()
	s := start(t)
	o := s.org(t, "iot-2")
	tcp := s.paho5(t, "tls", o.sensors(t, "one")[0], nil)
	ws := s.paho5(t, "wss", o.app(t, "app1"), nil)
	s.Stop()
	for name, c := range map[string]*client5{"tls": tcp, "wss": ws} {
		same(t, "goodbye over "+name, c.end(), 0x8B)
	}
}
