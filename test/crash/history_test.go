package crash

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// A history is what everybody saw. Times in it are ticks of one clock that
// counts events, so that "before" means happened before.
type history struct {
	mu        sync.Mutex // guards everything below, streams and receivers included
	clock     int64
	streams   []*stream
	receivers []*receiver
	retained  []*retained
	faults    []string // what was seen to be wrong at once
}

// A stream is a numbered series of messages of one publisher.
type stream struct {
	name  string
	topic string // as receivers see it
	qos   byte
	size  int       // that payloads have at least
	msgs  []message // number 1 first
}

// A message is what happened to one at its publisher's side.
type message struct {
	sent  int64 // first, before it was written
	acked int64 // PUBACK or PUBREC arrived; 0: not yet
}

// A stretch is one time during which a receiver had a subscription.
type stretch struct {
	filter                                   string
	subSent, subAcked, unsubSent, unsubAcked int64 // 0: not yet
	asked                                    int   // times that UNSUBSCRIBE was sent
}

// A receiver is a session that gets messages.
type receiver struct {
	name      string
	qos       byte
	stretches []*stretch
	arrived   map[*stream][]int        // numbers, as they came
	excused   map[*stream]map[int]bool // what was in a queue that was discarded
}

func (h *history) stream(name, topic string, qos byte) *stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &stream{name: name, topic: topic, qos: qos}
	h.streams = append(h.streams, s)
	return s
}

func (h *history) receiver(name string, qos byte) *receiver {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := &receiver{name: name, qos: qos, arrived: map[*stream][]int{}, excused: map[*stream]map[int]bool{}}
	h.receivers = append(h.receivers, r)
	return r
}

// now returns the next tick. The caller holds mu.
func (h *history) now() int64 {
	h.clock++
	return h.clock
}

func (h *history) tick() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now()
}

func (h *history) fault(format string, a ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, fmt.Sprintf(format, a...))
}

// send begins a message and returns its number.
func (h *history) send(s *stream) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.msgs = append(s.msgs, message{sent: h.now()})
	return len(s.msgs)
}

// ack notes that the server has taken a message.
func (h *history) ack(s *stream, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := &s.msgs[n-1]; m.acked == 0 {
		m.acked = h.now()
	}
}

// arrive notes a message that a receiver got.
func (h *history) arrive(r *receiver, topic, payload string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if strings.HasPrefix(topic, retainedTopics) {
		if !h.known(topic, payload) {
			h.faults = append(h.faults, fmt.Sprintf("%s got on %s what nobody sent: %.80q", r.name, topic, payload))
		}
		return
	}
	s, n, err := h.parse(payload)
	switch {
	case err != nil:
		h.faults = append(h.faults, fmt.Sprintf("%s got on %s what nobody sent: %v", r.name, topic, err))
	case s.topic != topic:
		h.faults = append(h.faults, fmt.Sprintf("%s got %s %d on %s", r.name, s.name, n, topic))
	default:
		r.arrived[s] = append(r.arrived[s], n)
	}
}

// retainedTopics is where the retained messages are.
const retainedTopics = "ret/"

// marker begins every payload, to be looked for where it must not be.
const marker = "keepmq-crash-payload"

// text returns the payload of a message. All of it follows from its name, so
// that a change of any byte is seen.
func text(s *stream, n int) string {
	head := fmt.Sprintf("%s|%s|%d|", marker, s.name, n)
	return head + strings.Repeat(string(rune('a'+n%26)), s.size+20+n*37%400)
}

// parse finds out which message a payload is. The caller holds mu.
func (h *history) parse(payload string) (*stream, int, error) {
	part := strings.Split(payload, "|")
	if len(part) != 4 {
		return nil, 0, fmt.Errorf("%.80q", payload)
	}
	for _, s := range h.streams {
		if s.name != part[1] {
			continue
		}
		var n int
		if _, err := fmt.Sscan(part[2], &n); err != nil || n < 1 || n > len(s.msgs) || text(s, n) != payload {
			break
		}
		return s, n, nil
	}
	return nil, 0, fmt.Errorf("%.80q", payload)
}

