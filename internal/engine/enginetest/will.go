package enginetest

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/topic"
)

func withWill(org, payload string) func(*engine.Claim) {
	return func(c *engine.Claim) {
		n, _ := topic.ParseName("will")
		c.Will = &engine.Will{
			Session: c.ID,
			Message: engine.Message{Org: auth.OrgID(org), Topic: n, Payload: []byte(payload), QoS: 1, Retain: true, From: c.ID.Owner},
			Delay:   time.Minute,
			Ref:     auth.Ref{Principal: c.ID.Owner, Client: c.ID.Client, Credential: "token:3", Expires: time.UnixMilli(1e12), Address: netip.MustParseAddr("192.0.2.7")},
		}
	}
}

func allWills(t *testing.T, e engine.Engine) (all []*engine.Will) {
	t.Helper()
	for w, err := range e.Wills(context.Background()) {
		if err != nil {
			t.Fatalf("wills: %v", err)
		}
		all = append(all, w)
	}
	return all
}

func wills(t *testing.T, e engine.Engine) (payloads []string) {
	t.Helper()
	for _, w := range allWills(t, e) {
		payloads = append(payloads, string(w.Message.Payload))
	}
	slices.Sort(payloads)
	return payloads
}

func wantWills(t *testing.T, e engine.Engine, want ...string) {
	t.Helper()
	if got := wills(t, e); !slices.Equal(got, want) {
		t.Fatalf("wills %q, want %q", got, want)
	}
}

func testWills(t *testing.T, s Store) {
	e := s.Open(t)
	ctx := context.Background()
	for _, expiry := range []time.Duration{0, time.Hour} {
		id := sid("a", "c")
		c := claim(t, e, id, expiry, withWill("a", "1"))
		wantWills(t, e) // it is held
		if err := c.session.Close(ctx, engine.Close{Expiry: expiry}); err != nil {
			t.Fatal(err)
		}
		wantWills(t, e) // the client said goodbye

		claim(t, e, id, expiry, withWill("a", "2"))
		c = claim(t, e, id, expiry, withWill("a", "3"))
		before := time.Now().Add(-time.Second)
		if err := c.session.Close(ctx, engine.Close{Expiry: expiry, KeepWill: true}); err != nil {
			t.Fatal(err)
		}
		all := allWills(t, e)
		if len(all) != 1 {
			t.Fatalf("%d wills", len(all))
		}
		w, want := all[0], engine.Claim{ID: id}
		withWill("a", "3")(&want)
		delay := min(expiry, time.Minute) // the session's end is the latest
		if w.Session != id || string(w.Message.Payload) != "3" || w.Message.Topic.String() != "will" || w.Message.QoS != 1 ||
			!w.Message.Retain || w.Delay != delay || w.Ref.Credential != "token:3" || w.Ref.Principal != id.Owner ||
			!w.Ref.Expires.Equal(want.Will.Ref.Expires) || w.Closed.Before(before) {
			t.Errorf("will %+v", w)
		}

		c = claim(t, e, id, expiry) // back without a will
		wantWills(t, e)
		c.close(0)

		c = claim(t, e, id, expiry, withWill("a", "4"))
		if err := c.session.Close(ctx, engine.Close{KeepWill: true}); err != nil {
			t.Fatal(err)
		}
		wantWills(t, e, "4") // even though the session has ended
		s.Crash(t)
		e = s.Open(t)
		wantWills(t, e, "4")
		if err := e.DropWill(ctx, id); err != nil {
			t.Fatal(err)
		}
		wantWills(t, e)
		s.Crash(t)
		e = s.Open(t)
		wantWills(t, e)
	}
}

func testWillsAfterCrash(t *testing.T, s Store) {
	e := s.Open(t)
	claim(t, e, sid("a", "1"), time.Hour, withWill("a", "1"))
	claim(t, e, sid("a", "2"), 0, withWill("a", "2"))
	short := claim(t, e, sid("a", "4"), time.Hour, withWill("a", "4"))
	if err := short.session.Close(context.Background(), engine.Close{Expiry: 10 * time.Second, KeepWill: true}); err != nil {
		t.Fatal(err)
	}
	closed := claim(t, e, sid("b", "3"), time.Hour, withWill("b", "3"))
	if err := closed.session.Close(context.Background(), engine.Close{Expiry: time.Hour, KeepWill: true}); err != nil {
		t.Fatal(err)
	}
	settle(t, e)
	s.Crash(t)
	e = s.Open(t)
	wantWills(t, e, "1", "2", "3", "4")
	delays := map[string]time.Duration{"1": time.Minute, "2": 0, "3": time.Minute, "4": 10 * time.Second}
	for _, w := range allWills(t, e) {
		p := string(w.Message.Payload)
		if cut := p == "1" || p == "2"; w.Closed.IsZero() != cut || w.Delay != delays[p] {
			t.Errorf("will %s: closed %v, delay %v", p, w.Closed, w.Delay)
		}
	}
	claim(t, e, sid("a", "1"), time.Hour)
	wantWills(t, e, "2", "3", "4")
}
