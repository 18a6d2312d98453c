package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/quota"
)

func load(t *testing.T, text string) (Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keepmq.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(file)
}

func TestDefaultIsValid(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
}

func TestLoadOverlaysDefaults(t *testing.T) {
	c, err := load(t, "mqtt:\n  listen: 127.0.0.1:1884\n  connect_timeout: 3s\nnames: [mqtt.example.org, 192.0.2.1]\nlog: {level: debug}\n")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if c.MQTT.Listen != "127.0.0.1:1884" || c.MQTT.ConnectTimeout != 3*time.Second || c.HTTPS.Listen != ":8443" || len(c.Names) != 2 {
		t.Errorf("unexpected configuration %+v", c)
	}
	if c, err := load(t, ""); err != nil || c.Domain != "localhost" {
		t.Errorf("empty file: %+v, %v", c, err)
	}
}

// What Describe shows is a file that can be used.
func TestDescribe(t *testing.T) {
	c, err := load(t, Describe())
	if err != nil {
		t.Fatal(err)
	}
	c.Names, c.Alerts.Recipients, c.Alerts.WebhookAllow, c.TLS.ACME.Names, c.SignIn.ProviderAllow = nil, nil, nil, nil, nil // the empty lists of the file
	if !reflect.DeepEqual(c, Default()) {
		t.Errorf("got %+v, want the defaults", c)
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"mqtt:\n  plaintext: true\nspeed: 3\n", "line 2: unknown key plaintext"},
		{"mqtt:\n  plaintext: true\nspeed: 3\n", "line 3: unknown key speed"},
		{"limits: {client.packet: many}\n", "many"},
		{"limits: {client.packets: 5}\n", "client.packets: there is no such limit"},
		{"limits: {client.queue_full: 1}\n", "refuse or end_session"},
		{"mqtt: [1\n", "line 1"},
		{"data: a\n---\ndata: b\n", "more than one"},
		{"log: {level: loud}\n", "loud"},
		{"data: " + strings.Repeat("x", maxFile), "larger than"},
	} {
		_, err := load(t, tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.40q: got error %v, want %q", tt.text, err, tt.want)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "absent.yaml")); err == nil {
		t.Error("a missing file was accepted")
	}
}

// Every mistake is reported at once, each with its key.
func TestValidateReportsAll(t *testing.T) {
	c := Default()
	c.Data, c.Domain, c.Names = "", "a..b", []string{"ok.example", "no/name"}
	c.MQTT.Listen, c.HTTPS.Listen = "8883", "example.org:https"
	c.Limits = c.Limits.With(quota.ClientPacket, 1).With(quota.ClientInflight, 70000).With(quota.OrgQueue, 0)
	c.MQTT.MaxConnections = -1
	c.MQTT.Address = Address{MaxConnections: -1, MaxPending: -1} // the rest is zero, which is not "no bound"
	c.MQTT.MaxHandshakes, c.MQTT.QueueTimeout = 0, 0
	c.MQTT.ConnectTimeout, c.MQTT.MaxKeepAlive, c.MQTT.MaxSessionExpiry = 0, -1, -1
	c.Edge.Interval, c.Log.Format, c.Audit.KeepDays = 0, "xml", 29
	err := c.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, key := range []string{"data:", "domain:", "names[1]:", "mqtt.listen:", "https.listen:", "limits.client.packet:", "limits.client.inflight:",
		"limits.org.queue:", "mqtt.max_connections:", "mqtt.connect_timeout:", "mqtt.max_keep_alive:", "mqtt.max_session_expiry:", "edge.interval:", "log.format:",
		"mqtt.address.max_connections:", "mqtt.address.max_pending:", "mqtt.address.rate:", "mqtt.address.burst:", "mqtt.address.failure_rate:",
		"mqtt.address.failure_burst:", "mqtt.max_handshakes:", "mqtt.queue_timeout:", "audit.keep_days:"} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("%s is not reported in:\n%v", key, err)
		}
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != 23 {
		t.Errorf("%d mistakes reported, want 23:\n%v", n, err)
	}
	c = Default()
	c.HTTPS.Listen = c.MQTT.Listen
	if c.Validate() == nil {
		t.Error("one address for both ports was accepted")
	}
}

