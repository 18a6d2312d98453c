package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/engine/embedded"
	"github.com/keepmq/keepmq/internal/quota"
)

// A gate stops the message whose payload is "stop" as it is sealed: then it has
// been decided who gets it, and nothing is kept yet.
type gate struct{ stopped, open chan struct{} }

func newGate() *gate { return &gate{make(chan struct{}), make(chan struct{})} }

func (g *gate) options(fs vfs.FS) embedded.Options {
	o := options(fs)
	inner := o.Sealer
	o.Sealer = func(ctx context.Context, org auth.OrgID) (embedded.Sealer, error) {
		s, err := inner(ctx, org)
		return gated{s, g}, err
	}
	return o
}

type gated struct {
	embedded.Sealer
	g *gate
}

func (s gated) Seal(dst, plaintext, additional []byte) []byte {
	if bytes.HasSuffix(plaintext, []byte("stop")) {
		close(s.g.stopped)
		<-s.g.open
	}
	return s.Sealer.Seal(dst, plaintext, additional)
}

// A QoS 2 message that is refused late leaves nothing behind: its packet
// identifier is free for another message, which is not taken for the same.
func TestRefusedLate(t *testing.T) {
	ctx := context.Background()
	g := newGate()
	e := open(t, g.options(vfs.NewMem()))
	defer e.Close()
	c, err := e.Claim(ctx, engine.Claim{ID: id("full"), Queue: 1, EndWhenFull: true, Expiry: time.Hour, Sink: &quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	full, other, pub := c.Session, claim(t, e, "other", time.Hour, &quiet{}), claim(t, e, "pub", time.Hour, &quiet{})
	subscribe(t, full, "x", 2)
	subscribe(t, other, "y", 1)
	e.Limit("a", quota.Limits{}.With(quota.OrgQueue, 2))
	publish := func(topic, payload string) chan error {
		got := make(chan error, 1)
		go pub.Publish(ctx, msg(t, topic, payload, 2), 7, func(err error) { got <- err })
		return got
	}
	if err := publishWait(e, msg(t, "x", "first", 1)); err != nil {
		t.Fatal(err)
	}
	late := publish("x", "stop")
	<-g.stopped // when it was looked, there was no room in the session
	got, err := full.Read(ctx, 0, make([]engine.Entry, 0, 1))
	if err != nil || len(got) != 1 {
		t.Fatalf("read %v, %v", got, err)
	}
	full.Ack(got[0].Offset)
	subscribe(t, full, "z", 1) // the loop has done it then
	for range 2 {
		if err := publishWait(e, msg(t, "y", "more", 1)); err != nil {
			t.Fatal(err)
		}
	}
	close(g.open) // now there is, and none in the organisation
	if l, _, ok := quota.ExceededBy(<-late); !ok || l != quota.OrgQueue {
		t.Fatalf("refused by %v, %v", l, ok)
	}
	e.Limit("a", quota.Limits{})
	if err := <-publish("x", "another"); err != nil {
		t.Fatal(err)
	}
	if all := payloads(t, full); len(all) != 1 || all[0] != "another" {
		t.Errorf("kept %q", all)
	}
	// From now on it is taken.
	if err := <-publish("x", "again"); err != nil {
		t.Fatal(err)
	}
	if st, err := e.Stats(ctx, "a"); err != nil || st.Queued != 3 {
		t.Errorf("stats %+v, %v", st, err)
	}
}

// What was under way when its organisation was dropped is sealed with a key that
// is gone: it is not kept.
func TestDropUnderWay(t *testing.T) {
	ctx := context.Background()
	mem := vfs.NewMem()
	g := newGate()
	e := open(t, g.options(mem))
	m := msg(t, "t", "stop", 1)
	m.Retain = true
	got := make(chan error, 1)
	go e.Publish(ctx, m, func(err error) { got <- err })
	<-g.stopped
	if err := e.Drop(ctx, auth.Principal{Org: "a", Kind: auth.AnyKind}); err != nil {
		t.Fatal(err)
	}
	close(g.open)
	if err := <-got; !errors.Is(err, engine.ErrDropped) {
		t.Errorf("publish: %v", err)
	}
	if st, err := e.Stats(ctx, "a"); err != nil || st != (engine.Stats{}) {
		t.Errorf("stats %+v, %v", st, err)
	}
	m.Payload = []byte("later")
	if err := publishWait(e, m); err != nil {
		t.Error(err)
	}
	if st, err := e.Stats(ctx, "a"); err != nil || st.Retained != 1 {
		t.Errorf("stats %+v, %v", st, err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if got := e.Waiting(); got != "" {
		t.Error(got)
	}
	if err := embedded.CheckStore(mem, "data"); err != nil {
		t.Error(err)
	}
}
