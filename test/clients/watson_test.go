package clients

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"
)

// factsSDK is what the SDKs of the Watson IoT Platform see with this server.
// The trap numbers are those of the compatibility notes.
var factsSDK = map[string]string{
	"server name sent": `false`, // trap 1: the organisation can come from the client id only
	"event 0":          `["deviceEvent","sensor","one","status","json","{\"d\":{\"temperature\":0}}","iot-2/type/sensor/id/one/evt/status/fmt/json"]`,
	"event 1":          `["deviceEvent","sensor","one","status","json","{\"d\":{\"temperature\":1}}","iot-2/type/sensor/id/one/evt/status/fmt/json"]`,
	"event 2":          `["deviceEvent","sensor","one","status","json","{\"d\":{\"temperature\":2}}","iot-2/type/sensor/id/one/evt/status/fmt/json"]`,
	"command 0":        `["command","blink","json","{\"times\":0}","iot-2/cmd/blink/fmt/json"]`,
	"command 1":        `["command","blink","json","{\"times\":1}","iot-2/cmd/blink/fmt/json"]`,
	"command 2":        `["command","blink","json","{\"times\":2}","iot-2/cmd/blink/fmt/json"]`,
	// Trap 10: the format is free text and the payload is anything.
	"any format": `["deviceEvent","sensor","one","é ü","free text %25","not JSON: \u0001 ∞","iot-2/type/sensor/id/one/evt/é ü/fmt/free text %25"]`,
	"failures":   `[]`,

	"gateway granted":           `1`,
	"gateway's event":           `["deviceEvent","gw","g1","own","json","1","iot-2/type/gw/id/g1/evt/own/fmt/json"]`,
	"attached device's event":   `["deviceEvent","sensor","attached","reading","json","2","iot-2/type/sensor/id/attached/evt/reading/fmt/json"]`,
	"attached device's command": `["command","sensor","attached","blink","json","1","iot-2/type/sensor/id/attached/cmd/blink/fmt/json"]`,
	"gateway's command":         `["command","gw","g1","reboot","json","2","iot-2/type/gw/id/g1/cmd/reboot/fmt/json"]`,
	"after forging":             `["deviceEvent","gw","g1","own","json","4","iot-2/type/gw/id/g1/evt/own/fmt/json"]`,

	// Trap 3: two connections of one client id share, and neither is ended.
	"shared": `[[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19],true]`,
	"kicked": `[0,0]`,

	// Trap 2: the SDK takes "not authorised" for a reason to stop.
	"refused": `{"errors":["Error: Connection refused: Not authorized"],"closed":1,"again":0}`,
}

// factsWIoTP and factsIBMIoTF are what is seen by one of the two.
var factsWIoTP = map[string]string{
	"granted": `[1,0,0,1]`, // events, device and application status; a device's commands
}

var factsIBMIoTF = map[string]string{
	"granted":         `[1,0,0,2]`,
	"managed granted": `[1,2]`, // iotdm-1/# and its commands
	"managed":         `[true,0]`,
	"durable":         `["deviceEvent","sensor","slow","kept","json","1","iot-2/type/sensor/id/slow/evt/kept/fmt/json"]`,
	"https":           `["deviceEvent","sensor","posting","posted","json","{\"d\":{\"t\":5}}","iot-2/type/sensor/id/posting/evt/posted/fmt/json"]`,
}

func TestWatsonSDK(t *testing.T) {
	t.Parallel()
	s := start(t)
	for sdk, own := range map[string]map[string]string{"wiotp": factsWIoTP, "ibmiotf": factsIBMIoTF} {
		for _, transport := range []string{"tcp", "websockets"} { // trap 4: the same port
			t.Run(sdk+" "+transport, func(t *testing.T) {
				t.Parallel()
				o := s.org(t, "iot-2")
				o.call(t, http.MethodPost, o.path("/types"), map[string]string{"id": "gw", "class": "Gateway"}, nil)
				params := map[string]any{"sdk": sdk, "transport": transport, "org": o.id, "app": o.app(t, "app1"), "gateway": o.device(t, "gw", "g1", "")}
				names := []string{"device", "pooled", "managed", "slow", "posting"}
				for i, a := range o.sensors(t, "one", "pooled", "managed", "slow", "posting") {
					params[names[i]] = a
				}
				o.device(t, "sensor", "attached", "gw:g1")
				want := maps.Clone(factsSDK)
				maps.Copy(want, own)
				if transport == "websockets" {
					delete(want, "server name sent")
				}
				node(t, s, params, "-r", "./point.cjs", "watson.mjs").check(want)
			})
		}
	}
}

