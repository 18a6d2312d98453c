package clients

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// An inbox receives what a client of Eclipse Paho is sent.
type inbox chan mqtt.Message

func (in inbox) next(t *testing.T) mqtt.Message {
	t.Helper()
	select {
	case m := <-in:
		return m
	case <-time.After(patience):
		t.Fatal("no message arrived")
		return nil
	}
}

func brief(m mqtt.Message) string {
	return fmt.Sprintf("%s|%d|%v|%s", m.Topic(), m.Qos(), m.Retained(), m.Payload())
}

// scheme is how Paho names a transport.
func (s *site) brokerURL(scheme string) string {
	return fmt.Sprintf("%s://localhost:%d", scheme, s.MQTTPort)
}

func (s *site) pahoOptions(scheme string, a account) *mqtt.ClientOptions {
	return mqtt.NewClientOptions().AddBroker(s.brokerURL(scheme)).SetTLSConfig(s.TLS()).SetClientID(a.Client).
		SetUsername(a.User).SetPassword(a.Password).SetAutoReconnect(false).SetConnectTimeout(patience).SetProtocolVersion(4)
}

// paho311 connects a client whose messages arrive in an inbox.
func (s *site) paho311(t *testing.T, o *mqtt.ClientOptions) (mqtt.Client, inbox) {
	t.Helper()
	in := make(inbox, 10_000)
	o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { in <- m })
	c := mqtt.NewClient(o)
	done(t, "connect", c.Connect())
	t.Cleanup(func() { c.Disconnect(0) })
	return c, in
}

