package console

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/topic"
)

const eventTopic = "iot-2/type/t/id/i/evt/e/fmt/json"

func TestRead(t *testing.T) {
	at := time.Unix(1000, 0).UTC()
	for _, c := range []struct{ payload, want string }{
		{`{"a":1,"b":"x","c":true,"d":null}`, "a=1 b=x c=true"},
		{`{"d":{"t":20.5}}`, "t=20.5"},
		{`{"d":{"t":20.5},"other":1}`, "d.t=20.5 other=1"},
		{`{"b":{"c":{"d":1}},"a":2}`, "a=2 b.c.d=1"},
		{`[1,2]`, "value=[1,2]"},
		{`21.5`, "value=21.5"},
		{`{}`, "(no values)"},
		{`{"a":1} {"a":2}`, `value={"a":1} {"a":2}`},
		{`hello`, "value=hello"},
		{``, "(empty)"},
		{"\x00\x01", "(not text)"},
		{"\xff", "(not text)"},
		{`{"a":"` + strings.Repeat("x", 500) + `"}`, "a=" + strings.Repeat("x", maxText) + "…"},
		{`{"a":{"a":{"a":{"a":{"a":{"a":1}}}}}}`, "(no values)"},
	} {
		r := read(eventTopic, []byte(c.payload), at)
		var got []string
		for _, f := range r.Fields {
			got = append(got, fmt.Sprintf("%s=%v", f.Name, f.Value))
		}
		if r.Note != "" {
			got = append(got, "("+r.Note+")")
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%q: got %q, want %q", c.payload, s, c.want)
		}
		if r.Source != "t/i" || r.Event != "e" || !r.Time.Equal(at) {
			t.Errorf("%q: %+v", c.payload, r)
		}
	}
	if r := read(eventTopic, []byte(`{"time":"2026-01-02T03:04:05.678Z","source":"e","percent":1}`), at); r.Time.Nanosecond() != 678e6 || len(r.Fields) != 1 {
		t.Errorf("reading of the agent: %+v", r)
	}
	if r := read(eventTopic, []byte(`{"time":"soon","source":"x"}`), at); !r.Time.Equal(at) || len(r.Fields) != 2 {
		t.Errorf("words that are no time: %+v", r)
	}
	if r := read("a/b", []byte("1"), at); r.Source != "a/b" || r.ID != "" {
		t.Errorf("plain topic: %+v", r)
	}
	if r := read(eventTopic, []byte(`{"ts":1700000000000,"a":1}`), at); r.Time.Unix() != 1700000000 || len(r.Fields) != 1 {
		t.Errorf("time in milliseconds: %+v", r)
	}
}

func FuzzRead(f *testing.F) {
	for _, s := range []string{`{"d":{"a":1},"ts":"2026-01-02T03:04:05Z"}`, `[[[]]]`, `{"ts":1e300}`, `"x"`, "\xff", `{"a":1e999}`, strings.Repeat("[", 3000)} {
		f.Add(eventTopic, []byte(s))
	}
	f.Fuzz(func(t *testing.T, topic string, payload []byte) {
		r := read(topic, payload, time.Unix(1000, 0))
		if len(r.Fields) > maxFields || len(r.Fields) == 0 && r.Note == "" {
			t.Errorf("%d fields, note %q", len(r.Fields), r.Note)
		}
		for _, x := range r.Fields {
			if s, ok := x.Value.(string); ok && len([]rune(s)) > maxText+1 || len([]rune(x.Name)) > maxText+1 {
				t.Errorf("field too long: %d %v", len(x.Name), x.Value)
			}
		}
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatalf("a reading that cannot be sent: %v", err)
		}
		if strings.ContainsAny(string(b), "\r\n") {
			t.Error("an event with a line break in its data")
		}
	})
}

// A browser that takes nothing costs a bounded amount of memory, and gets the
// newest value of each topic when it does.
func TestFeedIsBounded(t *testing.T) {
	f := newFeed()
	deliver := func(name, payload string) {
		n, err := topic.ParseName(name)
		if err != nil {
			t.Fatal(err)
		}
		f.Deliver(&engine.Message{Topic: n, Payload: []byte(payload)}, engine.Delivery{})
	}
	for i := range maxPending + 50 {
		deliver(fmt.Sprintf("t/%d", i), "1")
	}
	deliver("t/0", "2")
	deliver("t/1", strings.Repeat("x", maxPayload+1))
	waiting, skipped := f.take()
	if len(waiting) != maxPending || skipped != 50 {
		t.Errorf("%d wait, %d skipped", len(waiting), skipped)
	}
	if string(waiting["t/0"].payload) != "2" || !waiting["t/1"].large || waiting["t/1"].payload != nil {
		t.Errorf("t/0 %+v, t/1 %+v", waiting["t/0"], waiting["t/1"])
	}
	if waiting, skipped = f.take(); len(waiting) != 0 || skipped != 0 {
		t.Errorf("taken twice: %d, %d", len(waiting), skipped)
	}
	f.Lost(context.Canceled)
	f.Lost(context.Canceled)
	<-f.lost
}