// After a refusal the server closes the connection: the answer alone would leave
// the client waiting (trap 2).
func TestRefusalCloses(t *testing.T) {
	t.Parallel()
	s := start(t)
	for name, connect := range map[string]string{
		"unknown device":      "d:zzzzzz:t:d",
		"malformed client id": "whatever",
		"unknown application": "a:zzzzzz:app1",
		"shared application":  "A:zzzzzz:app1",
	} {
		c, err := tls.Dial("tcp", s.mqttAddress(), s.TLS())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write(connectPacket(connect, "use-token-auth", "a token of nobody")); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(answer, []byte{0x20, 2, 0, 5}) {
			t.Errorf("%s: got % x, %v, want CONNACK with return code 5 and the end", name, answer, err)
		}
	}
}

// connectPacket returns a CONNECT of version 3.1.1.
func connectPacket(client, user, password string) []byte {
	var b bytes.Buffer
	b.WriteString("\x00\x04MQTT\x04\xc2\x00\x3c")
	for _, s := range []string{client, user, password} {
		b.Write([]byte{byte(len(s) >> 8), byte(len(s))})
		b.WriteString(s)
	}
	return append([]byte{0x10, byte(b.Len())}, b.Bytes()...) // short of 128 bytes
}

// A message over HTTPS on the MQTT port reaches an MQTT client, and the one who
// may not send it is told so.
func TestHTTPSMessaging(t *testing.T) {
	t.Parallel()
	s := start(t)
	o := s.org(t, "iot-2")
	device, app := o.sensors(t, "one", "two")[0], o.app(t, "app1")
	watch := s.sub(t, app, "-V", "mqttv311", "-q", "1", "-t", "iot-2/type/+/id/+/evt/+/fmt/+")
	command := s.sub(t, device, "-V", "mqttv311", "-q", "1", "-t", "iot-2/cmd/+/fmt/+")
	conf := s.TLS()
	conf.ServerName = o.id + ".messaging.localhost"
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf}, Timeout: patience}
	t.Cleanup(client.CloseIdleConnections)
	post := func(path, kind, user, password, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, fmt.Sprintf("https://localhost:%d/api/v0002/%s", s.MQTTPort, path), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = fmt.Sprintf("%s.messaging.localhost:%d", o.id, s.MQTTPort)
		req.Header.Set("Content-Type", kind)
		req.SetBasicAuth(user, password)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(io.LimitReader(res.Body, 1<<16))
		return res.StatusCode, string(b)
	}
	own := "device/types/sensor/devices/one/events/status"
	for kind, format := range map[string]string{"application/json": "json", "text/plain; charset=utf-8": "text", "application/xml": "xml", "application/octet-stream": "bin"} {
		if status, body := post(own, kind, device.User, device.Password, format); status != http.StatusOK {
			t.Errorf("%s: status %d: %s", kind, status, body)
			continue
		}
		same(t, "received", watch.line("= "), "iot-2/type/sensor/id/one/evt/status/fmt/"+format+"|1|0|"+format)
	}
	if status, body := post("application/types/sensor/devices/one/events/e", "application/json", app.User, app.Password, "1"); status != http.StatusOK {
		t.Errorf("event of an application: status %d: %s", status, body)
	} else {
		same(t, "received", watch.line("= "), "iot-2/type/sensor/id/one/evt/e/fmt/json|1|0|1")
	}
	if status, body := post("application/types/sensor/devices/one/commands/c", "application/json", app.User, app.Password, "2"); status != http.StatusOK {
		t.Errorf("command of an application: status %d: %s", status, body)
	} else {
		same(t, "received", command.line("= "), "iot-2/cmd/c/fmt/json|1|0|2")
	}
	for name, tt := range map[string]struct {
		path, user, password string
		want                 int
	}{
		"wrong token":              {own, device.User, "wrong", http.StatusUnauthorized},
		"another device":           {"device/types/sensor/devices/two/events/e", device.User, device.Password, http.StatusUnauthorized},
		"a device as application":  {"application/types/sensor/devices/one/events/e", device.User, device.Password, http.StatusUnauthorized},
		"an application as device": {own, app.User, app.Password, http.StatusUnauthorized},
		"a name that is a filter":  {"device/types/sensor/devices/one/events/%2B", device.User, device.Password, http.StatusBadRequest},
		"nothing there":            {"device/types/sensor", device.User, device.Password, http.StatusNotFound},
	} {
		if status, body := post(tt.path, "application/json", tt.user, tt.password, "forged"); status != tt.want {
			t.Errorf("%s: status %d, want %d: %s", name, status, tt.want, body)
		}
	}
	if status, _ := post(own, "application/json", device.User, device.Password, "last"); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	same(t, "received after the refusals", watch.line("= "), "iot-2/type/sensor/id/one/evt/status/fmt/json|1|0|last")
}
