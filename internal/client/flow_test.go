package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
)

// acknowledge answers every packet as a server does until the client leaves.
func acknowledge(p *peer, seen func(*mqtt.Publish)) {
	for {
		switch pkt := p.read().(type) {
		case nil, *mqtt.Disconnect:
			return
		case *mqtt.Publish:
			if seen != nil {
				seen(pkt)
			}
			switch pkt.QoS {
			case 1:
				p.write(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: pkt.PacketID})
			case 2:
				p.write(&mqtt.Ack{Type: mqtt.PUBREC, PacketID: pkt.PacketID})
			}
		case *mqtt.Ack:
			if pkt.Type == mqtt.PUBREL {
				p.write(&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: pkt.PacketID})
			}
		case *mqtt.Subscribe:
			codes := make([]mqtt.ReasonCode, len(pkt.Subscriptions))
			for i, s := range pkt.Subscriptions {
				if codes[i] = mqtt.ReasonCode(s.QoS); s.Filter == "forbidden" {
					codes[i] = mqtt.NotAuthorized
				}
			}
			p.write(&mqtt.Suback{PacketID: pkt.PacketID, Codes: codes})
		case *mqtt.Unsubscribe:
			p.write(&mqtt.Unsuback{PacketID: pkt.PacketID, Codes: make([]mqtt.ReasonCode, len(pkt.Filters))})
		}
	}
}

func TestPublishMany(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		t.Run(v.String(), func(t *testing.T) {
			var mu sync.Mutex
			seen := map[string]int{}
			cfg := serve(t, func(p *peer) {
				p.accept(&mqtt.Connack{Properties: mqtt.Properties{ReceiveMaximum: mqtt.Some[uint16](3)}})
				acknowledge(p, func(m *mqtt.Publish) {
					mu.Lock()
					defer mu.Unlock()
					seen[string(m.Payload)]++
				})
			})
			cfg.Version, cfg.CleanStart = v, true
			c := dial(t, cfg)
			var wg sync.WaitGroup
			for g := range 20 {
				wg.Go(func() {
					for i := range 20 {
						m := Message{Topic: "a/b", Payload: fmt.Appendf(nil, "%d-%d", g, i), QoS: byte((g + i) % 3)}
						if err := c.Publish(testContext(t), m); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			if err := c.Close(testContext(t)); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(seen) != 400 {
				t.Errorf("the server saw %d messages", len(seen))
			}
		})
	}
}

// TestReceiveMaximum: no more publishes are in flight than the server allows.
func TestReceiveMaximum(t *testing.T) {
	arrived, answer := make(chan uint16, 10), make(chan struct{})
	cfg := serve(t, func(p *peer) {
		p.accept(&mqtt.Connack{Properties: mqtt.Properties{ReceiveMaximum: mqtt.Some[uint16](2)}})
		var ids []uint16
		for range 2 {
			ids = append(ids, expect[*mqtt.Publish](p).PacketID)
			arrived <- ids[len(ids)-1]
		}
		<-answer
		p.write(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: ids[0]})
		arrived <- expect[*mqtt.Publish](p).PacketID
		p.read()
	})
	c := dial(t, cfg)
	nothing := func(error) {}
	for range 2 {
		if err := c.PublishAsync(testContext(t), Message{Topic: "a", QoS: 1}, nothing); err != nil {
			t.Fatal(err)
		}
	}
	<-arrived
	<-arrived
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := c.PublishAsync(short, Message{Topic: "a", QoS: 1}, nothing); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("third publish: %v", err)
	}
	close(answer)
	if err := c.PublishAsync(testContext(t), Message{Topic: "a", QoS: 1}, nothing); err != nil {
		t.Error(err)
	}
	<-arrived
}

func TestPublishRefused(t *testing.T) {
	cfg := serve(t, func(p *peer) {
		p.accept(&mqtt.Connack{Properties: mqtt.Properties{ReceiveMaximum: mqtt.Some[uint16](1), MaximumPacketSize: mqtt.Some[uint32](100)}})
		for {
			m, ok := p.read().(*mqtt.Publish)
			if !ok {
				return
			}
			a := &mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID, Code: mqtt.NotAuthorized, ReasonString: mqtt.Some("not yours")}
			if m.QoS == 2 {
				a.Type = mqtt.PUBREC
			}
			p.write(a)
		}
	})
	c := dial(t, cfg)
	for _, qos := range []byte{1, 2, 1, 2} { // each gives its quota back
		err := c.Publish(testContext(t), Message{Topic: "a", QoS: qos})
		var r *Refusal
		if !errors.As(err, &r) || r.Reason != "not yours" || errs.CodeOf(err) != errs.Denied {
			t.Errorf("QoS %d: %v", qos, err)
		}
	}
	for _, m := range []Message{{Topic: ""}, {Topic: "a/+"}, {Topic: "a", QoS: 3}, {Topic: "a", Payload: make([]byte, 100)}} {
		if err := c.Publish(testContext(t), m); errs.CodeOf(err) != errs.Invalid {
			t.Errorf("%q QoS %d: %v", m.Topic, m.QoS, err)
		}
	}
}

