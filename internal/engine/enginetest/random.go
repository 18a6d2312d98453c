package enginetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/quota"
)

// TestRandom does random work with random crashes, and compares what comes out
// with a model. steps is how long each of seeds runs.
func TestRandom(t *testing.T, newStore func(t *testing.T) Store, seeds []uint64, steps int) {
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			w := &world{t: t, r: rand.New(rand.NewPCG(seed, seed)), store: newStore(t), topics: map[string]*published{}, promised: seed%2 == 0}
			w.run(steps)
		})
	}
}

// A world is the model: what has to be, and what may be.
type world struct {
	t        *testing.T
	r        *rand.Rand
	store    Store
	e        engine.Engine
	sessions []*modelSession
	topics   map[string]*published // the retained message that has to be there
	maybe    map[string][]string   // retained payloads that may be there as well, since the crash
	number   int
	promised bool // all retained messages are promised to be kept
	history  []string
}

// published is a message on its way.
type published struct {
	number  int
	topic   string
	payload string
	qos     byte
	retain  bool
	acked   bool // of the world, once the callbacks were collected
	refused bool // likewise: a limit was reached
}

// id tells messages apart, whatever their payload.
func (p *published) id() string { return fmt.Sprint("message ", p.number) }

// modelSession is what the model knows of a persistent session.
type modelSession struct {
	id      engine.SessionID
	c       *client // nil: not held
	subs    map[string]byte
	queue   []*modelEntry
	offsets map[engine.Offset]int // which message each offset ever stood for
	unread  int                   // how many of queue were not read since the claim
	exists  bool

	ends bool // when its queue is full
	full bool // it may have been, and the session may have ended
}

type modelEntry struct {
	*published
	offset   engine.Offset // 0: not known yet
	ended    bool          // acknowledged by the receiver: may be gone
	released bool          // durably
}

// modelQueue is what a session that ends may have in its queue.
const modelQueue = 25

var modelLimits = quota.Defaults().With(quota.OrgRetained, 3).With(quota.OrgQueue, 100).With(quota.OrgSessions, 4)

var modelTopics = []string{"a", "a/b", "a/c", "b"}
var modelFilters = []string{"a", "a/#", "+", "#", "a/+", "b"}

func (w *world) logf(format string, args ...any) {
	w.history = append(w.history, fmt.Sprintf(format, args...))
}

// failf reports a difference, with what led to it.
func (w *world) failf(format string, args ...any) {
	w.t.Helper()
	last := w.history[max(0, len(w.history)-40):]
	w.t.Fatalf("%s\nthe last steps:\n%s", fmt.Sprintf(format, args...), joinLines(last))
}

func joinLines(lines []string) (s string) {
	for _, l := range lines {
		s += "  " + l + "\n"
	}
	return s
}

func (w *world) run(steps int) {
	w.e = w.store.Open(w.t)
	for i := range 4 {
		w.sessions = append(w.sessions, &modelSession{id: sid("o", fmt.Sprint("s", i)), ends: i == 3})
	}
	w.e.Limit("o", modelLimits)
	for range steps {
		s := w.sessions[w.r.IntN(len(w.sessions))]
		switch n := w.r.IntN(100); {
		case n < 12:
			w.claim(s)
		case n < 18:
			w.close(s)
		case n < 28:
			w.subscribe(s)
		case n < 31:
			w.unsubscribe(s)
		case n < 60:
			w.publish(1+w.r.IntN(20), w.r.IntN(12) == 0)
		case n < 90:
			w.read(s)
		case n < 95:
			w.retained()
		case n < 97:
			w.restart(false)
		default:
			w.settle()
			w.restart(true)
		}
	}
	w.settle()
	w.restart(true)
	for _, s := range w.sessions {
		if s.exists {
			w.claim(s)
			w.read(s)
		}
	}
	w.retained()
	w.empty()
}

