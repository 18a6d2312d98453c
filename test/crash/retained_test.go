package crash

import (
	"fmt"
	"slices"
	"strings"
)

// A retained topic is changed by one publisher, one change after the other.
type retained struct {
	name, topic string
	qos         byte
	changes     []change // number 1 first
}

type change struct{ clear, acked bool }

func (h *history) retain(name, topic string, qos byte) *retained {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := &retained{name: name, topic: topic, qos: qos}
	h.retained = append(h.retained, r)
	return r
}

// change begins a change and returns its number.
func (h *history) change(r *retained, clear bool) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.changes = append(r.changes, change{clear: clear})
	return len(r.changes)
}

func (h *history) changed(r *retained, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.changes[n-1].acked = true
}

// text returns the payload of a change that sets the message.
func (r *retained) text(n int) string {
	return fmt.Sprintf("%s|%s|%d|%s", marker, r.name, n, strings.Repeat("r", n*53%300))
}

// allowedFrom returns the last acknowledged change: from this one on all are
// allowed. 0: none was.
func (r *retained) allowedFrom() int {
	for n := len(r.changes); n > 0; n-- {
		if r.changes[n-1].acked {
			return n
		}
	}
	return 0
}

// judge says whether payload may be the message that was found after change
// from was acknowledged. "": there is none.
func (r *retained) judge(from int, payload string) error {
	if payload == "" {
		gone := from == 0 || slices.ContainsFunc(r.changes[from-1:], func(c change) bool { return c.clear })
		if !gone {
			return fmt.Errorf("%s: acknowledged change %d of %d is lost: there is no message", r.topic, from, len(r.changes))
		}
		return nil
	}
	for n := max(from, 1); n <= len(r.changes); n++ {
		if !r.changes[n-1].clear && r.text(n) == payload {
			return nil
		}
	}
	return fmt.Errorf("%s: found %.60q, which is not change %d to %d", r.topic, payload, from, len(r.changes))
}

// known reports whether a change of topic had that payload, ever.
func (h *history) known(topic, payload string) bool {
	for _, r := range h.retained {
		if r.topic == topic {
			return r.judge(0, payload) == nil
		}
	}
	return false
}
