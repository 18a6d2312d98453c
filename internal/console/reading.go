package console

import (
	"bytes"
	"encoding/json"
	"math"
	"sort"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxFields = 32  // shown of one reading
	maxDepth  = 4   // of nested objects
	maxText   = 120 // characters of a value that is text
)

// A reading is what a message says, made fit to be shown: bounded, and nothing
// but names, numbers, words and a time.
type reading struct {
	Source string    `json:"source"` // what the row is about: "type/id", or the topic
	Type   string    `json:"type,omitempty"`
	ID     string    `json:"id,omitempty"`
	Event  string    `json:"event,omitempty"`
	Time   time.Time `json:"time"`
	Fields []field   `json:"fields"`
	Note   string    `json:"note,omitempty"` // why there are no fields
}

// A field is one value of a reading.
type field struct {
	Name  string `json:"name"`
	Value any    `json:"value"` // float64, bool or string
}

// read makes a reading of a message that arrived at a time.
func read(topic string, payload []byte, at time.Time) reading {
	r := reading{Source: topic, Time: at}
	if l := strings.Split(topic, "/"); len(l) == 9 && l[0] == "iot-2" && l[1] == "type" && l[3] == "id" && l[5] == "evt" {
		r.Type, r.ID, r.Event = l[2], l[4], l[6]
		r.Source = r.Type + "/" + r.ID
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(payload))
	if err := d.Decode(&v); err != nil || d.More() {
		r.readText(payload)
		return r
	}
	if m, ok := v.(map[string]any); ok {
		for _, name := range []string{"ts", "time", "timestamp"} {
			if t, ok := when(m[name]); ok {
				r.Time = t
				delete(m, name)
				break
			}
		}
		if r.Event != "" && m["source"] == r.Event { // our own agent repeats it
			delete(m, "source")
		}
		if inner, ok := m["d"].(map[string]any); ok && len(m) == 1 { // the envelope {"d": {…}} is no part of the names
			v = inner
		}
	}
	r.add("", v, 0)
	if len(r.Fields) == 0 {
		r.Note = "no values"
	}
	return r
}

// readText shows a payload that is not JSON as far as it is text.
func (r *reading) readText(payload []byte) {
	if len(payload) == 0 {
		r.Note = "empty"
		return
	}
	if !utf8.Valid(payload) || bytes.ContainsFunc(payload, func(c rune) bool { return unicode.IsControl(c) && !unicode.IsSpace(c) }) {
		r.Note = "not text"
		return
	}
	r.Fields = []field{{Name: "value", Value: clip(strings.TrimSpace(string(payload)))}}
}

// add appends the values in v, objects flattened to dotted names.
func (r *reading) add(name string, v any, depth int) {
	if len(r.Fields) >= maxFields || depth > maxDepth {
		return
	}
	switch v := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		sort.Strings(keys) // so that rows keep their places from one reading to the next
		for _, k := range keys {
			n := clip(k)
			if name != "" {
				n = clip(name + "." + k)
			}
			r.add(n, v[k], depth+1)
		}
	case float64:
		if !math.IsInf(v, 0) && !math.IsNaN(v) {
			r.put(name, v)
		}
	case bool:
		r.put(name, v)
	case string:
		r.put(name, clip(v))
	case []any:
		if b, err := json.Marshal(v); err == nil {
			r.put(name, clip(string(b)))
		}
	}
}

func (r *reading) put(name string, v any) {
	if name == "" {
		name = "value"
	}
	r.Fields = append(r.Fields, field{name, v})
}

// when reads the time a device gave: RFC 3339, or milliseconds since 1970.
func when(v any) (time.Time, bool) {
	switch v := v.(type) {
	case string:
		t, err := time.Parse(time.RFC3339Nano, v)
		return t, err == nil && t.Year() >= 1970 && t.Year() < 10000
	case float64:
		if v > 0 && v < 253402300800000 { // the year 10000
			return time.UnixMilli(int64(v)).UTC(), true
		}
	}
	return time.Time{}, false
}

// clip shortens s to what a page has room for.
func clip(s string) string {
	n := 0
	for i := range s {
		if n == maxText {
			return s[:i] + "…"
		}
		n++
	}
	return s
}