func done(t *testing.T, what string, token mqtt.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) {
		t.Fatalf("%s: no answer in %v", what, patience)
	}
	if err := token.Error(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func TestPaho311(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, scheme := range []string{"ssl", "wss"} {
		for name, test := range map[string]func(*testing.T, *site, string){
			"messages": pahoMessages, "commands": pahoCommands, "retained": pahoRetained, "will": pahoWill,
			"session": pahoSession, "shared": pahoShared, "refusals": pahoRefusals,
		} {
			t.Run(scheme+" "+name, func(t *testing.T) {
				t.Parallel()
				test(t, s, scheme)
			})
		}
	}
	t.Run("server name", func(t *testing.T) { t.Parallel(); pahoServerName(t, s) })
}

func pahoMessages(t *testing.T, s *site, scheme string) {
	o := s.org(t, "iot-2")
	device, _ := s.paho311(t, s.pahoOptions(scheme, o.sensors(t, "one")[0]))
	app, in := s.paho311(t, s.pahoOptions(scheme, o.app(t, "app1")))
	done(t, "subscribe", app.Subscribe("iot-2/type/+/id/+/evt/+/fmt/+", 2, nil))
	for qos := range byte(3) {
		done(t, "publish", device.Publish("iot-2/evt/status/fmt/json", qos, false, strconv.Itoa(int(qos))))
		same(t, "received", brief(in.next(t)), fmt.Sprintf("iot-2/type/sensor/id/one/evt/status/fmt/json|%d|false|%d", qos, qos))
	}
	const n = 200 // at one time
	var tokens []mqtt.Token
	for i := range n {
		tokens = append(tokens, device.Publish("iot-2/evt/many/fmt/text", 1, false, strconv.Itoa(i)))
	}
	for i, token := range tokens {
		done(t, "publish", token)
		same(t, "received", string(in.next(t).Payload()), i)
	}
}

func pahoCommands(t *testing.T, s *site, scheme string) {
	o := s.org(t, "iot-2")
	devices := o.sensors(t, "one", "two")
	one, inOne := s.paho311(t, s.pahoOptions(scheme, devices[0]))
	two, inTwo := s.paho311(t, s.pahoOptions(scheme, devices[1]))
	app, _ := s.paho311(t, s.pahoOptions(scheme, o.app(t, "app1")))
	done(t, "subscribe", one.Subscribe("iot-2/cmd/+/fmt/+", 1, nil))
	done(t, "subscribe", two.Subscribe("iot-2/cmd/+/fmt/+", 1, nil))
	done(t, "publish", app.Publish("iot-2/type/sensor/id/two/cmd/blink/fmt/json", 1, false, "2"))
	done(t, "publish", app.Publish("iot-2/type/sensor/id/one/cmd/blink/fmt/json", 1, false, "1"))
	same(t, "one received", brief(inOne.next(t)), "iot-2/cmd/blink/fmt/json|1|false|1")
	same(t, "two received", brief(inTwo.next(t)), "iot-2/cmd/blink/fmt/json|1|false|2")
	const others = "iot-2/type/sensor/id/two/cmd/+/fmt/+"
	token := one.Subscribe(others, 1, nil)
	done(t, "subscribe", token)
	same(t, "subscription to another's commands", token.(*mqtt.SubscribeToken).Result()[others], 0x80)
}

func pahoRetained(t *testing.T, s *site, scheme string) {
	o := s.org(t, "plain")
	a := o.user(t, "alice")
	c, in := s.paho311(t, s.pahoOptions(scheme, a))
	done(t, "publish", c.Publish("r/a", 1, true, "kept"))
	done(t, "publish", c.Publish("r/b", 1, true, "cleared"))
	done(t, "publish", c.Publish("r/b", 1, true, ""))
	done(t, "subscribe", c.Subscribe("r/#", 1, nil))
	same(t, "received", brief(in.next(t)), "r/a|1|true|kept")
	done(t, "publish", c.Publish("r/b", 1, false, "live"))
	same(t, "received", brief(in.next(t)), "r/b|1|false|live")
}

func pahoWill(t *testing.T, s *site, scheme string) {
	o := s.org(t, "plain")
	a := o.user(t, "alice")
	watch, in := s.paho311(t, s.pahoOptions(scheme, a))
	done(t, "subscribe", watch.Subscribe("will/+", 2, nil))
	for _, name := range []string{"polite", "cut"} {
		options := s.pahoOptions(scheme, a).SetWill("will/"+name, "gone", 1, false).SetKeepAlive(time.Second).SetClientID("client-" + name)
		if name == "polite" {
			c, _ := s.paho311(t, options)
			c.Disconnect(100)
			continue
		}
		s.paho311(t, options)
		// The same client id again: the first connection ends, and its will is due.
		s.paho311(t, s.pahoOptions(scheme, a).SetClientID("client-"+name))
	}
	same(t, "received", brief(in.next(t)), "will/cut|1|false|gone")
}

func pahoSession(t *testing.T, s *site, scheme string) {
	o := s.org(t, "iot-2")
	device, _ := s.paho311(t, s.pahoOptions(scheme, o.sensors(t, "one")[0]))
	app := o.app(t, "app1")
	keep := func() *mqtt.ClientOptions { return s.pahoOptions(scheme, app).SetCleanSession(false) }
	first, _ := s.paho311(t, keep())
	done(t, "subscribe", first.Subscribe("iot-2/type/+/id/+/evt/+/fmt/+", 2, nil))
	first.Disconnect(100)
	for i := range 20 {
		done(t, "publish", device.Publish("iot-2/evt/e/fmt/text", byte(1+i%2), false, strconv.Itoa(i)))
	}
	_, in := s.paho311(t, keep())
	got := map[byte][]string{}
	for range 20 {
		m := in.next(t)
		got[m.Qos()] = append(got[m.Qos()], string(m.Payload()))
	}
	for qos, all := range got {
		for i, payload := range all {
			same(t, fmt.Sprintf("message %d of QoS %d", i, qos), payload, 2*i+int(qos)-1)
		}
	}
}

func pahoShared(t *testing.T, s *site, scheme string) {
	o := s.org(t, "plain")
	a := o.user(t, "alice")
	pub, _ := s.paho311(t, s.pahoOptions(scheme, a))
	var members []inbox
	for range 3 {
		c, in := s.paho311(t, s.pahoOptions(scheme, a))
		done(t, "subscribe", c.Subscribe("$share/g/job", 1, nil))
		done(t, "subscribe", c.Subscribe("done", 1, nil))
		members = append(members, in)
	}
	const n = 60
	for i := range n {
		done(t, "publish", pub.Publish("job", 1, false, strconv.Itoa(i)))
	}
	done(t, "publish", pub.Publish("done", 1, false, ""))
	seen := map[string]bool{}
	total := 0
	for i, in := range members {
		own := 0
		for m := in.next(t); m.Topic() != "done"; m = in.next(t) {
			seen[string(m.Payload())] = true
			own++
		}
		if own == 0 {
			t.Errorf("member %d received nothing", i)
		}
		total += own
	}
	if len(seen) != n || total != n {
		t.Errorf("%d messages arrived, %d different ones, want %d", total, len(seen), n)
	}
}

func pahoRefusals(t *testing.T, s *site, scheme string) {
	o := s.org(t, "iot-2")
	device := o.sensors(t, "one")[0]
	device.Password = "wrong"
	token := mqtt.NewClient(s.pahoOptions(scheme, device)).Connect()
	if !token.WaitTimeout(patience) || !errors.Is(token.Error(), packets.ErrorRefusedNotAuthorised) {
		t.Errorf("wrong token: %v, want %v", token.Error(), packets.ErrorRefusedNotAuthorised)
	}
	if code := token.(*mqtt.ConnectToken).ReturnCode(); code != 5 {
		t.Errorf("return code %d, want 5", code)
	}
	untrusting := s.pahoOptions(scheme, device).SetTLSConfig(&tls.Config{ServerName: "localhost", MinVersion: tls.VersionTLS12})
	if token := mqtt.NewClient(untrusting).Connect(); !token.WaitTimeout(patience) || token.Error() == nil {
		t.Error("a client that does not trust the authority is connected")
	}
}

// A server name that names an organisation must name that of the client (trap 1).
func pahoServerName(t *testing.T, s *site) {
	o, other := s.org(t, "iot-2"), s.org(t, "iot-2")
	device := o.sensors(t, "one")[0]
	got := map[string]string{}
	for name, host := range map[string]string{
		"own": o.id + ".messaging.localhost", "other": other.id + ".messaging.localhost", "plain": "localhost",
	} {
		conf := s.TLS()
		conf.ServerName = host
		c := mqtt.NewClient(s.pahoOptions("ssl", device).SetTLSConfig(conf))
		token := c.Connect()
		if !token.WaitTimeout(patience) {
			t.Fatal("no answer")
		}
		got[name] = fmt.Sprint(token.(*mqtt.ConnectToken).ReturnCode())
		c.Disconnect(0)
	}
	if want := map[string]string{"own": "0", "other": "5", "plain": "0"}; !maps.Equal(got, want) {
		t.Errorf("return codes %v, want %v", got, want)
	}
}

// A gateway speaks for the devices attached to it and for no other, from the
// moment on when they are attached and only as long as they are.
func TestGatewayAttachment(t *testing.T) {
	t.Parallel()
	s := start(t)
	o := s.org(t, "iot-2")
	o.sensors(t, "one", "two")
	o.call(t, http.MethodPost, o.path("/types"), map[string]string{"id": "gw", "class": "Gateway"}, nil)
	gateway, in := s.paho311(t, s.pahoOptions("ssl", o.device(t, "gw", "g1", "")))
	app, events := s.paho311(t, s.pahoOptions("ssl", o.app(t, "app1")))
	done(t, "subscribe", app.Subscribe("iot-2/type/+/id/+/evt/+/fmt/+", 1, nil))
	done(t, "subscribe", gateway.Subscribe("iot-2/type/+/id/+/cmd/+/fmt/+", 1, nil))
	attach := func(device, gateway string) {
		t.Helper()
		o.call(t, http.MethodPatch, o.path("/devices/sensor/"+device), map[string]string{"gateway": gateway}, nil)
	}
	// reach returns the devices whose commands the gateway is sent.
	reach := func() (got []string) {
		for _, id := range []string{"sensor/id/one", "sensor/id/two", "gw/id/g1"} {
			done(t, "publish", app.Publish("iot-2/type/"+id+"/cmd/c/fmt/text", 1, false, id))
		}
		for m := in.next(t); string(m.Payload()) != "gw/id/g1"; m = in.next(t) {
			got = append(got, string(m.Payload()))
		}
		return got
	}
	attach("one", "gw:g1")
	eventually(t, func() error {
		if got := reach(); !slices.Equal(got, []string{"sensor/id/one"}) {
			return fmt.Errorf("after attaching one, the gateway receives for %v", got)
		}
		return nil
	})
	done(t, "publish", gateway.Publish("iot-2/type/sensor/id/one/evt/e/fmt/text", 1, false, "one"))
	same(t, "received", brief(events.next(t)), "iot-2/type/sensor/id/one/evt/e/fmt/text|1|false|one")
	attach("one", "")
	attach("two", "gw:g1")
	eventually(t, func() error {
		if got := reach(); !slices.Equal(got, []string{"sensor/id/two"}) {
			return fmt.Errorf("after attaching two instead, the gateway receives for %v", got)
		}
		return nil
	})
	done(t, "publish", gateway.Publish("iot-2/type/sensor/id/two/evt/e/fmt/text", 1, false, "two"))
	same(t, "received", brief(events.next(t)), "iot-2/type/sensor/id/two/evt/e/fmt/text|1|false|two")
}