func TestSubscribe(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		cfg := serve(t, func(p *peer) { p.accept(&mqtt.Connack{}); acknowledge(p, nil) })
		cfg.Version = v
		c := dial(t, cfg)
		codes, err := c.Subscribe(testContext(t), mqtt.Subscription{Filter: "a/#", QoS: 2}, mqtt.Subscription{Filter: "b"})
		if err != nil || len(codes) != 2 || codes[0] != mqtt.GrantedQoS2 {
			t.Errorf("%v: %v %v", v, codes, err)
		}
		_, err = c.Subscribe(testContext(t), mqtt.Subscription{Filter: "forbidden"})
		var r *Refusal
		if !errors.As(err, &r) {
			t.Errorf("%v forbidden: %v", v, err)
		}
		if _, err := c.Unsubscribe(testContext(t), "a/#"); err != nil {
			t.Errorf("%v: %v", v, err)
		}
		if _, err := c.Subscribe(testContext(t)); errs.CodeOf(err) != errs.Invalid {
			t.Errorf("%v no filter: %v", v, err)
		}
	}
}

// TestAckAfterHandOver: a message is acknowledged by Receive, not by arriving.
func TestAckAfterHandOver(t *testing.T) {
	next := make(chan mqtt.Packet, 10)
	cfg := serve(t, func(p *peer) {
		p.accept(&mqtt.Connack{})
		p.write(
			&mqtt.Publish{Topic: []byte("a"), QoS: 1, PacketID: 1, Payload: []byte("one")},
			&mqtt.Publish{Topic: []byte("a"), QoS: 2, PacketID: 2, Payload: []byte("two")},
			&mqtt.Pingresp{})
		for pkt := p.read(); pkt != nil; pkt = p.read() {
			if a, ok := pkt.(*mqtt.Ack); ok && a.Type == mqtt.PUBREC {
				p.write(&mqtt.Ack{Type: mqtt.PUBREL, PacketID: a.PacketID})
			}
			next <- pkt
		}
	})
	c := dial(t, cfg)
	if err := c.Publish(testContext(t), Message{Topic: "marker"}); err != nil {
		t.Fatal(err)
	}
	if pkt, ok := (<-next).(*mqtt.Publish); !ok {
		t.Fatalf("acknowledged before Receive: %T", pkt)
	}
	for i, want := range []string{"one", "two"} {
		m, err := c.Receive(testContext(t))
		if err != nil || string(m.Payload) != want {
			t.Fatalf("got %q %v", m.Payload, err)
		}
		if a, ok := (<-next).(*mqtt.Ack); !ok || a.Type != []mqtt.Type{mqtt.PUBACK, mqtt.PUBREC}[i] {
			t.Errorf("answer to %s is %+v", want, a)
		}
	}
	if a, ok := (<-next).(*mqtt.Ack); !ok || a.Type != mqtt.PUBCOMP || a.Code != mqtt.Success {
		t.Errorf("answer to PUBREL is %+v", a)
	}
}

// TestQoS2AcrossConnections: what was handed out is not handed out again.
func TestQoS2AcrossConnections(t *testing.T) {
	var again atomic.Bool
	cfg := serve(t, func(p *peer) {
		dup := again.Swap(true)
		p.accept(&mqtt.Connack{SessionPresent: dup})
		p.write(
			&mqtt.Publish{Topic: []byte("a"), QoS: 2, PacketID: 9, Dup: dup, Payload: []byte("once")},
			&mqtt.Publish{Topic: []byte("a"), Payload: []byte("end")})
		for p.read() != nil {
		}
	})
	cfg.Session = new(Session)
	var got []string
	for range 2 {
		c := dial(t, cfg)
		for {
			m, err := c.Receive(testContext(t))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(m.Payload))
			if string(m.Payload) == "end" {
				break
			}
		}
		c.Abort()
	}
	if fmt.Sprint(got) != "[once end end]" {
		t.Errorf("got %v", got)
	}
}

