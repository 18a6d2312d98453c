package broker

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/quota"
)

// web returns an HTTP client that trusts the server.
func (w *world) web() *http.Client {
	tr := &http.Transport{TLSClientConfig: w.tlsConfig(), DisableKeepAlives: true}
	if w.ln != nil {
		tr.DialTLSContext = func(context.Context, string, string) (net.Conn, error) { return w.dialMemory(w.tlsConfig()) }
	}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// dialWebSocket opens a WebSocket and speaks MQTT on it.
func (w *world) dialWebSocket(path string, v mqtt.Version) *client {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "wss://"+w.addr+path, &websocket.DialOptions{
		HTTPClient: w.web(), Subprotocols: []string{"mqtt"}, HTTPHeader: http.Header{"Origin": {"https://elsewhere.example"}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { ws.CloseNow() })
	if ws.Subprotocol() != "mqtt" {
		w.t.Fatalf("subprotocol %q", ws.Subprotocol())
	}
	c := newClient(w.t, websocket.NetConn(context.Background(), ws, websocket.MessageBinary), v)
	if w.ln != nil {
		c.listen()
	}
	return c
}

func TestWebSocket(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w := start(t, nil)
		for _, path := range []string{"/", "/mqtt"} {
			c := w.dialWebSocket(path, v)
			c.send(hello(v, "ws", nil))
			if ack := expect[*mqtt.Connack](c); ack.Code != 0 {
				t.Fatalf("code %v", ack.Code)
			}
			c.sub("a/#", 2)
			p := w.connect(v, "tcp", nil)
			large := strings.Repeat("x", 100<<10)
			p.publish("a/b", large)
			m := c.receive("a/b", large)
			c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID})
			c.publish("b", large)
			// Packets need not begin where WebSocket messages do [MQTT-6.0.0-2].
			ping := []byte{0xc0, 0}
			c.raw(ping[:1])
			c.raw(ping[1:])
			expect[*mqtt.Pingresp](c)
			w.dir.set(testOrg, "u", func(*user) {})
			w.connect(v, "ws", nil) // takes it over
			if code := c.closed(); v == mqtt.V5 && code != mqtt.SessionTakenOver {
				t.Errorf("code %v", code)
			}
		}
	})
}