// bounded checks that there is no more than may be, and that as much is counted
// as there is.
func (w *world) bounded(retained int) {
	got := stats(w.t, w.e, "o")
	if got.Queued > modelLimits.Get(quota.OrgQueue) || got.Retained != int64(retained) || got.Retained > modelLimits.Get(quota.OrgRetained) {
		w.failf("stats %+v, %d retained", got, retained)
	}
}

// empty ends all there is: then nothing is counted.
func (w *world) empty() {
	for _, s := range w.sessions {
		if s.c != nil {
			s.c.close(0)
		} else {
			claim(w.t, w.e, s.id, 0, clean).close(0)
		}
	}
	for _, topic := range modelTopics {
		publish(w.t, w.e, "o", topic, "", 1, retain)
	}
	if got := stats(w.t, w.e, "o"); got != (engine.Stats{}) {
		w.failf("at the end there is %+v", got)
	}
}

// settle has everything kept that nobody waits for, half of the time: retained
// messages at QoS 0 are there then. In the other half there are none.
func (w *world) settle() {
	if !w.promised {
		settle(w.t, w.e)
	}
}

func (w *world) claim(s *modelSession) {
	clean := w.r.IntN(10) == 0
	w.logf("claim %s clean=%v", s.id.Client, clean)
	var opts []func(*engine.Claim)
	if s.ends {
		opts = append(opts, ends, queue(modelQueue))
	}
	if clean {
		opts = append(opts, func(c *engine.Claim) { c.Clean = true })
	}
	s.c = claim(w.t, w.e, s.id, time.Hour, opts...)
	if s.full && !s.c.claimed.Present {
		s.exists = false // it has ended
	}
	if present := s.exists && !clean; s.c.claimed.Present != present {
		w.failf("claim of %s: present %v, want %v", s.id.Client, s.c.claimed.Present, present)
	}
	s.full = false
	if !s.exists || clean {
		s.subs, s.queue, s.offsets = map[string]byte{}, nil, map[engine.Offset]int{}
	}
	s.exists = true
	s.unread = len(s.queue)
	got := map[string]byte{}
	for _, sub := range s.c.claimed.Subscriptions {
		got[sub.Filter.String()] = sub.QoS
	}
	if len(got) != len(s.subs) {
		w.failf("%s has subscriptions %v, want %v", s.id.Client, got, s.subs)
	}
	for f, q := range s.subs {
		if got[f] != q {
			w.failf("%s has subscriptions %v, want %v", s.id.Client, got, s.subs)
		}
	}
}

func (w *world) close(s *modelSession) {
	if s.c == nil {
		return
	}
	expiry := time.Hour
	if w.r.IntN(8) == 0 {
		expiry = 0
		s.exists, s.queue, s.subs = false, nil, nil
	}
	w.logf("close %s expiry=%v", s.id.Client, expiry)
	s.c.close(expiry)
	s.c = nil
}

func (w *world) subscribe(s *modelSession) {
	if s.c == nil {
		return
	}
	f, q := modelFilters[w.r.IntN(len(modelFilters))], byte(w.r.IntN(3))
	w.logf("subscribe %s to %s at %d", s.id.Client, f, q)
	_, had := s.subs[f]
	if s.c.subscribe(f, q) != had {
		w.failf("%s: subscription to %s existed: %v", s.id.Client, f, !had)
	}
	s.subs[f] = q
}

func (w *world) unsubscribe(s *modelSession) {
	if s.c == nil {
		return
	}
	f := modelFilters[w.r.IntN(len(modelFilters))]
	w.logf("unsubscribe %s from %s", s.id.Client, f)
	_, had := s.subs[f]
	existed, err := s.c.session.Unsubscribe(context.Background(), filter(w.t, f), "")
	if err != nil || existed != had {
		w.failf("unsubscribe %s from %s: %v, %v", s.id.Client, f, existed, err)
	}
	delete(s.subs, f)
}

