package broker

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/mqtt"
)

// outbound is what waits for a client.
type outbound struct {
	mu       sync.Mutex  // guards the fields below
	room     sync.Cond   // tells of progress: something was written, acknowledged or ended
	buf      []byte      // encoded, and not taken by the flusher yet
	box      *[]byte     // what buf came in
	writing  int         // bytes the flusher is writing
	most     int         // bytes written at one time lately
	running  bool        // there is a flusher, or will be
	left     []byte      // taken by a flusher that must not wait, and left to one that may
	failed   error       // why it stopped, if not for having to wait
	stuck    atomic.Bool // a flusher waits for the client
	end      *ending     // set once: nothing more is to be sent
	deadline time.Time   // of the last write, after end

	inflight flights  // QoS 1 and 2 messages that were sent, by packet identifier
	nextID   uint16   // where to look for the next free identifier
	pending  []copied // volatile QoS 1 and 2 messages that found the window closed
	waiting  int      // bytes in pending and held

	hold int      // holders: live messages wait until all are gone
	held []copied // live messages that wait

	retained engine.Offset // of the last retained message in the queue: live ones wait until it is out; 0: none

	wake    bool // the engine's queue has more than cursor
	pumping bool // there is a pump
	cursor  engine.Offset

	jobs      []retainedJob // subscriptions whose retained messages are to be sent
	opened    int           // how many of them look at the store
	retaining bool          // there is a goroutine sending them

	topics map[string]uint16 // topic aliases given to the client

	dropped   int64 // QoS 0 messages, since they were noted last
	dropNoted int64 // when that was, in Unix seconds
}

// outgoing is a message that the client has not acknowledged.
type outgoing struct {
	offset   engine.Offset // in the engine's queue; 0: it is in no queue
	qos      byte
	released bool // PUBREC was received
}

// copied is a message kept for later, with memory of its own.
type copied struct {
	m engine.Message
	d engine.Delivery
}

func (k *copied) size() int {
	return len(k.m.Payload) + len(k.m.Properties) + len(k.m.Topic.String()) + 128
}

// backlog is the number of bytes that the client has not read.
func (o *outbound) backlog() int { return len(o.buf) + o.writing }

// take returns the buffer to append to.
func (o *outbound) take() []byte {
	if o.buf == nil {
		if o.most > smallBuffer {
			o.box = largeBuffers.Get().(*[]byte)
		} else {
			o.box = outBuffers.Get().(*[]byte)
		}
		o.buf = (*o.box)[:0]
	}
	return o.buf
}

// What is written at one time is in a buffer of one of two pools: most is little,
// and whoever gets much gets much again.
var (
	outBuffers   = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}
	largeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 2*smallBuffer); return &b }}
)

const (
	smallBuffer = 64 << 10
	largeBuffer = 2 << 20 // larger ones are not kept
)

// send appends a packet for the client.
func (c *conn) send(p mqtt.Packet) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.sendLocked(p)
}

func (c *conn) sendLocked(p mqtt.Packet) {
	if c.out.end != nil {
		return
	}
	buf, ok := mqtt.AppendWithin(c.out.take(), p, c.version, c.clientMax)
	if c.out.buf = buf; !ok {
		// It must not be sent [MQTT-3.1.2-24], and the client would wait for it.
		c.endLocked(ending{code: mqtt.PacketTooLarge, msg: "an answer is above the client's Maximum Packet Size"})
		return
	}
	c.flushLocked()
}

// flushLocked sees to it that the buffer gets written.
func (c *conn) flushLocked() {
	if c.out.running || len(c.out.buf) == 0 {
		return
	}
	c.out.running = true
	if c.wire == nil || !c.wire.Polled() {
		c.wg.Go(c.flush)
		return
	}
	c.wg.Add(1)
	c.wire.Later(c)
}

// maxWrite is what a client must read within the write timeout.
const maxWrite = 32 << 10

// flush writes until nothing is left, and closes the connection if it is to end.
func (c *conn) flush() {
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	broken := false
	for len(o.buf) > 0 || o.stuck.Load() {
		b, box, deadline, err := o.left, o.box, o.deadline, o.failed
		left := o.stuck.Load()
		if !left {
			b, o.buf = o.buf, nil
		}
		o.left, o.failed = nil, nil
		o.writing = len(b)
		if err == nil {
			o.mu.Unlock()
			err = c.write(b, deadline)
			o.mu.Lock()
			if !left {
				o.giveBack(b, box)
			}
		}
		o.writing = 0
		o.stuck.Store(false)
		if err != nil {
			o.buf, broken = nil, true
			c.endLocked(ending{quiet: true, urgent: true, err: err})
			break
		}
		c.drainLocked()
		o.room.Broadcast()
	}
	if o.end == nil {
		o.running = false
		if c.wire != nil { // it counts for what is written without waiting, too
			c.nc.SetWriteDeadline(time.Time{})
		}
		return
	}
	// running stays true: nobody starts another flusher.
	switch {
	case broken || o.end.lost:
		c.peer.abort() // whoever read nothing reads no goodbye either
	case o.end.urgent || o.end.err != nil:
		c.nc.SetWriteDeadline(o.deadline)
		o.mu.Unlock() // nothing is appended any more
		c.peer.leave()
		o.mu.Lock()
	}
	c.unblock()
}

// giveBack returns a buffer that was written, in the box it came in. out.mu is held.
func (o *outbound) giveBack(b []byte, box *[]byte) {
	o.most = max(len(b), o.most-o.most/8)
	*box = b[:0]
	switch {
	case cap(b) <= smallBuffer:
		outBuffers.Put(box)
	case cap(b) <= largeBuffer:
		largeBuffers.Put(box)
	}
}

// write writes b in pieces, each of which the client has to read in time.
func (c *conn) write(b []byte, deadline time.Time) error {
	for first := true; len(b) > 0 || first && c.wire != nil; first = false {
		n := min(len(b), maxWrite)
		d := time.Now().Add(c.b.cfg.WriteTimeout)
		if !deadline.IsZero() {
			d = deadline
		}
		c.nc.SetWriteDeadline(d)
		if c.ctx.Err() != nil && deadline.IsZero() {
			// end came in between and its deadline was just overwritten.
			c.out.mu.Lock()
			deadline = c.out.deadline
			c.out.mu.Unlock()
			c.nc.SetWriteDeadline(deadline)
		}
		if first && c.wire != nil {
			if err := c.wire.Drain(); err != nil {
				return err
			}
		}
		if n == 0 {
			continue
		}
		if _, err := c.nc.Write(b[:n]); err != nil {
			return err
		}
		c.b.metrics.bytesOut.Add(uint64(n))
		b = b[n:]
	}
	return nil
}

// unblock makes the reader return.
func (c *conn) unblock() {
	c.nc.SetReadDeadline(time.Unix(1, 0))
	if c.wire != nil {
		c.wire.Kick()
	}
}
