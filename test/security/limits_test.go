package security

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// as asks the API with an organisation's API key, and returns the answer.
func (s *site) as(t *testing.T, o *org, method, path, body string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, fmt.Sprintf("https://127.0.0.1:%d/api/v1%s", s.HTTPSPort, path), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.SetBasicAuth(o.key, o.token)
	c := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: s.TLS(), DisableKeepAlives: true}}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, b
}

// reached returns the outcomes of the events that an organisation sees, by limit.
func (s *site) reached(t *testing.T, o *org) map[string]string {
	t.Helper()
	status, b := s.as(t, o, http.MethodGet, "/orgs/"+o.id+"/limit-events", "")
	var l struct {
		Items []struct{ Limit, Outcome string }
	}
	if err := json.Unmarshal(b, &l); err != nil || status != 200 {
		t.Fatalf("events: %d %s", status, b)
	}
	m := map[string]string{}
	for _, e := range l.Items {
		m[e.Limit] = e.Outcome
	}
	return m
}

// An administrator lowers limits while clients are connected: they hold at once,
// for that organisation only, and its owner sees who reached them. Another
// organisation sees nothing of it, and can neither read nor set them.
func TestLimitsAreLiveAndApart(t *testing.T) {
	s := start(t)
	at := "/orgs/" + s.ours.id
	d, other := s.connect(t, s.ours.asDevice().packet()), s.connect(t, s.theirs.asDevice().packet())
	const topic, long = "iot-2/evt/e/fmt/json", `{"a":"long"}`
	both := func(ours, theirs mqtt.ReasonCode) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; { // until the change has reached the connection
			code := d.publish(topic, long, false)
			if code == ours {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("ours: %v, want %v", code, ours)
			}
		}
		if code := other.publish(topic, long, false); code != theirs {
			t.Fatalf("theirs: %v, want %v", code, theirs)
		}
	}
	both(mqtt.Success, mqtt.Success)
	s.api.Call(http.MethodPatch, at+"/limits", map[string]any{"client.payload": 5, "org.connections": 1}, nil)
	both(mqtt.QuotaExceeded, mqtt.Success)
	s.api.Call(http.MethodPatch, at+"/limits", map[string]any{"client.payload": nil}, nil)
	both(mqtt.Success, mqtt.Success)

	// The organisation lowers its own device type.
	if status, b := s.as(t, s.ours, http.MethodPatch, at+"/types/sensor/limits", `{"client.payload": 4, "client.message_rate": 2}`); status != 200 {
		t.Fatalf("type limits: %d %s", status, b)
	}
	both(mqtt.QuotaExceeded, mqtt.Success)

	// One connection is there; there is no room for a second.
	if _, code := s.try(t, s.ours.asApp().packet()); code != mqtt.QuotaExceeded {
		t.Errorf("a connection too many: %v", code)
	}
	if _, code := s.try(t, s.theirs.asApp().packet()); code != mqtt.Success {
		t.Errorf("their second connection: %v", code)
	}
	for range 8 { // more than two seconds' worth of two a second
		d.publish(topic, "1", false)
	}
	got := s.reached(t, s.ours)
	for limit, outcome := range map[string]string{"client.payload": "refused", "org.connections": "refused", "client.message_rate": "delayed"} {
		if got[limit] != outcome {
			t.Errorf("the owner sees %v: %s was %s", got, limit, outcome)
		}
	}
	if got := s.reached(t, s.theirs); len(got) != 0 {
		t.Errorf("the other organisation sees %v", got)
	}
	for _, path := range []string{"/limits", "/limit-events", "/types/sensor/limits"} {
		if status, b := s.as(t, s.theirs, http.MethodGet, at+path, ""); status != 404 {
			t.Errorf("another organisation reads %s: %d %s", path, status, b)
		}
		if path == "/limit-events" {
			continue
		}
		if status, b := s.as(t, s.theirs, http.MethodPatch, at+path, `{"client.payload": 1}`); status != 404 && status != 403 {
			t.Errorf("another organisation sets %s: %d %s", path, status, b)
		}
	}
	if status, b := s.as(t, s.ours, http.MethodPatch, at+"/limits", `{"org.connections": 100}`); status != 403 {
		t.Errorf("an organisation raises its own limits: %d %s", status, b)
	}
}