func TestStore(t *testing.T) {
	for text, want := range map[string]string{
		"store: {driver: sqlite}":                                                "",
		"store: {driver: postgres, dsn_file: /etc/keepmq/dsn}":                   "",
		"store: {driver: postgres, dsn_file: /a, owner_dsn_file: /b}":            "",
		"store: {driver: postgres}":                                              "store.dsn_file: must name",
		"store: {dsn_file: /a}":                                                  "store.dsn_file: is for driver postgres",
		"store: {owner_dsn_file: /a}":                                            "store.dsn_file: is for driver postgres",
		"store: {driver: mysql}":                                                 "store.driver:",
		"store: {driver: ''}":                                                    "store.driver:",
		"store: {driver: postgres, dsn: 'postgresql://keepmq:secret@db/keepmq'}": "unknown key dsn",
	} {
		c, err := load(t, text)
		if err == nil {
			err = c.Validate()
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

func TestTLS(t *testing.T) {
	const acme = "tls: {acme: {directory: 'https://acme.example/dir', accept_terms: true, names: "
	for text, want := range map[string]string{
		"sign_in: {provider_allow: [10.0.0.0/8]}": "",
		"sign_in: {provider_allow: [10.0.0.1]}":   "sign_in.provider_allow:",
		"tls: {certificate: a, key: b}":           "",
		"tls: {certificate: a}":                   "tls.key:",
		"tls: {key: b}":                           "tls.key:",
		acme + "[mqtt.example.org]}}":             "",
		acme + "[m.example.org], email: ops@example.org, eab_key_id: x, eab_key_file: f}}": "",
		acme + "[m.example.org], email: ops}}":                                             "tls.acme.email:",
		acme + "[m.example.org], eab_key_id: x}}":                                          "tls.acme.eab_key_file:",
		acme + "[]}}":                             "tls.acme.names: must be 1 to 100",
		acme + "['*.example.org']}}":              "tls.acme.names[0]:",
		acme + "[a.example.org, Upper.org]}}":     "tls.acme.names[1]:",
		acme + "[a.example.org, a.example.org]}}": "there twice",
		acme + "[192.0.2.1]}}":                    "tls.acme.names[0]:",
		acme + "[localhost]}}":                    "tls.acme.names[0]:",
		"tls: {acme: {names: [a.example.org]}}":   "tls.acme.directory:",
		"tls: {acme: {directory: 'http://acme.example/dir', accept_terms: true, names: [a.example.org]}}": "tls.acme.directory:",
		"tls: {acme: {directory: 'https://acme.example/dir', names: [a.example.org]}}":                    "tls.acme.accept_terms:",
	} {
		c, err := load(t, text)
		if err == nil {
			err = c.Validate()
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("mqtt: {listen: ':1'}")
	f.Add("data: [")
	f.Fuzz(func(t *testing.T, s string) {
		c := Default()
		if c.parse([]byte(s)) == nil {
			_ = c.Validate()
		}
	})
}

func TestAlerts(t *testing.T) {
	for text, want := range map[string]string{
		"alerts: {recipients: [ops@example.com]}":                               "needs alerts.mail.server",
		"alerts: {recipients: ['Ops <ops@example.com>']}":                       "not an e-mail address",
		"alerts: {webhook_allow: [10.0.0.1]}":                                   "alerts.webhook_allow",
		"alerts: {mail: {tls: none}}":                                           "alerts.mail.tls",
		"alerts: {mail: {server: mail.example.com, from: a@example.com}}":       "host:port",
		"alerts: {mail: {server: 'mail.example.com:587', from: 'a\\nb@c.com'}}": "alerts.mail.from",
	} {
		c, err := load(t, text)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	c, err := load(t, "alerts: {recipients: [ops@example.com], webhook_allow: [10.1.0.0/16], mail: {server: 'mail.example.com:465', tls: implicit, from: keepmq@example.com}}")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}
