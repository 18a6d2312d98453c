package crash

import (
	"strings"
	"testing"
)

// The checker reports what it is there for, and nothing in a good history.
func TestChecker(t *testing.T) {
	type event = func(h *history, s *stream, r *receiver)
	sent := func(acked bool) event {
		return func(h *history, s *stream, _ *receiver) {
			if n := h.send(s); acked {
				h.ack(s, n)
			}
		}
	}
	ack := func(n int) event { return func(h *history, s *stream, _ *receiver) { h.ack(s, n) } }
	got := func(numbers ...int) event {
		return func(h *history, s *stream, r *receiver) {
			for _, n := range numbers {
				h.arrive(r, s.topic, text(s, n))
			}
		}
	}
	sub := func(h *history, _ *stream, r *receiver) {
		r.stretches = append(r.stretches, &stretch{filter: "a/+", subSent: h.tick(), subAcked: h.tick()})
	}
	unsub := func(h *history, _ *stream, r *receiver) {
		x := r.stretches[len(r.stretches)-1]
		x.unsubSent, x.unsubAcked = h.tick(), h.tick()
	}
	half := func(h *history, _ *stream, r *receiver) { // UNSUBSCRIBE without an answer
		r.stretches[len(r.stretches)-1].unsubSent = h.tick()
	}
	discard := func(h *history, _ *stream, r *receiver) { h.discard(r, h.tick()) }
	raw := func(topic, payload string) event {
		return func(h *history, _ *stream, r *receiver) { h.arrive(r, topic, payload) }
	}
	all := func(e ...event) []event { return e }
	yes, no := sent(true), sent(false)

	for _, tt := range []struct {
		name     string
		qos, max byte
		events   []event
		want     string // in the only report; "": none
	}{
		{"good", 2, 2, all(sub, yes, yes, got(1, 2)), ""},
		{"lost", 1, 1, all(sub, yes, yes, yes, got(1, 3)), "s 2 was acknowledged and is lost"},
		{"lost at the end", 2, 2, all(sub, yes, yes, got(1)), "s 2 was acknowledged and is lost"},
		{"lost, acknowledged later", 2, 2, all(sub, no, ack(1)), "s 1 was acknowledged and is lost"},
		{"not acknowledged", 2, 2, all(sub, yes, no, got(1)), ""},
		{"not acknowledged and there", 2, 2, all(sub, yes, no, got(1, 2)), ""},
		{"duplicate", 2, 2, all(sub, yes, yes, got(1, 2, 1)), "s 1 arrived twice"},
		{"duplicate of QoS 1", 1, 2, all(sub, yes, yes, got(1, 2, 1)), ""},
		{"duplicate to QoS 1", 2, 1, all(sub, yes, yes, got(1, 1, 2)), ""},
		{"reordered", 2, 2, all(sub, yes, yes, got(2, 1)), "s 1 arrived after 2"},
		{"reordered QoS 1", 1, 1, all(sub, yes, yes, yes, got(1, 3, 2, 3)), "s 2 arrived after 3"},
		{"resurrected", 2, 2, all(sub, yes, unsub, yes, got(1, 2)), "s 2 arrived without a subscription"},
		{"never subscribed", 1, 1, all(yes, got(1)), "s 1 arrived without a subscription"},
		{"after unsubscribing", 2, 2, all(sub, yes, unsub, yes, got(1)), ""},
		{"queued before unsubscribing", 2, 2, all(sub, yes, unsub), "s 1 was acknowledged and is lost"},
		{"unsubscribing in doubt", 2, 2, all(sub, yes, half, yes, got(1)), ""},
		{"unsubscribing in doubt, and there", 2, 2, all(sub, yes, half, yes, got(1, 2)), ""},
		{"subscribed again", 2, 2, all(sub, unsub, yes, sub, yes), "s 2 was acknowledged and is lost"},
		{"discarded", 2, 2, all(sub, yes, discard, yes), ""},
		{"discarded after unsubscribing", 2, 2, all(sub, yes, unsub, discard), ""},
		{"lost after a new start", 2, 2, all(sub, yes, discard, sub, yes), "s 2 was acknowledged and is lost"},
		{"resurrected with a session", 2, 2, all(sub, yes, discard, yes, got(2)), "s 2 arrived without a subscription"},
		{"changed", 1, 1, all(sub, yes, got(1), raw("a/b", marker+"|s|1|aaaaaaaa")), "what nobody sent"},
		{"from the future", 1, 1, all(sub, yes, got(1), raw("a/b", marker+"|s|2|"+strings.Repeat("c", 94))), "what nobody sent"},
		{"on another topic", 1, 1, all(sub, yes, got(1), raw("a/c", text(&stream{name: "s"}, 1))), "s 1 on a/c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := new(history)
			s, r := h.stream("s", "a/b", tt.qos), h.receiver("r", tt.max)
			for _, e := range tt.events {
				e(h, s, r)
			}
			bad := h.check()
			switch {
			case tt.want == "" && len(bad) > 0:
				t.Errorf("reported %q", bad)
			case tt.want != "" && (len(bad) != 1 || !strings.Contains(bad[0], tt.want)):
				t.Errorf("reported %q, want %q", bad, tt.want)
			}
		})
	}
}

// The checker of retained messages allows the last acknowledged change and
// those after it.
func TestRetainedChecker(t *testing.T) {
	for _, tt := range []struct {
		name  string
		acked []bool // a change each
		clear int    // the change that clears; 0: none
		got   int    // the change whose message was found; 0: there is none
		ok    bool
	}{
		{"last", []bool{true, true}, 0, 2, true},
		{"old", []bool{true, true}, 0, 1, false},
		{"gone", []bool{true, true}, 0, 0, false},
		{"in doubt, old", []bool{true, false}, 0, 1, true},
		{"in doubt, new", []bool{true, false}, 0, 2, true},
		{"cleared", []bool{true, true}, 2, 0, true},
		{"resurrected", []bool{true, true}, 2, 1, false},
		{"clearing in doubt", []bool{true, false}, 2, 0, true},
		{"never set", nil, 0, 0, true},
		{"nothing acknowledged", []bool{false}, 0, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := new(history)
			r := h.retain("t", "ret/t", 1)
			for i, acked := range tt.acked {
				h.change(r, i+1 == tt.clear)
				if acked {
					h.changed(r, i+1)
				}
			}
			before := r.allowedFrom()
			var payload string
			if tt.got > 0 {
				payload = r.text(tt.got)
			}
			if err := r.judge(before, payload); (err == nil) != tt.ok {
				t.Errorf("judged %v", err)
			}
		})
	}
}
