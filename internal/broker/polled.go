package broker

import (
	"errors"
	"net"
	"syscall"

	"github.com/keepmq/keepmq/internal/poll"
)

// A connection that speaks MQTT over TLS and nothing between them is polled from
// CONNACK on: it has no goroutine, and what the handshake left behind on a stack
// is gone. The worker that is told of it runs Ready, which is the reader as
// elsewhere. Whatever may wait calls block first.

// openPoller starts the poller. Without one the broker works all the same.
func (b *Broker) openPoller() *poll.Poller {
	if b.isDraining() {
		return nil
	}
	p, err := poll.Open()
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		b.log.Error("connections cannot be polled: each has a goroutine", "err", err)
	}
	return p
}

// pollable returns nc as a connection that can be polled, if it is of that kind.
func (b *Broker) pollable(nc net.Conn) net.Conn {
	if _, ok := nc.(syscall.Conn); !ok {
		return nc
	}
	return b.poll().Wrap(nc)
}

// poll hands the connection to the poller, if it can be polled. It reports
// whether that one serves it from here on.
func (c *conn) poll() bool {
	if c.wire == nil {
		return false
	}
	c.b.wg.Add(1) // for finish; the caller still counts
	c.in.owned()
	scratches.Put(c.work)
	c.work = nil
	if err := c.wire.Start(c); err != nil {
		c.in.waits = true
		c.work = new(scratch)
		c.b.wg.Done()
		c.log().Error("cannot poll a connection", "err", err)
		return false
	}
	return true
}

// Ready is part of poll.Handler.
func (c *conn) Ready(w *poll.Worker) bool {
	c.worker, c.work = w, scratches.Get().(*scratch)
	if c.out.stuck.Load() {
		c.block() // an answer of TLS itself would wait for the client to read
	}
	err := c.read()
	scratches.Put(c.work)
	c.worker, c.work = nil, nil
	if errors.Is(err, poll.ErrAgain) {
		c.in.park()
		return true
	}
	if w.Blocked() {
		c.last(err)
	} else {
		go c.last(err) // the worker has others to serve, and would be scheduled behind all who end
	}
	return false
}

// maxFarewells is how many polled connections end at a time. When a network loses
// thousands of clients at one moment, those who are still there wait for a few of
// them and not for all. None of these waits for a client; some wait for the disk,
// together, so there must not be too few.
const maxFarewells = 1024

// last ends a connection that was polled.
func (c *conn) last(err error) {
	c.b.farewells <- struct{}{}
	c.stop(err)
	<-c.b.farewells
	c.wg.Wait() // for what the client still reads
	c.b.farewells <- struct{}{}
	c.settle()
	<-c.b.farewells
	c.close()
	c.b.wg.Done()
}

// block is called by the reader before it waits for anything: a worker must not
// keep others waiting.
func (c *conn) block() {
	c.at = 0
	if c.worker != nil {
		c.worker.Block()
	}
}

// Flush is part of poll.Task: it writes what is there to be written, as far as the
// client takes it. What is left, or has to say goodbye, is left to a goroutine.
func (c *conn) Flush() {
	if c.flushNow() {
		c.wg.Done()
		return
	}
	go func() {
		defer c.wg.Done()
		c.flush()
	}()
}

// flushNow reports whether all was written, and the connection goes on.
func (c *conn) flushNow() bool {
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.end == nil {
		if len(o.buf) == 0 {
			o.running = false
			return true
		}
		b, box := o.buf, o.box
		o.buf, o.writing = nil, len(b)
		o.mu.Unlock()
		n, err := c.writeNow(b)
		o.mu.Lock()
		if err != nil || n < len(b) || c.wire.Pending() {
			o.left, o.failed = b[n:], err
			o.stuck.Store(true)
			return false
		}
		o.giveBack(b, box)
		o.writing = 0
		if len(o.pending) > 0 {
			c.drainLocked()
		} else {
			c.kickLocked()
		}
		o.room.Broadcast()
	}
	return false
}

// writeNow writes b as far as the client takes it.
func (c *conn) writeNow(b []byte) (done int, err error) {
	c.wire.Inline(true)
	defer c.wire.Inline(false)
	for done < len(b) && err == nil && (done == 0 || !c.wire.Pending()) {
		var n int
		n, err = c.nc.Write(b[done:min(len(b), done+maxWrite)])
		done += n
	}
	c.b.metrics.bytesOut.Add(uint64(done))
	return done, err
}