// publish publishes n messages at once. If cut, the engine crashes while some of
// them may be on their way: then only those whose callback came have to be there.
func (w *world) publish(n int, cut bool) {
	if cut {
		w.settle()
	}
	var mu sync.Mutex
	var wait sync.WaitGroup
	acked, refused := map[int]bool{}, map[int]bool{}
	var all []*published
	for range n {
		w.number++
		p := &published{
			number: w.number, topic: modelTopics[w.r.IntN(len(modelTopics))], qos: byte(w.r.IntN(3)),
			payload: fmt.Sprint(w.number), retain: w.r.IntN(5) == 0,
		}
		if p.retain && w.promised {
			p.qos = max(p.qos, 1)
		}
		if p.retain && w.r.IntN(4) == 0 {
			p.payload = ""
		}
		all = append(all, p)
		m := message(w.t, "o", p.topic, p.payload, p.qos)
		m.Retain = p.retain
		m.From.ID = p.id()
		wait.Add(1)
		w.e.Publish(context.Background(), m, func(err error) {
			defer wait.Done()
			mu.Lock()
			defer mu.Unlock()
			if _, _, full := quota.ExceededBy(err); full {
				refused[p.number] = true
			} else if err == nil {
				acked[p.number] = true
			} else if !errors.Is(err, engine.ErrQueueFull) && !cut {
				w.t.Errorf("publish: %v", err)
			}
		})
	}
	w.logf("publish %d to %d, cut=%v", all[0].number, w.number, cut)
	if !cut {
		wait.Wait()
	}
	mu.Lock()
	for _, p := range all {
		p.acked, p.refused = acked[p.number], refused[p.number]
	}
	mu.Unlock()
	for _, p := range all {
		if !p.refused {
			w.route(p, cut)
		}
	}
	w.ended()
	if cut {
		w.restart(true)
		wait.Wait()
	}
}

// ended notes which sessions have ended because they were full, or may have.
func (w *world) ended() {
	for _, s := range w.sessions {
		if !s.exists || !s.ends || len(s.queue) <= modelQueue {
			continue
		}
		s.full = true
		if s.c == nil {
			continue
		}
		select {
		case why := <-s.c.lost:
			if !errors.Is(why, engine.ErrEnded) {
				w.failf("%s is lost: %v", s.id.Client, why)
			}
			w.logf("%s has ended", s.id.Client)
			s.c, s.exists, s.queue, s.subs = nil, false, nil, nil
		default:
		}
	}
}

// route puts a message where the model says it goes.
func (w *world) route(p *published, cut bool) {
	for _, s := range w.sessions {
		if !s.exists {
			continue
		}
		q, match := byte(0), false
		for f, sq := range s.subs {
			if filter(w.t, f).Match(name(w.t, p.topic)) {
				q, match = max(q, sq), true
			}
		}
		if match && min(q, p.qos) > 0 {
			s.queue = append(s.queue, &modelEntry{published: p})
			s.unread++
		}
	}
	if p.retain {
		if cut {
			if w.maybe == nil {
				w.maybe = map[string][]string{}
			}
			if old := w.topics[p.topic]; old != nil && len(w.maybe[p.topic]) == 0 {
				w.maybe[p.topic] = append(w.maybe[p.topic], old.payload)
			} else if old == nil && len(w.maybe[p.topic]) == 0 {
				w.maybe[p.topic] = append(w.maybe[p.topic], "")
			}
			if p.acked && p.qos > 0 {
				w.maybe[p.topic] = nil // nothing older
			}
			w.maybe[p.topic] = append(w.maybe[p.topic], p.payload)
		}
		w.topics[p.topic] = p
	}
}

