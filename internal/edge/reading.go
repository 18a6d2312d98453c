package edge

import (
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// sourceDropped is the source of the events that report lost readings.
const sourceDropped = "dropped"

// timeFormat is RFC 3339 with milliseconds.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// encodeReading returns the payload of one reading. The fields come from a
// sensor; one that JSON cannot hold, like infinity, is an error.
func encodeReading(now time.Time, source string, fields map[string]any) ([]byte, error) {
	m := maps.Clone(fields)
	if m == nil {
		m = map[string]any{}
	}
	m["time"], m["source"] = now.UTC().Format(timeFormat), source
	return json.Marshal(m)
}

// lossReadings returns an event for each reason for which readings are lost.
func lossReadings(now time.Time, losses map[string]uint64) []reading {
	var out []reading
	for _, reason := range slices.Sorted(maps.Keys(losses)) {
		b, err := encodeReading(now, sourceDropped, map[string]any{"count": losses[reason], "reason": reason})
		if err == nil { // always: text and a number
			out = append(out, reading{sourceDropped, b})
		}
	}
	return out
}
