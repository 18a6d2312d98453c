package broker

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
)

// A client whose messages are refused does not fill the log.
func TestRefusalsInLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := &conn{b: &Broker{log: slog.New(slog.NewTextHandler(&log, nil))}, peer: new(peer)}
		for range 10_000 {
			c.logRefusal("publish refused", mqtt.NotAuthorized, errs.E(errs.Denied, "not yours"))
			time.Sleep(time.Millisecond)
		}
		if n := bytes.Count(log.Bytes(), []byte("not yours")); n != 10 {
			t.Errorf("%d lines in ten seconds", n)
		}
	})
}

// counted counts the log's records by what they say.
type counted struct {
	slog.Handler
	what string
	n    *atomic.Int64
}

func (h counted) Handle(_ context.Context, r slog.Record) error {
	if r.Message == h.what {
		h.n.Add(1)
	}
	return nil
}
func (h counted) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h counted) Enabled(context.Context, slog.Level) bool { return true }

// However many subscriptions are refused, the log says so once a second.
func TestRefusedFiltersDoNotFillTheLog(t *testing.T) {
	n := new(atomic.Int64)
	log := slog.New(counted{slog.DiscardHandler, "subscription refused", n})
	bubble(t, func(c *Config) { c.Log = log }, func(t *testing.T, w *world) {
		w.dir.add(testOrg, "none", func(s *auth.Spec) { s.Rules = nil })
		c := w.connect(mqtt.V5, "c", func(p *mqtt.Connect) { as(p, testOrg, "none") })
		p := &mqtt.Subscribe{PacketID: 1}
		for i := range 1000 {
			p.Subscriptions = append(p.Subscriptions, mqtt.Subscription{Filter: fmt.Sprint("f/", i)})
		}
		c.send(p)
		if ack := expect[*mqtt.Suback](c); ack.Codes[999] != mqtt.NotAuthorized {
			t.Errorf("codes %v", ack.Codes[999])
		}
		if got := n.Load(); got != 1 {
			t.Errorf("%d lines in the log", got)
		}
		time.Sleep(time.Second)
		c.send(p)
		expect[*mqtt.Suback](c)
		if got := n.Load(); got != 2 {
			t.Errorf("%d lines in the log after a second", got)
		}
	})
}

// What is said of a refusal is UTF-8 and short, also where it repeats the longest
// topic there is.
func TestReasonsAreShort(t *testing.T) {
	w := start(t, nil)
	w.dir.add(testOrg, "none", func(s *auth.Spec) { s.Rules = nil })
	for shift := range 2 {
		long := strings.Repeat("x", shift) + strings.Repeat("é", 32760)
		c := w.connect(mqtt.V5, "c", func(p *mqtt.Connect) { as(p, testOrg, "none") })
		c.send(pub(long, "x", 1, 1))
		if a := expect[*mqtt.Ack](c); a.Code != mqtt.NotAuthorized || len(a.ReasonString.Or("")) > 2000 || a.ReasonString.Or("") == "" {
			t.Errorf("%v with %d bytes", a.Code, len(a.ReasonString.Or("")))
		}
		c.send(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: long}}})
		if a := expect[*mqtt.Suback](c); a.Codes[0] != mqtt.NotAuthorized || len(a.ReasonString.Or("")) > 2000 {
			t.Errorf("%v with %d bytes", a.Codes, len(a.ReasonString.Or("")))
		}
		_, ack := w.try(hello(mqtt.V5, "d", func(p *mqtt.Connect) {
			as(p, testOrg, "none")
			p.Will = &mqtt.Will{Topic: long[:60_000+shift]} // a CONNECT has less room
		}))
		if ack.Code != mqtt.NotAuthorized || len(ack.Properties.ReasonString.Or("")) > 2000 {
			t.Errorf("%v with %d bytes", ack.Code, len(ack.Properties.ReasonString.Or("")))
		}
	}
}
