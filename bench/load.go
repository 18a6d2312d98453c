package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// smallPayload and largePayload are the sizes of messages. Each begins with the
// number of the sender (4 bytes), of the slot (4 bytes) and the time of sending (8 bytes).
const (
	smallPayload = 128
	largePayload = 4 << 10
)

// A shape says who publishes and who receives.
type shape struct {
	name       string // begins the client identifiers, so that one broker may have two loads
	pubs, subs int
	qos        byte
	window     int // messages of one sender that may be under way
	size       int // of a payload
	// copies is how many subscribers get one message; 0: none are connected.
	copies int
	topic  func(pub int) string
	filter func(sub int) string
	retain bool
	// vary is how many topics each sender publishes to in turn; 0: one. Its topic
	// ends in six digits then, which count from 0.
	vary int
}

// A load is a set of connections in a shape, to one broker. Every message has
// a slot that counts what is still to come for it: its deliveries, and its
// acknowledgement with QoS 1. A slot is used again only after it has reached
// zero, so that nothing is dropped for want of room, and what is lost is known.
type load struct {
	shape     shape
	broker    *Broker
	senders   []*sender
	receivers []*receiver
	base      time.Time
	from, to  atomic.Int64 // latency counts for messages sent within, in ns since base
	fail      context.CancelCauseFunc
	ctx       context.Context
	readers   sync.WaitGroup
	extra     atomic.Int64 // deliveries of messages that were complete, or acknowledgements
}

// A sender publishes. Only one goroutine at a time sends.
type sender struct {
	c      *client
	load   *load
	packet []byte // one PUBLISH, patched for each message
	id     int    // where its packet identifier is; 0 with QoS 0
	head   int    // where its payload is
	digits int    // where its topic ends, but for six digits
	turn   int    // which of its topics is next
	slots  []atomic.Int32
	next   int
	wake   chan struct{}
	acked  atomic.Int64
}

// A receiver counts what arrives.
type receiver struct {
	load    *load
	pub     mqtt.Publish
	count   atomic.Int64
	mu      sync.Mutex // guards latency
	latency []int64    // ns
}

// connectLoad opens all connections of a shape: receivers first.
func connectLoad(ctx context.Context, b *Broker, s shape) (*load, error) {
	l := &load{shape: s, broker: b, base: time.Now()}
	l.ctx, l.fail = context.WithCancelCause(ctx)
	connected := s.subs
	if s.copies == 0 {
		connected = 0
	}
	subs, err := b.open(ctx, connected, func(i int) (*client, error) {
		c, err := b.dial(ctx, i, fmt.Sprintf("%ssub-%d", s.name, i), true)
		if err != nil {
			return nil, err
		}
		return c, c.subscribe(s.filter(i), s.qos)
	})
	if err != nil {
		return nil, err
	}
	pubs, err := b.open(ctx, s.pubs, func(i int) (*client, error) {
		return b.dial(ctx, i, fmt.Sprintf("%spub-%d", s.name, i), true)
	})
	if err != nil {
		closeAll(subs)
		return nil, err
	}
	for _, c := range subs {
		r := &receiver{load: l}
		l.receivers = append(l.receivers, r)
		l.run(c, r)
	}
	for i, c := range pubs {
		p := newSender(l, c, i)
		l.senders = append(l.senders, p)
		l.run(c, p)
	}
	return l, nil
}

// run reads from c until it is closed.
func (l *load) run(c *client, h handler) {
	l.readers.Go(func() {
		if err := c.read(h); err != nil {
			l.fail(fmt.Errorf("%s ended a connection: %w", l.broker.Peer.Name(), err))
		}
	})
	context.AfterFunc(l.ctx, func() { c.leaving.Store(true); c.tls.NetConn().Close() })
}

// close ends all connections and waits for their readers.
func (l *load) close() {
	for _, p := range l.senders {
		p.c.leaving.Store(true)
		_ = p.c.leave()
	}
	l.fail(errClosed)
	l.readers.Wait()
}

var errClosed = errors.New("closed")

func newSender(l *load, c *client, i int) *sender {
	s := mqtt.Shared{Topic: l.shape.topic(i), Payload: make([]byte, l.shape.size)}
	binary.BigEndian.PutUint32(s.Payload, uint32(i))
	p := &sender{c: c, load: l, slots: make([]atomic.Int32, l.shape.window), wake: make(chan struct{}, 1)}
	p.packet = mqtt.AppendPublish(nil, version, &s, &mqtt.Delivery{QoS: l.shape.qos, Retain: l.shape.retain, PacketID: 1})
	p.head = len(p.packet) - l.shape.size
	p.digits = p.head - digits
	if l.shape.qos > 0 {
		p.id = p.head - 2
		p.digits -= 2
	}
	return p
}

// digits is how many of them a topic ends in that varies.
const digits = 6

// nextTopic has packet go to the sender's next topic.
func (p *sender) nextTopic() {
	n := p.turn
	for i := digits - 1; i >= 0; i-- {
		p.packet[p.digits+i] = byte('0' + n%10)
		n /= 10
	}
	p.turn = (p.turn + 1) % p.load.shape.vary
}