// check returns everything that is wrong.
func (h *history) check() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	bad := slices.Clone(h.faults)
	for _, r := range h.receivers {
		for _, s := range h.streams {
			bad = append(bad, r.check(s)...)
		}
	}
	return bad
}

// missing counts acknowledged messages that should come and have not.
func (h *history) missing(r *receiver) (n int, example string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.streams {
		lost := r.lost(s, r.seen(s))
		if n += len(lost); len(lost) > 0 {
			example = fmt.Sprintf("%s %d", s.name, lost[0])
		}
	}
	return n, example
}

// discard notes that the session of r was discarded since began, with its
// subscriptions and all that was queued. The caller holds mu.
func (h *history) discard(r *receiver, began int64) {
	for _, x := range r.stretches {
		if x.unsubSent == 0 {
			x.unsubSent = began
		}
		if x.unsubAcked == 0 {
			x.unsubAcked = h.now()
		}
	}
	for _, s := range h.streams {
		for _, n := range r.lost(s, r.seen(s)) {
			if r.excused[s] == nil {
				r.excused[s] = map[int]bool{}
			}
			r.excused[s][n] = true
		}
	}
}

func (r *receiver) seen(s *stream) []bool {
	seen := make([]bool, len(s.msgs))
	for _, n := range r.arrived[s] {
		seen[n-1] = true
	}
	return seen
}

// lost returns the acknowledged messages of s that were sent and acknowledged
// while r was subscribed, and did not arrive.
func (r *receiver) lost(s *stream, seen []bool) (lost []int) {
	stretches := r.of(s)
	if len(stretches) == 0 {
		return nil
	}
	for i, m := range s.msgs {
		if !seen[i] && m.acked != 0 && covered(stretches, m) && !r.excused[s][i+1] {
			lost = append(lost, i+1)
		}
	}
	return lost
}

// check compares what r got of s with what it should have got.
func (r *receiver) check(s *stream) (bad []string) {
	fail := func(what string, n int) {
		bad = append(bad, fmt.Sprintf("%s: %s %d %s", r.name, s.name, n, what))
	}
	stretches := r.of(s)
	once := r.qos == 2 && s.qos == 2
	seen := make([]bool, len(s.msgs))
	last := 0
	for _, n := range r.arrived[s] {
		m := s.msgs[n-1]
		switch {
		case seen[n-1] && once:
			fail("arrived twice", n)
		case seen[n-1]:
			continue
		case !possible(stretches, m):
			fail("arrived without a subscription", n)
		case covered(stretches, m):
			// Only then every transmission of it was routed to r, the first included.
			if n < last {
				fail(fmt.Sprintf("arrived after %d", last), n)
			}
			last = max(last, n)
		}
		seen[n-1] = true
	}
	for _, n := range r.lost(s, seen) {
		fail("was acknowledged and is lost", n)
	}
	return bad
}

// of returns the stretches of r that may bring messages of s.
func (r *receiver) of(s *stream) (found []*stretch) {
	for _, x := range r.stretches {
		if matches(x.filter, s.topic) {
			found = append(found, x)
		}
	}
	return found
}

// covered reports whether the subscription was there during all the time in
// which the server may have routed the message.
func covered(stretches []*stretch, m message) bool {
	return slices.ContainsFunc(stretches, func(x *stretch) bool { return x.covers(m) })
}

func (x *stretch) covers(m message) bool {
	return x.subAcked != 0 && x.subAcked < m.sent &&
		(x.unsubSent == 0 || m.acked != 0 && m.acked < x.unsubSent)
}

// possible reports whether there may have been a subscription at some time in
// which the server may have routed the message.
func possible(stretches []*stretch, m message) bool {
	return slices.ContainsFunc(stretches, func(x *stretch) bool {
		return (x.unsubAcked == 0 || m.sent < x.unsubAcked) && (m.acked == 0 || x.subSent < m.acked)
	})
}

// matches reports whether a topic filter matches a topic name.
func matches(filter, name string) bool {
	f, n := strings.Split(filter, "/"), strings.Split(name, "/")
	for i, level := range f {
		switch {
		case level == "#":
			return true
		case i >= len(n) || level != "+" && level != n[i]:
			return false
		}
	}
	return len(f) == len(n)
}
