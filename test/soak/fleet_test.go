package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/keepmq/keepmq/internal/client"
	"github.com/keepmq/keepmq/internal/mqtt"
)

// patience bounds what should happen soon, on a busy machine.
const patience = time.Minute

// lifetime is how long a connection lives, on average.
const lifetime = 2 * time.Minute

// A fleet is the well-behaved clients. Half of them have sessions that go on;
// they receive, and all publish to them.
type fleet struct {
	w       *world
	members []*member
	readers []*member // those with a persistent session
	numbers atomic.Int64

	stopping atomic.Bool // nobody publishes or disconnects any more
	leaving  atomic.Bool
	wg       sync.WaitGroup

	phase    atomic.Pointer[latencies] // nil: nobody looks
	pending  atomic.Int64              // publishes without an answer
	acked    [3]atomic.Int64
	received atomic.Int64
	refused  atomic.Int64 // publishes
	redialed atomic.Int64
	failed   atomic.Int64 // dials
}

// A member is one client, over all its connections.
type member struct {
	f          *fleet
	id         int
	persistent bool
	cfg        client.Config
	rnd        *rand.Rand
	ready      chan struct{} // closed when it is subscribed
	once       sync.Once

	conns      int  // of live only
	subscribed bool // of live only
	online     atomic.Bool

	mu    sync.Mutex // guards the fields below
	owed  map[int64]byte
	got   map[int64]int
	last  map[stream]int64
	wrong []string
}

// A stream is what must come in order: one publisher's messages of one QoS.
type stream struct {
	from int
	qos  byte
}

func (w *world) newFleet(r *rand.Rand) *fleet {
	f := &fleet{w: w}
	for i := range *clients {
		m := &member{
			f: f, id: i, persistent: i%2 == 0, rnd: rand.New(rand.NewPCG(r.Uint64(), uint64(i))), ready: make(chan struct{}),
			owed: map[int64]byte{}, got: map[int64]int{}, last: map[stream]int64{},
		}
		m.cfg = client.Config{
			Address: w.address, TLS: w.s.TLS(), Version: []mqtt.Version{mqtt.V5, mqtt.V311}[i/2%2],
			ClientID: fmt.Sprintf("%s-%d", w.run, i), Username: w.org + "/fleet", Password: w.password,
			CleanStart: !m.persistent, KeepAlive: time.Minute, Session: new(client.Session), ReceiveMaximum: 50, Buffer: 50,
		}
		if m.persistent {
			m.cfg.SessionExpiry = time.Hour
			f.readers = append(f.readers, m)
		}
		f.members = append(f.members, m)
	}
	return f
}

func (m *member) topic() string { return fmt.Sprintf("%s/%d", m.f.w.run, m.id) }

// connect has everybody connect, and returns when all are subscribed.
func (f *fleet) connect() {
	for _, m := range f.members {
		f.wg.Go(m.live)
	}
	deadline := time.After(patience)
	for _, m := range f.members {
		select {
		case <-m.ready:
		case <-deadline:
			f.w.t.Fatalf("client %d is not connected after %v; %d dials failed", m.id, patience, f.failed.Load())
		}
	}
}

// live runs one client until the fleet leaves.
func (m *member) live() {
	for !m.f.leaving.Load() {
		c, err := client.Dial(context.Background(), m.cfg)
		if err != nil {
			if m.f.failed.Add(1) < 5 {
				m.f.w.t.Logf("client %d: %v", m.id, err)
			}
			m.wait(time.Duration(200+m.rnd.IntN(800)) * time.Millisecond)
			continue
		}
		m.conns++
		if err := m.serve(c); err != nil {
			c.Abort()
			if m.f.redialed.Add(1) < 20 {
				m.f.w.t.Logf("client %d, connection %d: broken: %v", m.id, m.conns, err)
			}
		}
	}
}

// wait waits, but not when the fleet leaves.
func (m *member) wait(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end) && !m.f.leaving.Load(); {
		t := time.NewTimer(min(time.Until(end), 100*time.Millisecond))
		<-t.C
	}
}