func TestTopicAlias(t *testing.T) {
	cfg := serve(t, func(p *peer) {
		p.accept(&mqtt.Connack{})
		p.write(
			&mqtt.Publish{Topic: []byte("long/name"), TopicAlias: 2, SubscriptionIDs: []uint32{5}},
			&mqtt.Publish{TopicAlias: 2},
			&mqtt.Publish{TopicAlias: 1})
		p.read()
	})
	cfg.TopicAliasMaximum = 2
	c := dial(t, cfg)
	for range 2 {
		if m, err := c.Receive(testContext(t)); err != nil || m.Topic != "long/name" {
			t.Errorf("got %q %v", m.Topic, err)
		}
	}
	var e *mqtt.Error
	if err := waitEnd(t, c); !errors.As(err, &e) || e.Code != mqtt.ProtocolError {
		t.Errorf("unknown alias: %v", err)
	}
}

// TestSlowReceiver: a full buffer stops the reader and loses nothing.
func TestSlowReceiver(t *testing.T) {
	const n = 500
	cfg := serve(t, func(p *peer) {
		p.accept(&mqtt.Connack{})
		for i := range n {
			p.write(&mqtt.Publish{Topic: []byte("a"), Payload: fmt.Appendf(nil, "%d", i)})
		}
		p.read()
	})
	cfg.Buffer = 2
	c := dial(t, cfg)
	for i := range n {
		m, err := c.Receive(testContext(t))
		if err != nil || string(m.Payload) != fmt.Sprint(i) {
			t.Fatalf("message %d is %q %v", i, m.Payload, err)
		}
	}
}

func TestCloseWithFullBuffer(t *testing.T) {
	left := make(chan mqtt.Packet, 1)
	cfg := serve(t, func(p *peer) {
		p.accept(&mqtt.Connack{})
		for range 100 {
			p.write(&mqtt.Publish{Topic: []byte("a")})
		}
		left <- p.read()
	})
	cfg.Buffer = 1
	c := dial(t, cfg)
	if err := c.Close(testContext(t)); err != nil {
		t.Error(err)
	}
	if pkt, ok := (<-left).(*mqtt.Disconnect); !ok {
		t.Errorf("server read %T", pkt)
	}
}

func TestPostAndRelease(t *testing.T) {
	cfg := serve(t, func(p *peer) {
		p.accept(&mqtt.Connack{})
		acknowledge(p, func(m *mqtt.Publish) {
			if m.PacketID != 4711 || !m.Dup {
				p.t.Errorf("server read %+v", m)
			}
		})
	})
	c := dial(t, cfg)
	acks := make(chan Ack, 1)
	tell := func(a Ack) { acks <- a }
	m := Message{Topic: "a", QoS: 2}
	if err := c.Post(testContext(t), 4711, true, m, tell); err != nil {
		t.Fatal(err)
	}
	if a := <-acks; a.Type != mqtt.PUBREC || a.PacketID != 4711 {
		t.Errorf("got %+v", a)
	}
	if err := c.Post(testContext(t), 4711, true, m, tell); errs.CodeOf(err) != errs.Conflict {
		t.Errorf("post on a taken id: %v", err)
	}
	for _, id := range []uint16{4711, 12} { // the second was received on an earlier connection
		if err := c.Release(testContext(t), id, tell); err != nil {
			t.Fatal(err)
		}
		if a := <-acks; a.Type != mqtt.PUBCOMP || a.PacketID != id {
			t.Errorf("got %+v", a)
		}
	}
	if err := c.Post(testContext(t), 4711, true, m, tell); err != nil {
		t.Errorf("post on a released id: %v", err)
	}
	<-acks
	for _, bad := range []Message{{Topic: "a"}, {Topic: "#", QoS: 1}} {
		if err := c.Post(testContext(t), 1, false, bad, tell); errs.CodeOf(err) != errs.Invalid {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// TestUnknownAnswers: answers to nothing end nothing.
func TestUnknownAnswers(t *testing.T) {
	answered := make(chan struct{})
	cfg := serve(t, func(p *peer) {
		p.accept(&mqtt.Connack{})
		p.write(
			&mqtt.Ack{Type: mqtt.PUBACK, PacketID: 1}, &mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: 1},
			&mqtt.Suback{PacketID: 1, Codes: []mqtt.ReasonCode{0}}, &mqtt.Unsuback{PacketID: 1, Codes: []mqtt.ReasonCode{0}},
			&mqtt.Ack{Type: mqtt.PUBREC, PacketID: 1}, &mqtt.Ack{Type: mqtt.PUBREL, PacketID: 1})
		for _, want := range []mqtt.Type{mqtt.PUBREL, mqtt.PUBCOMP} {
			if a := expect[*mqtt.Ack](p); a == nil || a.Type != want || a.Code != mqtt.PacketIdentifierNotFound {
				p.t.Errorf("server read %+v", a)
			}
		}
		close(answered)
		acknowledge(p, nil)
	})
	c := dial(t, cfg)
	<-answered
	if err := c.Publish(testContext(t), Message{Topic: "a", QoS: 2}); err != nil {
		t.Error(err)
	}
}
