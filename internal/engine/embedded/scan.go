package embedded

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keepmq/keepmq/internal/engine"
)

// A scan queues the retained messages that one new subscription of a persistent
// session asks for. It begins as the subscription takes effect.
//
// The subscriber's goroutine finds the topics; the loop decides about each, and
// looks then for what is retained at that moment. So that nothing overtakes a
// retained message while the scan goes on, whatever the loop queues for the
// session in the meantime has the topic decided first.
type scan struct {
	h      *handle
	sub    engine.Subscription
	ids    []uint32
	became *engine.Subscribed // of the loop, until the scans have ended

	// Of the loop.
	done map[string]struct{} // topics that were decided out of turn
	upto string              // all topics up to this one are decided
	err  error               // the first that nobody was told yet
}

// A keptMessage is a retained message as it goes into a queue.
type keptMessage struct {
	number  uint64
	qos     byte
	size    int64
	expires int64
	sealed  []byte
}

// What the loop decides about at a time.
const (
	scanChunk      = 64
	scanChunkBytes = 256 << 10
)

func newScan(h *handle, sub engine.Subscription, became *engine.Subscribed) *scan {
	c := &scan{h: h, sub: sub, became: became, done: map[string]struct{}{}}
	if sub.ID != 0 {
		c.ids = []uint32{sub.ID}
	}
	return c
}

// run finds the topics and has the loop decide about them.
func (c *scan) run(ctx context.Context) error {
	o := c.h.s.o
	done, err := o.e.read()
	if err != nil {
		return err
	}
	defer done()
	pending := o.pendingRetained(c.sub.Filter)
	part := &decision{scan: c, early: true}
	for name := range pending {
		if err := part.add(ctx, name, keptMessage{}); err != nil {
			return err
		}
	}
	if err := part.send(ctx); err != nil {
		return err
	}
	part = &decision{scan: c}
	err = o.walkRetained(ctx, c.sub.Filter, pending, millis(o.e.now()), func(r sealedRecord, m *engine.Message) error {
		return part.add(ctx, m.Topic.String(), keptMessage{r.message, m.QoS, sizeOf(m), r.expires, slices.Clone(r.sealed)})
	})
	if err != nil {
		return err
	}
	return part.send(ctx)
}

// A decision is about a chunk of topics.
type decision struct {
	waiter
	scan  *scan
	early bool // they are not in the order of the scan
	names []string
	found []keptMessage // of each, if it is still the one that is retained
	cost  int
}

// add adds a topic, and sends those before it if there are enough.
func (d *decision) add(ctx context.Context, name string, m keptMessage) error {
	d.names, d.found = append(d.names, name), append(d.found, m)
	d.cost += 256 + len(name) + len(m.sealed)
	if len(d.names) < scanChunk && d.cost < scanChunkBytes {
		return nil
	}
	return d.send(ctx)
}

// send has the loop decide about the topics added, and forgets them.
func (d *decision) send(ctx context.Context) error {
	if len(d.names) == 0 {
		return nil
	}
	o := d.scan.h.s.o
	l := o.e.loop
	if err := l.admit(ctx, o, d.cost, nil); err != nil {
		return err
	}
	op := *d
	op.waiter = newWaiter()
	*d = decision{scan: d.scan, early: d.early}
	err := l.do(ctx, &op, op.waiter)
	if errors.Is(err, engine.ErrClosed) {
		l.readmit(o, op.cost) // no matter if it ran after all: no one is admitted any more
	}
	return err
}

func (d *decision) run(l *loop) {
	l.building.charge(d.scan.h.s.o, d.cost)
	c := d.scan
	for i, name := range d.names {
		if !c.decided(name) {
			c.decide(l, name, &d.found[i])
		}
		if d.early {
			c.done[name] = struct{}{}
		} else {
			delete(c.done, name)
			c.upto = name
		}
	}
	err := c.err
	if !c.h.held() {
		err = engine.ErrLost
	}
	d.result <- err
}

