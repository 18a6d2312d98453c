package broker

import (
	"sync"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/quota"
)

// A CONNECT that the broker itself refuses is told of, with the reason; what the
// Verifier refuses is not: it knows itself.
func TestRefusedConnectsAreTold(t *testing.T) {
	var mu sync.Mutex
	var told []Refused
	w := start(t, func(c *Config) {
		c.Limits = quota.Limits{}.With(quota.ClientConnections, 1)
		c.Refused = func(r Refused) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, r)
		}
	})
	one := func(what string, reason RefusedReason, who string) {
		t.Helper()
		eventually(t, what, func() bool { mu.Lock(); defer mu.Unlock(); return len(told) > 0 })
		mu.Lock()
		defer mu.Unlock()
		if len(told) != 1 || told[0].Reason != reason || told[0].Who.ID != who || told[0].Address == "" {
			t.Errorf("%s: told %+v", what, told)
		}
		told = nil
	}
	w.connect(mqtt.V5, "first", nil)
	if _, ack := w.try(hello(mqtt.V5, "second", nil)); ack.Code != mqtt.QuotaExceeded {
		t.Fatalf("code %v", ack.Code)
	}
	one("a limit", RefusedLimit, "u")

	if _, ack := w.try(hello(mqtt.V5, "third", func(p *mqtt.Connect) { p.Password = []byte("wrong") })); ack.Code != mqtt.BadUserNameOrPassword {
		t.Fatalf("code %v", ack.Code)
	}
	newClient(t, w.dial(nil), mqtt.V5).raw([]byte{0x10, 0x07, 0x00, 0x04, 'M', 'Q', 'X', 'X', 0x05})
	one("no CONNECT", RefusedMalformed, "") // and only that

	if _, ack := w.try(hello(mqtt.V311, "", func(p *mqtt.Connect) { p.CleanStart = false })); ack.Code == mqtt.Success {
		t.Fatalf("code %v", ack.Code)
	}
	one("no name", RefusedMalformed, "")
}
