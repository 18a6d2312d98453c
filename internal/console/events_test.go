package console_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/secret"
)

type event struct{ name, data string }

// listen opens the stream of readings and returns what comes, until it ends.
func (f *fixture) listen(t *testing.T, org string) <-chan event {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", f.url+"/events?org="+org, nil)
	must(t, err)
	res, err := f.client.Do(req)
	must(t, err)
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream; charset=utf-8" {
		t.Fatalf("stream answers %s %s", res.Status, res.Header.Get("Content-Type"))
	}
	out := make(chan event, 100)
	go func() {
		defer close(out)
		defer res.Body.Close()
		name := ""
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			if v, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				name = v
			}
			if v, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				out <- event{name, v}
			}
		}
	}()
	if e := f.next(t, out); e.name != "hello" {
		t.Fatalf("the stream begins with %+v", e)
	}
	return out
}

func (f *fixture) next(t *testing.T, events <-chan event) event {
	t.Helper()
	select {
	case e, ok := <-events:
		if !ok {
			t.Fatal("the stream has ended")
		}
		return e
	case <-time.After(10 * time.Second):
		t.Fatal("nothing arrives")
	}
	return event{}
}

// ends checks that nothing but a farewell comes any more, within d.
func ends(t *testing.T, events <-chan event, d time.Duration) {
	t.Helper()
	for late := time.After(d); ; {
		select {
		case e, ok := <-events:
			if !ok {
				return
			}
			if e.name == "readings" {
				t.Errorf("readings after the end: %s", e.data)
			}
		case <-late:
			t.Fatalf("the stream goes on after %v", d)
		}
	}
}

type reading struct {
	Source, Type, ID, Event, Note string
	Time                          time.Time
	Fields                        []struct {
		Name  string
		Value any
	}
}

func TestReadingsArrive(t *testing.T) {
	f := start(t)
	f.signIn(t)
	_, err := f.registry.CreateOrg(context.Background(), f.admin, registry.Org{ID: "second", Name: "Second"})
	must(t, err)
	events := f.listen(t, string(f.first.Org.ID))
	f.publish(t, "second", "iot-2/type/sensor/id/sensor-1/evt/secret/fmt/json", `{"other":1}`)
	f.publish(t, f.first.Org.ID, "iot-2/type/sensor/id/sensor-1/cmd/x/fmt/json", `{"command":1}`)
	f.publish(t, f.first.Org.ID, "iot-2/type/sensor/id/sensor-1/evt/status/fmt/json", `{"d":{"celsius":21.5,"door":{"open":true}},"ts":"2026-01-02T03:04:05Z"}`)
	e := f.next(t, events)
	var got []reading
	must(t, json.Unmarshal([]byte(e.data), &got))
	if e.name != "readings" || len(got) != 1 {
		t.Fatalf("got %s %s", e.name, e.data)
	}
	r := got[0]
	if r.Source != "sensor/sensor-1" || r.Event != "status" || !r.Time.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) ||
		len(r.Fields) != 2 || r.Fields[0].Name != "celsius" || r.Fields[0].Value != 21.5 || r.Fields[1].Name != "door.open" || r.Fields[1].Value != true {
		t.Errorf("reading %+v", r)
	}
	f.publish(t, f.first.Org.ID, "iot-2/type/sensor/id/sensor-1/evt/status/fmt/text", "</script>\n\nevent: bye\ndata: x")
	if e = f.next(t, events); e.name != "readings" {
		t.Errorf("a payload made the event %+v", e)
	}
}

func TestRevokedStreamEndsWithinASecond(t *testing.T) {
	for name, revoke := range map[string]func(*testing.T, *fixture){
		"signed out": func(t *testing.T, f *fixture) {
			must(t, f.registry.SignOut(context.Background(), secret.New(f.token)))
		},
		"organisation disabled": func(t *testing.T, f *fixture) {
			must(t, f.registry.SetOrgDisabled(context.Background(), f.admin, f.first.Org.ID, true))
		},
		"organisation deleted": func(t *testing.T, f *fixture) {
			must(t, f.registry.DeleteOrg(context.Background(), f.admin, f.first.Org.ID))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			f.signIn(t)
			events := f.listen(t, string(f.first.Org.ID))
			revoke(t, f)
			ends(t, events, time.Second)
		})
	}
}

func TestStreamEndsWhenTheServerStops(t *testing.T) {
	f := start(t)
	f.signIn(t)
	events := f.listen(t, string(f.first.Org.ID))
	close(f.stop)
	if e := f.next(t, events); e.name != "bye" || e.data != `"stopping"` {
		t.Errorf("farewell %+v", e)
	}
	ends(t, events, time.Second)
	deadline := time.Now().Add(5 * time.Second)
	for {
		s, err := f.engine.Stats(context.Background(), "")
		must(t, err)
		if s.Held == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d sessions are still held", s.Held)
		}
	}
}

// A stream on which nothing happens for longer than a write may take stays.
func TestQuietStreamStays(t *testing.T) {
	f := startWith(t, 300*time.Millisecond)
	f.signIn(t)
	events := f.listen(t, string(f.first.Org.ID))
	select {
	case e, ok := <-events:
		t.Fatalf("event %+v, open %v", e, ok)
	case <-time.After(time.Second):
	}
	f.publish(t, f.first.Org.ID, "iot-2/type/sensor/id/sensor-1/evt/status/fmt/json", `{"a":1}`)
	if e := f.next(t, events); e.name != "readings" {
		t.Errorf("event %+v", e)
	}
}

func TestStreamRefusals(t *testing.T) {
	f := start(t)
	f.do(t, "GET", "/events?org="+string(f.first.Org.ID)).is(t, http.StatusUnauthorized)
	f.signIn(t)
	f.do(t, "GET", "/events?org=zzzzzz").is(t, 404)
	f.do(t, "GET", "/events").is(t, 404)
	for range 12 {
		f.listen(t, string(f.first.Org.ID))
	}
	f.do(t, "GET", "/events?org="+string(f.first.Org.ID)).is(t, http.StatusTooManyRequests)
}