// put makes packet the next message, if its slot is free.
func (p *sender) put(now int64) bool {
	slot := &p.slots[p.next]
	if slot.Load() > 0 {
		return false
	}
	if p.load.shape.vary > 0 {
		p.nextTopic()
	}
	due := p.load.shape.copies
	if p.id > 0 {
		binary.BigEndian.PutUint16(p.packet[p.id:], uint16(p.next+1))
		due++ // the acknowledgement
	}
	binary.BigEndian.PutUint32(p.packet[p.head+4:], uint32(p.next))
	binary.BigEndian.PutUint64(p.packet[p.head+8:], uint64(now))
	slot.Store(int32(due))
	p.next = (p.next + 1) % len(p.slots)
	return true
}

// write sends what put has made, and reports whether that worked. If it did
// not, the load ends. Each message is written alone, as the clients of the
// field do: a broker must not profit from batches that nobody makes.
func (p *sender) write() bool {
	_, err := p.c.tls.Write(p.packet)
	if err == nil {
		return true
	}
	if err = p.c.unlessLeaving(err); err != nil {
		p.load.fail(fmt.Errorf("%s takes no more: %w", p.load.broker.Peer.Name(), err))
	}
	return false
}

// saturate sends as fast as slots become free, until stop is closed.
func (p *sender) saturate(stop <-chan struct{}) {
	for {
		for p.put(int64(time.Since(p.load.base))) {
			if !p.write() {
				return
			}
			select {
			case <-stop:
				return
			default:
			}
		}
		select {
		case <-p.wake:
		case <-stop:
			return
		case <-p.load.ctx.Done():
			return
		}
	}
}

// part counts a delivery or an acknowledgement of the message in a slot.
func (p *sender) part(slot int) {
	switch n := p.slots[slot].Add(-1); {
	case n < 0:
		p.load.extra.Add(1)
	case n == 0:
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// handle counts an acknowledgement.
func (p *sender) handle(_ *client, h mqtt.Header, body []byte) error {
	if h.Type != mqtt.PUBACK {
		return fmt.Errorf("a publisher got %v", h.Type)
	}
	var a mqtt.Ack
	if err := a.Decode(h.Type, body, version); err != nil {
		return err
	}
	slot := int(a.PacketID) - 1
	if slot < 0 || slot >= len(p.slots) {
		return fmt.Errorf("acknowledgement of packet %d, which was not sent", a.PacketID)
	}
	p.acked.Add(1)
	p.part(slot)
	return nil
}

// handle counts a delivery and answers it.
func (r *receiver) handle(c *client, h mqtt.Header, body []byte) error {
	if h.Type != mqtt.PUBLISH {
		return fmt.Errorf("a subscriber got %v", h.Type)
	}
	if err := r.pub.Decode(h.Flags, body, version); err != nil {
		return err
	}
	l, m := r.load, r.pub.Payload
	if r.pub.QoS == 1 {
		c.out = (&mqtt.Ack{Type: mqtt.PUBACK, PacketID: r.pub.PacketID}).Append(c.out, version)
	}
	if len(m) != l.shape.size {
		return fmt.Errorf("a message of %d bytes, which was not sent", len(m))
	}
	i, slot, sent := binary.BigEndian.Uint32(m), binary.BigEndian.Uint32(m[4:]), int64(binary.BigEndian.Uint64(m[8:]))
	if int(i) >= len(l.senders) || int(slot) >= l.shape.window {
		return fmt.Errorf("a message of sender %d in slot %d, which was not sent", i, slot)
	}
	if sent >= l.from.Load() && sent < l.to.Load() {
		took := int64(time.Since(l.base)) - sent
		r.mu.Lock()
		r.latency = append(r.latency, took)
		r.mu.Unlock()
	}
	r.count.Add(1)
	l.senders[i].part(int(slot))
	return nil
}

// delivered is how many messages all receivers have got; without receivers,
// how many the broker has acknowledged.
func (l *load) delivered() (n int64) {
	for _, r := range l.receivers {
		n += r.count.Load()
	}
	if l.shape.copies == 0 {
		for _, p := range l.senders {
			n += p.acked.Load()
		}
	}
	return n
}

// missing is how many deliveries and acknowledgements are still to come.
func (l *load) missing() (n int64) {
	for _, p := range l.senders {
		for i := range p.slots {
			n += int64(max(0, p.slots[i].Load()))
		}
	}
	return n
}

// patience is how long the load waits for a delivery before it counts what is
// missing as lost.
const patience = 3 * time.Second

// drain waits until nothing is under way, or nothing has come for a while. It
// returns what is lost and makes all slots free.
func (l *load) drain() (int64, error) {
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	last, since := int64(-1), time.Now()
	for {
		n := l.missing()
		if n != last {
			last, since = n, time.Now()
		}
		if n == 0 || time.Since(since) > patience {
			break
		}
		select {
		case <-poll.C:
		case <-l.ctx.Done():
			return n, context.Cause(l.ctx)
		}
	}
	for _, p := range l.senders {
		for i := range p.slots {
			p.slots[i].Store(0)
		}
	}
	return last, nil
}