func TestWebSocketRefused(t *testing.T) {
	w := start(t, nil)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for name, opts := range map[string]*websocket.DialOptions{
		"no subprotocol":    {},
		"other subprotocol": {Subprotocols: []string{"chat"}},
	} {
		opts.HTTPClient = w.web()
		if ws, res, err := websocket.Dial(ctx, "wss://"+w.addr+"/", opts); err == nil {
			ws.CloseNow()
			t.Errorf("%s: accepted", name)
		} else if res == nil || res.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	// With a client certificate, which browsers send unasked, only our own page may connect.
	cert := w.pki.issue("abc123/u", time.Hour)
	own := w.web()
	own.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{cert}
	ws, res, err := websocket.Dial(ctx, "wss://"+w.addr+"/", &websocket.DialOptions{
		HTTPClient: own, Subprotocols: []string{"mqtt"}, HTTPHeader: http.Header{"Origin": {"https://elsewhere.example"}},
	})
	if err == nil {
		ws.CloseNow()
		t.Error("another page used the certificate")
	} else if res == nil || res.StatusCode != http.StatusForbidden {
		t.Errorf("origin: %v", err)
	}
	// Text messages are not MQTT [MQTT-6.0.0-1].
	ws, _, err = websocket.Dial(ctx, "wss://"+w.addr+"/", &websocket.DialOptions{HTTPClient: w.web(), Subprotocols: []string{"mqtt"}})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	if err := ws.Write(ctx, websocket.MessageText, hello(mqtt.V5, "c", nil).Append(nil, mqtt.V5)); err != nil {
		t.Fatal(err)
	}
	if _, b, err := ws.Read(ctx); err == nil {
		t.Errorf("answered %x", b)
	}
}

func TestHTTPMessaging(t *testing.T) {
	w := start(t, nil)
	add := func(name, password string, f func(*auth.Spec)) {
		w.dir.add(testOrg, name, f)
		u := w.dir.users[string(testOrg)+"/"+name]
		u.password = password
		w.dir.users[name] = u
	}
	add("use-token-auth", "token", func(s *auth.Spec) {
		s.Rewrites = []auth.Rewrite{{Client: "iot-2/evt/", Org: "iot-2/type/t/id/d/evt/"}}
		s.Rules = []auth.Rule{{Action: auth.Publish, Filter: filter("iot-2/type/t/id/d/evt/#")}}
	})
	add("a-abc123-key", "token", func(s *auth.Spec) {
		s.Rules = []auth.Rule{{Action: auth.Publish, Filter: filter("iot-2/type/t/#")}}
		s.OrgLimits = s.OrgLimits.With(quota.ClientPayload, 100)
	})
	app := w.connect(mqtt.V5, "app", nil)
	app.sub("#", 1)
	const device, application = "/api/v0002/device/types/t/devices/d/", "/api/v0002/application/types/t/devices/d/"
	for name, tt := range map[string]struct {
		method, path, host, user, kind, body string
		status                               int
		topic                                string
	}{
		"device":           {"POST", device + "events/e", "abc123.messaging.x", "use-token-auth", "application/json", "{}", 200, "iot-2/type/t/id/d/evt/e/fmt/json"},
		"device by name":   {"POST", device + "events/e", "", "d/abc123/t/d", "text/plain; charset=utf-8", "hi", 200, "iot-2/type/t/id/d/evt/e/fmt/text"},
		"application":      {"POST", application + "commands/c", "", "a-abc123-key", "application/xml", "<a/>", 200, "iot-2/type/t/id/d/cmd/c/fmt/xml"},
		"application evt":  {"POST", application + "events/e", "", "a-abc123-key", "application/octet-stream", "\x00", 200, "iot-2/type/t/id/d/evt/e/fmt/bin"},
		"gateway":          {"POST", device + "events/e", "", "g/abc123/gw/g1", "application/json", "{}", 200, "iot-2/type/t/id/d/evt/e/fmt/json"},
		"no organisation":  {"POST", device + "events/e", "", "use-token-auth", "application/json", "{}", 401, ""},
		"no credentials":   {"POST", device + "events/e", "abc123.messaging.x", "", "application/json", "{}", 401, ""},
		"not a key":        {"POST", application + "events/e", "", "somebody", "application/json", "{}", 401, ""},
		"unknown key":      {"POST", application + "events/e", "", "a-abc123-other", "application/json", "{}", 401, ""},
		"another's host":   {"POST", application + "events/e", "def456.messaging.x", "a-abc123-key", "application/json", "{}", 401, ""},
		"not allowed":      {"POST", "/api/v0002/application/types/other/devices/d/events/e", "", "a-abc123-key", "application/json", "{}", 403, ""},
		"bad name":         {"POST", application + "events/e%2Ff", "", "a-abc123-key", "application/json", "{}", 400, ""},
		"bad content type": {"POST", application + "events/e", "", "a-abc123-key", "image/png", "{}", 400, ""},
		"too large":        {"POST", application + "events/e", "", "a-abc123-key", "application/json", strings.Repeat("x", 101), 413, ""},
		"other path":       {"GET", "/api/v0002/", "", "", "", "", 404, ""},
		"root":             {"GET", "/", "", "", "", "", 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequest(tt.method, "https://"+w.addr+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Host = tt.host
			r.Header.Set("Content-Type", tt.kind)
			if tt.user != "" {
				r.SetBasicAuth(tt.user, "token")
			}
			res, err := w.web().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			if res.StatusCode != tt.status {
				t.Errorf("status %d, want %d: %s", res.StatusCode, tt.status, body)
			}
			if tt.status != 200 {
				if kind := res.Header.Get("Content-Type"); kind != "application/problem+json" || !bytes.Contains(body, []byte(`"status"`)) {
					t.Errorf("no problem: %s %s", kind, body)
				}
				app.ping()
				return
			}
			m := app.receive(tt.topic, tt.body)
			app.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID})
		})
	}
	w.mem.mu.Lock()
	w.mem.refuse = errs.E(errs.Unavailable, "not now")
	w.mem.mu.Unlock()
	r, _ := http.NewRequest("POST", "https://"+w.addr+application+"events/e", strings.NewReader("{}"))
	r.Header.Set("Content-Type", "application/json")
	r.SetBasicAuth("a-abc123-key", "token")
	res, err := w.web().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("not kept: status %d", res.StatusCode)
	}
}

// Large headers are refused, not stored.
func TestHTTPHeaderLimit(t *testing.T) {
	w := start(t, nil)
	r, _ := http.NewRequest("GET", "https://"+w.addr+"/", nil)
	r.Header.Set("X", strings.Repeat("x", 64<<10))
	res, err := w.web().Do(r)
	if err != nil {
		return // closed while we were still sending
	}
	res.Body.Close()
	if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", res.StatusCode)
	}
}
