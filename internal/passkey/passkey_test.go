package passkey

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/errs"
)

func TestParty(t *testing.T) {
	for host, want := range map[string]string{
		"mqtt.example.org": "mqtt.example.org", "MQTT.example.org:8443": "mqtt.example.org", "console.mqtt.example.org:8443": "mqtt.example.org",
		"localhost:8443": "localhost", "localhost": "localhost",
		"example.org": "", "evilmqtt.example.org": "", "mqtt.example.org.evil.com": "", "127.0.0.1:8443": "", "[::1]:8443": "", "": "",
	} {
		p, err := NewParty("mqtt.example.org", host)
		if (err == nil) != (want != "") || err == nil && p.web.Config.RPID != want {
			t.Errorf("%q: %v", host, err)
		}
		if err != nil && (errs.CodeOf(err) != errs.Invalid || !strings.Contains(errs.Message(err), "https://mqtt.example.org")) {
			t.Errorf("%q: %v", host, err)
		}
	}
	p, err := NewParty("localhost", "localhost:8443")
	if err != nil {
		t.Fatal(err)
	}
	options, _, err := p.Create(Holder{ID: "p1", Name: "ann@example.org", Shown: "Ann"})
	if err != nil {
		t.Fatal(err)
	}
	var o struct {
		RP                     struct{ ID string }
		AuthenticatorSelection struct{ ResidentKey, UserVerification string }
		Attestation            string
	}
	if err := json.Unmarshal(options, &o); err != nil || o.RP.ID != "localhost" || o.AuthenticatorSelection.ResidentKey != "required" ||
		o.AuthenticatorSelection.UserVerification != "required" || o.Attestation != "none" {
		t.Errorf("%s, %v", options, err)
	}
	if _, _, err := p.Create(Holder{ID: "p1", Records: []string{"garbled"}}); errs.CodeOf(err) != errs.Unavailable {
		t.Errorf("a damaged record: %v", err)
	}
	ask, _, err := p.Ask()
	if err != nil || !strings.Contains(string(ask), `"userVerification":"required"`) {
		t.Errorf("%s, %v", ask, err)
	}
}

// Nothing made up is an answer, whatever is kept.
func FuzzAnswers(f *testing.F) {
	p, err := NewParty("localhost", "localhost")
	if err != nil {
		f.Fatal(err)
	}
	_, kept, err := p.Ask()
	if err != nil {
		f.Fatal(err)
	}
	_, keptNew, err := p.Create(Holder{ID: "p1"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"id":"AA","rawId":"AA","type":"public-key","response":{"authenticatorData":"AA","clientDataJSON":"e30","signature":"AA","userHandle":"cDE"}}`))
	f.Add([]byte(`{"id":"AA","rawId":"AA","type":"public-key","response":{"attestationObject":"o2NmbXRkbm9uZQ","clientDataJSON":"e30"}}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		if a, err := p.Answered(kept, answer, func([]byte) (Holder, error) { return Holder{ID: "p1"}, nil }); err == nil {
			t.Errorf("%+v", a)
		}
		if m, err := p.Created(Holder{ID: "p1"}, keptNew, answer); err == nil {
			t.Errorf("%+v", m)
		}
		if a, err := p.Answered(answer, answer, func([]byte) (Holder, error) { return Holder{}, errors.New("none") }); err == nil {
			t.Errorf("%+v", a)
		}
	})
}
