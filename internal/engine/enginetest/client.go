package enginetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/topic"
)

// patience is how long something may take that is promised to happen.
const patience = 30 * time.Second

// A client holds a session, and notes what it gets.
type client struct {
	t       *testing.T
	id      engine.SessionID
	session engine.Session
	claimed engine.Claimed
	after   engine.Offset

	wake chan struct{}
	lost chan error

	mu        sync.Mutex // guards what follows
	delivered []delivered
}

type delivered struct {
	topic, payload string
	engine.Delivery
}

// String is for messages of tests.
func (d delivered) String() string {
	return fmt.Sprintf("%s=%s qos%d retain=%v ids=%v", d.topic, d.payload, d.QoS, d.Retain, d.IDs)
}

func (c *client) Deliver(m *engine.Message, d engine.Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d.IDs = slices.Clone(d.IDs)
	slices.Sort(d.IDs)
	c.delivered = append(c.delivered, delivered{m.Topic.String(), string(m.Payload), d})
}

func (c *client) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *client) Lost(why error) { c.lost <- why }

// owner returns a principal of an organisation.
func owner(org, id string) auth.Principal {
	return auth.Principal{Org: auth.OrgID(org), Kind: auth.Device, ID: id}
}

func sid(org, client string) engine.SessionID {
	return engine.SessionID{Owner: owner(org, "dev:"+client), Client: client}
}

func newClient(t *testing.T, id engine.SessionID) *client {
	return &client{t: t, id: id, wake: make(chan struct{}, 1), lost: make(chan error, 8)}
}

// claim takes hold of a session; opts change the claim.
func claim(t *testing.T, e engine.Engine, id engine.SessionID, expiry time.Duration, opts ...func(*engine.Claim)) *client {
	t.Helper()
	c := newClient(t, id)
	k := engine.Claim{ID: id, Expiry: expiry, Sink: c}
	for _, o := range opts {
		o(&k)
	}
	var err error
	if c.claimed, err = e.Claim(context.Background(), k); err != nil {
		t.Fatalf("claim %v: %v", id, err)
	}
	c.session = c.claimed.Session
	return c
}

func clean(c *engine.Claim) { c.Clean = true }

