package console

import (
	"sync"
	"time"

	"github.com/keepmq/keepmq/internal/engine"
)

const (
	maxPending = 1000     // topics that wait for one browser
	maxPayload = 16 << 10 // bytes of a message that is looked into
)

// A feed receives for one browser. It keeps the newest message of each topic
// until the browser is ready for it, so a slow one misses values in between and
// costs a bounded amount of memory.
type feed struct {
	lost chan struct{} // closed when the session is gone
	once sync.Once

	mu      sync.Mutex // guards what is below
	pending map[string]sample
	skipped int // messages for which there was no room
}

type sample struct {
	payload []byte
	large   bool
	at      time.Time
}

func newFeed() *feed { return &feed{lost: make(chan struct{}), pending: map[string]sample{}} }

// Deliver implements engine.Sink.
func (f *feed) Deliver(m *engine.Message, _ engine.Delivery) {
	s := sample{at: time.Now()}
	if len(m.Payload) > maxPayload {
		s.large = true
	} else {
		s.payload = append([]byte(nil), m.Payload...)
	}
	topic := m.Topic.String()
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.pending[topic]; !ok && len(f.pending) >= maxPending {
		f.skipped++
		return
	}
	f.pending[topic] = s
}

// Wake implements engine.Sink; the session is not persistent and has no queue.
func (f *feed) Wake() {}

// Lost implements engine.Sink.
func (f *feed) Lost(error) { f.once.Do(func() { close(f.lost) }) }

// take returns what waits, oldest first, and how many messages were passed over.
func (f *feed) take() (waiting map[string]sample, skipped int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	waiting, skipped = f.pending, f.skipped
	f.pending, f.skipped = map[string]sample{}, 0
	return waiting, skipped
}
