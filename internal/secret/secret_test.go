package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// However a secret is printed, alone or inside something, it is not shown.
func TestNeverShown(t *testing.T) {
	const text = "correct horse"
	s := New(text)
	inside := struct {
		Name  string
		Token String
		inner *String
	}{"n", s, &s}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "secret", s, "inside", inside)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "secret", s, "inside", inside)
	shown := []string{log.String(), fmt.Sprint(s), fmt.Errorf("refused %v", s).Error()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shown = append(shown, fmt.Sprintf(verb, s), fmt.Sprintf(verb, &s), fmt.Sprintf(verb, inside), fmt.Sprintf(verb, []String{s}))
	}
	b, err := json.Marshal(map[string]any{"secret": s, "inside": inside})
	if err != nil {
		t.Fatal(err)
	}
	hex := fmt.Sprintf("%x", text)
	for _, out := range append(shown, string(b)) {
		if strings.Contains(out, text) || strings.Contains(out, hex) {
			t.Errorf("shown: %s", out)
		}
	}
	if s.Reveal() != text {
		t.Errorf("Reveal returns %q", s.Reveal())
	}
}

func TestEqual(t *testing.T) {
	var zero String
	for _, tt := range []struct {
		a, b String
		want bool
	}{
		{New("a"), New("a"), true},
		{New("a"), New("b"), false},
		{New("a"), New("ab"), false},
		{zero, New(""), true},
		{zero, New("a"), false},
	} {
		if got := tt.a.Equal(tt.b); got != tt.want {
			t.Errorf("%q and %q: %v", tt.a.Reveal(), tt.b.Reveal(), got)
		}
	}
}