func (c *scan) decided(name string) bool {
	_, ok := c.done[name]
	return ok || name <= c.upto
}

// precede decides about the topic of a publication that is about to be queued.
func (c *scan) precede(l *loop, p *publication) {
	name := p.topic.String()
	if !c.sub.Filter.Match(p.topic) || c.decided(name) {
		return
	}
	if !p.retains { // otherwise it takes the place of what was retained
		c.decide(l, name, nil)
	}
	c.done[name] = struct{}{}
}

// decide queues the retained message of a topic, if there is one.
func (c *scan) decide(l *loop, name string, found *keptMessage) {
	s := c.h.s
	if !c.h.held() || c.err != nil {
		return
	}
	if c.err = l.e.health.refusal(); c.err != nil {
		return
	}
	m, err := c.retained(name, found)
	if err != nil {
		c.err = fmt.Errorf("read retained message: %w", err)
		return
	}
	qos := min(m.qos, c.sub.QoS) // [MQTT-3.8.4-8]
	switch {
	case m.number == 0 || m.expires != 0 && m.expires <= millis(l.e.now()):
	case qos == 0:
		c.became.Direct++
	case c.became.LeftOut > 0 || !s.hasRoom(m.size):
		c.became.LeftOut++
	default:
		e := entryRecord{qos: qos, retain: true, ids: c.ids, sealed: m.sealed}
		e.meta = meta{message: m.number, inline: true, size: m.size, expires: m.expires}
		c.became.Last = l.queueEntry(s, &e)
		l.wait(&queued{s, c.became.Last})
	}
}

// retained returns what is retained for a topic now; its number is 0 if that is
// nothing, or goes to the session anyway.
func (c *scan) retained(name string, found *keptMessage) (m keptMessage, err error) {
	o := c.h.s.o
	o.retained.Lock()
	p := o.retained.pending[name]
	o.retained.Unlock()
	if p != nil && !p.refused {
		if len(p.message.Payload) == 0 || p.keptFor(c.h.s) {
			return m, nil
		}
		return keptMessage{p.number, p.qos, p.size, p.expires, p.sealed}, nil
	}
	v, closer, err := o.e.db.Get(retainedKey(nil, o.id, name))
	if errors.Is(err, pebble.ErrNotFound) {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	defer closer.Close()
	r, err := parseSealed(v)
	if err != nil {
		return m, err
	}
	if found != nil && found.number == r.message {
		return *found, nil
	}
	if o.sealer.Load() == nil {
		return m, errors.New("the organisation's key is not known any more")
	}
	full, err := o.unseal(context.Background(), r.message, r.sealed)
	if err != nil {
		return m, err
	}
	return keptMessage{r.message, full.QoS, sizeOf(full), r.expires, slices.Clone(r.sealed)}, nil
}

// keptFor reports whether a session queues the publication.
func (p *publication) keptFor(s *session) bool {
	return slices.ContainsFunc(p.kept, func(t target) bool { return t.s == s })
}

// queued makes an entry visible when it is durable.
type queued struct {
	s      *session
	offset engine.Offset
}

func (q *queued) finish(l *loop, err error) {
	if err == nil {
		q.s.visible(recent{offset: q.offset}, false)
		l.wakeUp(q.s)
	}
}

// endScans ends the scans of a holder. Its result comes when what they queued
// is durable.
type endScans struct {
	waiter
	h *handle
}

func (c *endScans) run(l *loop) {
	s := c.h.s
	var err error
	if len(s.scans) > 0 && s.scans[0].h == c.h {
		for _, c := range s.scans {
			err = errors.Join(err, c.err)
		}
		s.scans = nil
	}
	switch {
	case !c.h.held():
		c.result <- engine.ErrLost
	case err != nil:
		c.result <- err
	default:
		l.wait(c)
	}
}
