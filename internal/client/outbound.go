package client

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// How many bytes may wait to be written. Answers have the higher limit, so
// that a client that publishes as fast as it can still acknowledges.
const (
	publishLimit = 256 << 10
	answerLimit  = 4 << 20
)

// writeTimeout ends a connection whose server takes nothing for so long.
const writeTimeout = 30 * time.Second

// outbound holds encoded packets until the writer takes them all at once, so
// that many callers share one write.
type outbound struct {
	wake chan struct{}

	mu       sync.Mutex // guards the fields below
	buf      []byte
	drained  chan struct{} // closed and replaced when the writer has taken buf
	finished bool          // DISCONNECT is in buf: nothing may follow it [MQTT-3.14.4-2]
}

func (o *outbound) init() {
	o.wake, o.drained = make(chan struct{}, 1), make(chan struct{})
}

// add appends p if there is room. Otherwise wait is closed when there may be.
func (o *outbound) add(p mqtt.Packet, v mqtt.Version, maxPacket uint32, limit int) (wait <-chan struct{}, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.finished:
		return nil, ErrClosed
	case len(o.buf) >= limit:
		return o.drained, nil
	}
	var ok bool
	if o.buf, ok = mqtt.AppendWithin(o.buf, p, v, maxPacket); !ok {
		return nil, mqtt.ErrTooLarge
	}
	o.signal()
	return nil, nil
}

// finish appends the DISCONNECT, once.
func (o *outbound) finish(packet []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.finished {
		o.buf, o.finished = append(o.buf, packet...), true
		o.signal()
	}
}

func (o *outbound) signal() {
	select {
	case o.wake <- struct{}{}:
	default: // the writer has been told already
	}
}

// take hands all that waits to the writer and keeps its old buffer for reuse.
func (o *outbound) take(spare []byte) (buf []byte, finished bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	buf, o.buf = o.buf, spare[:0]
	close(o.drained)
	o.drained = make(chan struct{})
	return buf, o.finished
}

// send queues p, and waits for room until ctx or the connection ends.
func (c *Client) send(ctx context.Context, p mqtt.Packet, limit int) error {
	for {
		wait, err := c.out.add(p, c.version, c.server.MaximumPacketSize, limit)
		if wait == nil {
			return err
		}
		select {
		case <-wait:
		case <-c.done:
			return c.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// write is the writer's loop; it also keeps the connection alive. It ends with
// the connection, or after DISCONNECT.
func (c *Client) write() {
	var ping <-chan time.Time
	if k := c.server.KeepAlive; k > 0 {
		t := time.NewTicker(k * 3 / 4)
		defer t.Stop()
		ping = t.C
	}
	var buf []byte
	for {
		var finished bool
		select {
		case <-c.done:
			return
		case <-ping:
			buf, finished = c.out.take(buf)
			if !finished {
				buf = (&mqtt.Pingreq{}).Append(buf, c.version)
			}
		case <-c.out.wake:
			buf, finished = c.out.take(buf)
		}
		if len(buf) > 0 {
			c.conn.SetWriteDeadline(time.Now().Add(writeTimeout)) //nolint:errcheck // the write will tell
			if _, err := c.conn.Write(buf); err != nil {
				c.end(fmt.Errorf("write: %w", err))
				return
			}
		}
		if finished {
			c.parted.Store(true)
			// The reader sees the server close in answer. Closing here could
			// make the kernel throw the DISCONNECT away.
			if err := c.conn.CloseWrite(); err != nil {
				c.end(fmt.Errorf("write: %w", err))
			}
			return
		}
		if cap(buf) > publishLimit {
			buf = nil // a burst must not hold memory for ever
		}
	}
}
