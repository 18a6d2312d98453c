package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
)

// hostile is text that would do something on a terminal: sequences that begin
// with ESC and with the one-character CSI, a bell, a title, line breaks, a
// tabulator, deletion, and letters that change the direction.
const hostile = "\x1b[2J\u009b31m\a\x1b]0;title\x07\r\n\t\x7f\x08\u202e\u2066\u2028\ufeff\x00<script>"

// What others have written is printed without doing anything, as a table and as
// JSON.
func TestAuditPrintsText(t *testing.T) {
	raw, err := json.Marshal(auditEvent{Org: hostile, Actor: hostile, Action: hostile, Target: hostile, Address: hostile,
		Detail: map[string]any{hostile: hostile}})
	if err != nil {
		t.Fatal(err)
	}
	for _, asJSON := range []bool{false, true} {
		var out, errw bytes.Buffer
		e := newEnv(nil, &out, &errw)
		e.json = asJSON
		if err := e.showAudit(list[json.RawMessage]{Items: []json.RawMessage{raw}, Next: hostile}); err != nil {
			t.Fatal(err)
		}
		text := out.String() + errw.String()
		if i := strings.IndexFunc(text, func(c rune) bool { return c != '\n' && !unicode.IsPrint(c) }); i >= 0 {
			t.Errorf("JSON %t: %q is printed", asJSON, text[i:])
		}
		if lines := strings.Count(text, "\n"); !asJSON && lines != 3 { // head, record, note
			t.Errorf("%d lines: %q", lines, text)
		}
		if !asJSON {
			continue
		}
		var back list[auditEvent]
		if err := json.Unmarshal(out.Bytes(), &back); err != nil || back.Items[0].Target != hostile || back.Items[0].Detail[hostile] != hostile {
			t.Errorf("it is not the same any more: %+v, %v", back, err)
		}
	}
}

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.FixedZone("here", 3600))
	for s, want := range map[string]string{
		"2026-01-31T12:00:00Z": "2026-01-31T12:00:00Z", "2026-01-31": "2026-01-30T23:00:00Z", "2026-01-31 12:30": "2026-01-31T11:30:00Z",
		"2026-01-31 12:30:01": "2026-01-31T11:30:01Z", "36h": "2026-03-08T23:00:00Z", "7d": "2026-03-03T11:00:00Z", "0d": "2026-03-10T11:00:00Z",
	} {
		if got, err := parseTime(s, now); err != nil || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%s: %v, %v, want %s", s, got, err, want)
		}
	}
	for _, s := range []string{"", "x", "-1h", "-1d", "1", "d", "40000d", "2026-13-01", "2026-01-31T12:00:00Z\n"} {
		if got, err := parseTime(s, now); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
}