func filter(t *testing.T, s string) topic.Filter {
	t.Helper()
	f, err := topic.ParseFilter(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func name(t *testing.T, s string) topic.Name {
	t.Helper()
	n, err := topic.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// subscribe subscribes and reports whether the subscription was there; opts
// change the subscription.
func (c *client) subscribe(f string, qos byte, opts ...func(*engine.Subscription)) bool {
	c.t.Helper()
	return c.subscribed(f, qos, opts...).Existed
}

// subscribed subscribes and returns what became of it.
func (c *client) subscribed(f string, qos byte, opts ...func(*engine.Subscription)) engine.Subscribed {
	c.t.Helper()
	s := engine.Subscription{Filter: filter(c.t, f), QoS: qos}
	for _, o := range opts {
		o(&s)
	}
	became, err := c.session.Subscribe(context.Background(), []engine.Subscription{s})
	if err != nil || len(became) != 1 {
		c.t.Fatalf("subscribe to %q: %v, %v", f, became, err)
	}
	return became[0]
}

func inGroup(g string) func(*engine.Subscription) {
	return func(s *engine.Subscription) { s.Group = g }
}

func withID(id uint32) func(*engine.Subscription) {
	return func(s *engine.Subscription) { s.ID = id }
}

func message(t *testing.T, org, topic, payload string, qos byte, opts ...func(*engine.Message)) *engine.Message {
	t.Helper()
	m := &engine.Message{
		Org: auth.OrgID(org), Topic: name(t, topic), Payload: []byte(payload), QoS: qos,
		From: auth.Principal{Org: auth.OrgID(org), Kind: auth.System, ID: "test"},
	}
	for _, o := range opts {
		o(m)
	}
	return m
}

func retain(m *engine.Message) { m.Retain = true }

func expires(at time.Time) func(*engine.Message) {
	return func(m *engine.Message) { m.Expires = at }
}

// result waits for a callback.
func result(t *testing.T, what string, call func(done func(error))) error {
	t.Helper()
	got := make(chan error, 2)
	call(func(err error) { got <- err })
	select {
	case err := <-got:
		return err
	case <-time.After(patience):
		t.Fatalf("%s: done is not called", what)
		return nil
	}
}

func (c *client) tryPublish(topic, payload string, qos byte, packetID uint16, opts ...func(*engine.Message)) error {
	c.t.Helper()
	m := message(c.t, string(c.id.Owner.Org), topic, payload, qos, opts...)
	return result(c.t, "publish", func(done func(error)) {
		c.session.Publish(context.Background(), m, packetID, done)
	})
}

func (c *client) publish(topic, payload string, qos byte, opts ...func(*engine.Message)) {
	c.t.Helper()
	if err := c.tryPublish(topic, payload, qos, 0, opts...); err != nil {
		c.t.Fatalf("publish to %q: %v", topic, err)
	}
}

// publish publishes without a session.
func publish(t *testing.T, e engine.Engine, org, topic, payload string, qos byte, opts ...func(*engine.Message)) {
	t.Helper()
	m := message(t, org, topic, payload, qos, opts...)
	err := result(t, "publish", func(done func(error)) { e.Publish(context.Background(), m, done) })
	if err != nil {
		t.Fatalf("publish to %q: %v", topic, err)
	}
}

// read reads all entries that were not read yet.
func (c *client) read() []engine.Entry {
	c.t.Helper()
	var all []engine.Entry
	for {
		got, err := c.session.Read(context.Background(), c.after, make([]engine.Entry, 0, 7))
		if err != nil {
			c.t.Fatalf("read after %d: %v", c.after, err)
		}
		if len(got) == 0 {
			return all
		}
		for _, e := range got {
			if e.Offset <= c.after {
				c.t.Fatalf("offset %d comes after %d", e.Offset, c.after)
			}
			c.after = e.Offset
			if e.Message == nil && !e.Released {
				c.t.Fatalf("entry %d has no message", e.Offset)
			}
		}
		all = append(all, got...)
	}
}

// wantRead reads all entries and compares their payloads.
func (c *client) wantRead(want ...string) []engine.Entry {
	c.t.Helper()
	all := c.read()
	var got []string
	for _, e := range all {
		if e.Message != nil {
			got = append(got, string(e.Message.Payload))
		}
	}
	if !slices.Equal(got, want) {
		c.t.Fatalf("%s read %q, want %q", c.id.Client, got, want)
	}
	return all
}

func (c *client) ack(all []engine.Entry) {
	for _, e := range all {
		c.session.Ack(e.Offset)
	}
}

// take returns what was delivered since the last time.
func (c *client) take() []delivered {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.delivered
	c.delivered = nil
	return d
}

// wantDelivered compares the payloads delivered since the last time.
func (c *client) wantDelivered(want ...string) []delivered {
	c.t.Helper()
	all := c.take()
	var got []string
	for _, d := range all {
		got = append(got, d.payload)
	}
	if !slices.Equal(got, want) {
		c.t.Fatalf("%s was delivered %q, want %q", c.id.Client, got, want)
	}
	return all
}

func (c *client) close(expiry time.Duration) {
	c.t.Helper()
	if err := c.session.Close(context.Background(), engine.Close{Expiry: expiry}); err != nil {
		c.t.Fatalf("close: %v", err)
	}
}

// wantWake waits until the sink is woken.
func (c *client) wantWake() {
	c.t.Helper()
	select {
	case <-c.wake:
	case <-time.After(patience):
		c.t.Fatalf("%s is not woken", c.id.Client)
	}
}

// wantLost waits until the sink is told that the session is lost.
func (c *client) wantLost() error {
	c.t.Helper()
	select {
	case why := <-c.lost:
		return why
	case <-time.After(patience):
		c.t.Fatalf("%s is not told that its session is lost", c.id.Client)
		return nil
	}
}

// settle waits until what nobody waits for is done: acknowledgements ride along
// with whatever is committed next.
func settle(t *testing.T, e engine.Engine) {
	t.Helper()
	c := claim(t, e, sid("settle", "settle"), time.Hour)
	c.close(0)
}

func retained(t *testing.T, e engine.Engine, org, f string) []string {
	t.Helper()
	var got []string
	for m, err := range e.Retained(context.Background(), auth.OrgID(org), filter(t, f)) {
		if err != nil {
			t.Fatalf("retained %q: %v", f, err)
		}
		if m.Org != auth.OrgID(org) {
			t.Fatalf("retained message of organisation %q in %q", m.Org, org)
		}
		got = append(got, m.Topic.String()+"="+string(m.Payload))
	}
	slices.Sort(got)
	return got
}

func wantRetained(t *testing.T, e engine.Engine, org, f string, want ...string) {
	t.Helper()
	if got := retained(t, e, org, f); !slices.Equal(got, want) {
		t.Fatalf("retained for %q: %q, want %q", f, got, want)
	}
}
