package cli

import (
	"net/http"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestQuoteSome(t *testing.T) {
	for in, want := range map[string]string{
		"plain":             "plain",
		`{"a": "ü – 日本"}`:   `{"a": "ü – 日本"}`,
		"two\nlines\t":      `two\nlines\t`,
		"\x1b[2J":           `\x1b[2J`,
		"\xff\x00":          `\xff\x00`,
		"\u202egnp.exe":     `\u202egnp.exe`,
		"\u009b31m":         `\u009b31m`,
		"a\u00a0b\uFFFD":    `a\u00a0b` + "\uFFFD",
		`back\slash "mark"`: `back\slash "mark"`,
	} {
		if got := quoteSome(in); got != want {
			t.Errorf("quoteSome(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzQuoteSome(f *testing.F) {
	f.Add("\x1b]0;title\x07")
	f.Add("\xe2\x80")
	f.Fuzz(func(t *testing.T, in string) {
		for _, got := range []string{quoteSome(in), printable(in)} {
			if !utf8.ValidString(got) || strings.ContainsFunc(got, func(c rune) bool { return !unicode.IsPrint(c) }) {
				t.Errorf("%q became %q", in, got)
			}
		}
	})
}

// What a server answers must not upset the command or the terminal.
func FuzzRefusal(f *testing.F) {
	f.Add([]byte(`{"detail":"no","instance":"urn:uuid:1","errors":[{"message":"m","location":"body.a"}]}`))
	f.Add([]byte(`<html>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		err := refusal("https://h:1", &http.Response{Status: "500 x", StatusCode: 500}, b)
		message, advice := explain(err)
		if message == "" || strings.ContainsFunc(message+advice, unicode.IsControl) {
			t.Errorf("message %q, advice %q", message, advice)
		}
	})
}
