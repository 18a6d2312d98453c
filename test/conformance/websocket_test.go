package conformance

import (
	"bytes"
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// The server selects the subprotocol mqtt [MQTT-6.0.0-4], and takes nobody who
// does not offer it [MQTT-6.0.0-3].
func TestSubprotocol(t *testing.T) {
	both(t, func(t *trial) {
		for _, offered := range [][]string{{"mqtt"}, {"other", "mqtt"}, {"mqtt", "other"}} {
			ws, _, err := t.dialWebSocket(offered...)
			if err != nil {
				t.Fatalf("%v: %v", offered, err)
			}
			if ws.Subprotocol() != "mqtt" {
				t.Errorf("%v: selected %q", offered, ws.Subprotocol())
			}
			c := t.speak(websocket.NetConn(context.Background(), ws, websocket.MessageBinary), func() { ws.CloseNow() })
			c.send(t.hello())
			expect[*mqtt.Connack](c)
			c.leave()
		}
		for _, offered := range [][]string{nil, {"other"}, {"MQTT5"}} {
			ws, res, err := t.dialWebSocket(offered...)
			if err == nil {
				ws.CloseNow()
				t.Errorf("%v: taken", offered)
			} else if res == nil || res.StatusCode != http.StatusBadRequest {
				t.Errorf("%v: %v", offered, err)
			}
		}
	})
}

// A message that is not binary ends the connection [MQTT-6.0.0-1], before CONNECT
// and after it, whatever it says; and the server sends binary messages only.
func TestTextMessage(t *testing.T) {
	both(t, func(t *trial) {
		witness := t.connect()
		witness.subscribe(0, t.topic("#"))
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for _, after := range []bool{false, true} {
			ws, _, err := t.dialWebSocket("mqtt")
			if err != nil {
				t.Fatal(err)
			}
			if after {
				if err := ws.Write(ctx, websocket.MessageBinary, t.hello().Append(nil, t.version)); err != nil {
					t.Fatal(err)
				}
				if kind, _, err := ws.Read(ctx); err != nil || kind != websocket.MessageBinary {
					t.Fatalf("CONNACK: %v %v", kind, err)
				}
				_ = ws.Write(ctx, websocket.MessageText, packet(0x30, text(t.topic("a")), t.props(), "text"))
			} else {
				_ = ws.Write(ctx, websocket.MessageText, t.hello().Append(nil, t.version))
			}
			if _, b, err := ws.Read(ctx); err == nil && !isDisconnect(b) {
				t.Errorf("after CONNECT: %v: answered % x", after, b)
			} else if err == nil {
				if _, b, err := ws.Read(ctx); err == nil {
					t.Errorf("after CONNECT: %v: answered % x", after, b)
				}
			}
			if ctx.Err() != nil {
				t.Error("the connection was not ended")
			}
			ws.CloseNow()
		}
		witness.nothing()
	})
}

func isDisconnect(b []byte) bool { return len(b) > 0 && b[0] == 0xE0 }

// Packets may begin and end anywhere in messages, and messages in frames
// [MQTT-6.0.0-2].
func TestMessagesAndPackets(t *testing.T) {
	both(t, func(t *trial) {
		ws, _, err := t.dialWebSocket("mqtt")
		if err != nil {
			t.Fatal(err)
		}
		c := t.speak(websocket.NetConn(context.Background(), ws, websocket.MessageBinary), func() { ws.CloseNow() })
		var all []byte
		all = t.hello().Append(all, t.version)
		all = (&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: t.topic("a")}}}).Append(all, t.version)
		large := string(bytes.Repeat([]byte("0123456789"), 10_000))
		for _, payload := range []string{"1", large, "3"} {
			all = message(t.topic("a"), payload, 0).Append(all, t.version)
		}
		all = (&mqtt.Pingreq{}).Append(all, t.version)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		// One message of several frames, then an empty one, then others that end
		// within packets.
		w, err := ws.Writer(ctx, websocket.MessageBinary)
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range []int{1, 5, 4096, 5000, 3} {
			part := all[:n]
			all = all[n:]
			if _, err := w.Write(part); err != nil {
				t.Fatal(i, err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		for i, n := range []int{0, 7, 50_000, 0, len(all) - 50_007 - 1, 1} {
			part := all[:n]
			all = all[n:]
			if err := ws.Write(ctx, websocket.MessageBinary, part); err != nil {
				t.Fatal(i, err)
			}
		}
		expect[*mqtt.Connack](c)
		expect[*mqtt.Suback](c)
		for _, payload := range []string{"1", large, "3"} {
			c.takes(t.topic("a"), payload)
		}
		expect[*mqtt.Pingresp](c)
	})
}

// A WebSocket ping is answered, and is not MQTT.
func TestWebSocketPing(t *testing.T) {
	both(t, func(t *trial) {
		ws, _, err := t.dialWebSocket("mqtt")
		if err != nil {
			t.Fatal(err)
		}
		c := t.speak(websocket.NetConn(context.Background(), ws, websocket.MessageBinary), func() { ws.CloseNow() })
		c.send(t.hello())
		expect[*mqtt.Connack](c)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		done := make(chan mqtt.Packet)
		go func() { // a pong is seen by who reads
			_ = c.nc.SetReadDeadline(time.Now().Add(patience))
			p, _ := c.r.Packet(t.version)
			done <- p
		}()
		if err := ws.Ping(ctx); err != nil {
			t.Error(err)
		}
		c.send(&mqtt.Pingreq{})
		t.flush()
		if p, ok := (<-done).(*mqtt.Pingresp); !ok {
			t.Errorf("got %s", describe(p))
		}
	})
}
