package broker

import (
	"sync/atomic"

	"github.com/keepmq/keepmq/internal/door"
	"github.com/keepmq/keepmq/internal/errs"
)

// metrics are the broker's counters.
type metrics struct {
	accepted, handshakeFailed, notMQTT atomic.Uint64
	connects                           atomic.Uint64
	connected                          atomic.Int64
	refused                            [errs.Unavailable + 1]atomic.Uint64
	publishRefused                     [errs.Unavailable + 1]atomic.Uint64
	subscribeRefused                   atomic.Uint64
	in, out                            [3]atomic.Uint64
	bytesIn, bytesOut                  atomic.Uint64
	dropSlow, dropLarge, dropDenied    atomic.Uint64
	dropExpired, takeovers, wills      atomic.Uint64
	retainedLeftOut                    atomic.Uint64
}

// A Snapshot is the broker's counters at one moment. All but Open and Connected
// only grow.
type Snapshot struct {
	Open, Connected                    int64       // TLS connections; MQTT clients
	Door                               door.Counts // connections on their way to CONNECT
	Accepted, HandshakeFailed, NotMQTT uint64      // connections: all, without TLS, with an unknown protocol
	Connects, Takeovers                uint64      // successful CONNECTs; those that ended another connection
	Refused                            [8]uint64   // CONNECTs, by errs.Code
	PublishRefused                     [8]uint64   // PUBLISHes, by errs.Code
	SubscribeRefused                   uint64      // topic filters
	MessagesIn, MessagesOut            [3]uint64   // by QoS
	BytesIn, BytesOut                  uint64      // of MQTT
	DroppedSlow                        uint64      // QoS 0 to a client that reads too slowly
	DroppedLarge                       uint64      // larger than the client's Maximum Packet Size
	DroppedDenied                      uint64      // not allowed at delivery
	DroppedExpired                     uint64      // expired at delivery
	RetainedLeftOut                    uint64      // not sent on SUBSCRIBE: the queue was full
	Wills                              uint64      // published
}

// Snapshot returns the counters.
func (b *Broker) Snapshot() Snapshot {
	m := &b.metrics
	s := Snapshot{
		Door: b.door.Counts(), Connected: m.connected.Load(),
		Accepted: m.accepted.Load(), HandshakeFailed: m.handshakeFailed.Load(), NotMQTT: m.notMQTT.Load(),
		Connects: m.connects.Load(), Takeovers: m.takeovers.Load(),
		SubscribeRefused: m.subscribeRefused.Load(),
		BytesIn:          m.bytesIn.Load(), BytesOut: m.bytesOut.Load(),
		DroppedSlow: m.dropSlow.Load(), DroppedLarge: m.dropLarge.Load(),
		DroppedDenied: m.dropDenied.Load(), DroppedExpired: m.dropExpired.Load(),
		RetainedLeftOut: m.retainedLeftOut.Load(), Wills: m.wills.Load(),
	}
	s.Open = s.Door.Open
	for i := range s.Refused {
		s.Refused[i], s.PublishRefused[i] = m.refused[i].Load(), m.publishRefused[i].Load()
	}
	for i := range s.MessagesIn {
		s.MessagesIn[i], s.MessagesOut[i] = m.in[i].Load(), m.out[i].Load()
	}
	return s
}