// serve is one connection. It returns nil if it was closed on purpose.
func (m *member) serve(c *client.Client) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if m.subscribed && !c.Server().SessionPresent {
		m.fault("connection %d: its session is gone", m.conns)
	}
	// A session may be there although no CONNACK ever told so.
	if m.persistent && !m.subscribed {
		codes, err := c.Subscribe(ctx, mqtt.Subscription{Filter: m.topic() + "/#", QoS: 2})
		if err != nil || codes[0].IsError() {
			return fmt.Errorf("subscribe: %v, %w", codes, err)
		}
		m.subscribed = true
	}
	m.once.Do(func() { close(m.ready) })
	m.online.Store(true)
	defer m.online.Store(false)
	var wg sync.WaitGroup
	wg.Go(func() { m.receive(c) })
	defer wg.Wait()

	until := time.Now().Add(time.Duration(m.rnd.ExpFloat64() * float64(lifetime)))
	every := time.Duration(float64(time.Second) * float64(len(m.f.members)) / float64(*rate))
	tick := min(every, 200*time.Millisecond) // it publishes at so many of them as to keep the rate
	for {
		select {
		case <-time.After(tick/2 + time.Duration(m.rnd.Int64N(int64(tick)))):
		case <-c.Done():
			return c.Err()
		}
		switch {
		case m.f.leaving.Load():
			return m.end(c, false)
		case m.f.stopping.Load():
		case time.Now().After(until):
			cut := m.rnd.IntN(2) == 0
			err := m.end(c, cut)
			m.wait(time.Duration(m.rnd.IntN(3000)) * time.Millisecond)
			return err
		case m.rnd.Float64() < float64(tick)/float64(every):
			if err := m.publish(ctx, c); err != nil {
				return err
			}
		}
	}
}

func (m *member) end(c *client.Client, cut bool) error {
	if cut {
		c.Abort()
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = c.Close(ctx) // the server may have been first
	return nil
}

// publish sends one message to a reader. What is acknowledged is owed.
func (m *member) publish(ctx context.Context, c *client.Client) error {
	to := m.f.readers[m.rnd.IntN(len(m.f.readers))]
	if m.f.phase.Load() == nil {
		return nil
	}
	qos := byte(m.rnd.IntN(3))
	n := m.f.numbers.Add(1)
	payload := fmt.Appendf(nil, "%d %d %d %d %0*d", m.id, n, qos, time.Now().UnixNano(), 20+m.rnd.IntN(400), 0)
	m.f.pending.Add(1)
	err := c.PublishAsync(ctx, client.Message{Topic: fmt.Sprintf("%s/%d", to.topic(), qos), Payload: payload, QoS: qos}, func(err error) {
		defer m.f.pending.Add(-1)
		switch {
		case err == nil:
			m.f.acked[qos].Add(1)
			if qos > 0 {
				to.owe(n, qos)
			}
		case c.Err() == nil:
			m.f.refused.Add(1)
		}
	})
	if err != nil {
		m.f.pending.Add(-1)
	}
	return err
}

func (m *member) owe(n int64, qos byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.owed[n] = qos
}

// receive takes messages until the connection ends.
func (m *member) receive(c *client.Client) {
	began := time.Now()
	for {
		msg, err := c.Receive(context.Background())
		if err != nil {
			return
		}
		now := time.Now()
		var from int
		var n, sent int64
		var qos byte
		if _, err := fmt.Sscan(string(msg.Payload), &from, &n, &qos, &sent); err != nil {
			m.fault("a message that nobody sent: %.40q", msg.Payload)
			continue
		}
		m.f.received.Add(1)
		if p := m.f.phase.Load(); p != nil && began.UnixNano() < sent {
			p.add(now.Sub(time.Unix(0, sent)))
		}
		m.take(from, n, qos, &msg)
	}
}

// take notes a message and what is wrong with it.
func (m *member) take(from int, n int64, qos byte, msg *client.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.got[n]++
	s := stream{from, qos}
	switch {
	case m.got[n] > 1 && qos != 1:
		m.wrong = append(m.wrong, fmt.Sprintf("message %d with QoS %d came %d times", n, qos, m.got[n]))
	case m.got[n] > 1:
	case n < m.last[s]:
		m.wrong = append(m.wrong, fmt.Sprintf("message %d of client %d came after %d", n, from, m.last[s]))
	default:
		m.last[s] = n
	}
	if msg.QoS != qos {
		m.wrong = append(m.wrong, fmt.Sprintf("message %d with QoS %d came with QoS %d", n, qos, msg.QoS))
	}
}

func (m *member) fault(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wrong = append(m.wrong, fmt.Sprintf(format, args...))
}

// live has everybody publish for a while and returns what was measured.
func (f *fleet) live(name string, d time.Duration) *latencies {
	p := &latencies{name: name}
	f.phase.Store(p)
	t := time.NewTimer(d)
	<-t.C
	f.phase.Store(nil)
	return p
}

// drain lets everybody stay connected until all that is owed has come. If it does
// not, the server ends with a dump of what it is doing.
func (f *fleet) drain() {
	f.stopping.Store(true)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		pending, missing := f.pending.Load(), 0 // in this order: an answer makes a debt first
		for _, m := range f.readers {
			missing += m.missing()
		}
		if missing == 0 && pending == 0 {
			return
		}
		t := time.NewTimer(200 * time.Millisecond)
		<-t.C
	}
	f.check()
	if err := syscall.Kill(f.w.s.PID(), syscall.SIGQUIT); err != nil {
		f.w.t.Error(err)
	}
	<-time.After(5 * time.Second) // to write it
	f.w.t.Fatalf("not all that is owed came within %v; %d publishes have no answer", patience, f.pending.Load())
}