// read reads some entries and ends some.
func (w *world) read(s *modelSession) {
	if s.c == nil {
		return
	}
	got, err := s.c.session.Read(context.Background(), s.c.after, make([]engine.Entry, 0, 1+w.r.IntN(30)))
	if err != nil {
		w.failf("read %s: %v", s.id.Client, err)
	}
	w.logf("read %s: %d entries after %d", s.id.Client, len(got), s.c.after)
	for _, en := range got {
		s.c.after = en.Offset
		e := w.expect(s, en)
		e.offset = en.Offset
		if w.r.IntN(3) > 0 {
			w.end(s, e, en)
		}
	}
	if len(got) == 0 {
		for _, e := range s.queue[len(s.queue)-s.unread:] {
			if e.acked && !e.ended {
				w.failf("%s: message %d was acknowledged and is not there", s.id.Client, e.number)
			}
		}
		s.unread = 0
	}
}

// expect finds the entry that was read in the model: everything before it that
// was acknowledged must have come before.
func (w *world) expect(s *modelSession, en engine.Entry) *modelEntry {
	rest := s.queue[len(s.queue)-s.unread:]
	for i, e := range rest {
		same := e.offset == en.Offset
		if e.offset == 0 && !en.Released {
			same = en.Message.From.ID == e.id()
		}
		if !same {
			if e.acked && !e.ended {
				w.failf("%s: read offset %d, but message %d (offset %d) comes first", s.id.Client, en.Offset, e.number, e.offset)
			}
			continue
		}
		if n, ok := s.offsets[en.Offset]; ok && n != e.number {
			w.failf("%s: offset %d stood for message %d, now for %d", s.id.Client, en.Offset, n, e.number)
		}
		if e.released && !en.Released || en.Message != nil && (en.Message.From.ID != e.id() || string(en.Message.Payload) != e.payload) {
			w.failf("%s: offset %d is %+v, want message %d released=%v", s.id.Client, en.Offset, en, e.number, e.released)
		}
		s.offsets[en.Offset] = e.number
		s.unread -= i + 1
		return e
	}
	w.failf("%s: read offset %d (%+v), which the model does not have", s.id.Client, en.Offset, en)
	return nil
}

// end acknowledges an entry, or releases it first.
func (w *world) end(s *modelSession, e *modelEntry, en engine.Entry) {
	if en.Delivery.QoS == 2 && !en.Released && w.r.IntN(2) == 0 {
		s.c.release(en.Offset)
		e.released = true
		if w.r.IntN(2) == 0 {
			return
		}
	}
	s.c.session.Ack(en.Offset)
	e.ended = true
}

func (w *world) retained() {
	got := map[string]string{}
	for m, err := range w.e.Retained(context.Background(), "o", filter(w.t, "#")) {
		if err != nil {
			w.failf("retained: %v", err)
		}
		got[m.Topic.String()] = string(m.Payload)
	}
	for _, topic := range modelTopics {
		want := ""
		if p := w.topics[topic]; p != nil {
			want = p.payload
		}
		if may := w.maybe[topic]; len(may) > 0 {
			if !slices.Contains(may, got[topic]) {
				w.failf("retained %s is %q, want one of %q", topic, got[topic], may)
			}
			w.topics[topic] = &published{payload: got[topic], topic: topic}
			continue
		}
		if got[topic] != want {
			w.failf("retained %s is %q, want %q", topic, got[topic], want)
		}
	}
	w.maybe = nil
	w.settle()
	w.bounded(len(got))
}

func (w *world) restart(crash bool) {
	w.logf("restart crash=%v", crash)
	if crash {
		w.store.Crash(w.t)
		w.e = w.store.Open(w.t)
	} else {
		settle(w.t, w.e)
		before := stats(w.t, w.e, "o")
		w.store.Close(w.t)
		w.e = w.store.Open(w.t)
		before.Held = 0
		if after := stats(w.t, w.e, "o"); after != before {
			w.failf("stats %+v after a restart, %+v before", after, before)
		}
	}
	w.e.Limit("o", modelLimits)
	for _, s := range w.sessions {
		s.c = nil
	}
	w.retained()
}