func (m *member) missing() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.owed {
		if m.got[k] == 0 {
			n++
		}
	}
	return n
}

// leave has everybody disconnect and discards the sessions.
func (f *fleet) leave() {
	f.leaving.Store(true)
	f.wg.Wait()
	work := make(chan *member)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for m := range work {
				m.discard()
			}
		})
	}
	for _, m := range f.readers {
		work <- m
	}
	close(work)
	wg.Wait()
}

func (m *member) discard() {
	cfg := m.cfg
	cfg.CleanStart, cfg.SessionExpiry = true, 0
	for range 20 {
		if c, err := client.Dial(context.Background(), cfg); err == nil {
			_ = m.end(c, false)
			return
		}
	}
	m.fault("its session could not be discarded")
}

// check reports what was lost, came twice or out of order.
func (f *fleet) check() {
	faults := 0
	for _, m := range f.readers {
		if n := m.missing(); n > 0 {
			f.w.t.Errorf("client %d, version %v, %d connections, misses %d messages and has %d", m.id, m.cfg.Version, m.conns, n, len(m.got))
		}
		for k, qos := range m.owed {
			if m.got[k] == 0 {
				m.wrong = append(m.wrong, fmt.Sprintf("message %d with QoS %d was acknowledged and never came", k, qos))
			}
		}
		for _, what := range m.wrong {
			if faults++; faults <= 20 {
				f.w.t.Errorf("client %d: %s", m.id, what)
			}
		}
	}
	if faults > 20 {
		f.w.t.Errorf("%d faults in all", faults)
	}
	if f.acked[1].Load() == 0 || f.acked[2].Load() == 0 || f.received.Load() == 0 {
		f.w.t.Errorf("there was no load: %s", f.total())
	}
}

func (f *fleet) total() string {
	return fmt.Sprintf("acknowledged %d with QoS 1 and %d with QoS 2, sent %d with QoS 0, received %d; refused %d, dials failed %d, connections broken %d",
		f.acked[1].Load(), f.acked[2].Load(), f.acked[0].Load(), f.received.Load(), f.refused.Load(), f.failed.Load(), f.redialed.Load())
}
