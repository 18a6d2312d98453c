package broker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/poll"
	"github.com/keepmq/keepmq/internal/quota"
)

// A conn is one client connection. One goroutine at a time reads it: its own, or
// a worker of the poller. Others come when there is something to write and go when
// it is written.
//
// Lock order: turn, then replies.mu, then out.mu, then b.mu. The engine calls
// back with locks of its own held, so it is never called with replies.mu or
// out.mu held.
type conn struct {
	b      *Broker
	nc     net.Conn // what MQTT is spoken on
	peer   *peer
	wire   *poll.Conn      // nil unless it is polled; guarded by out.mu
	name   string          // the client identifier, once CONNECT has said it
	ctx    context.Context // ends when the connection is to end
	cancel context.CancelFunc
	wg     sync.WaitGroup // flusher, pump and their like
	over   chan struct{}  // closed when nothing of it is left

	// Set by connect and constant from then on.
	version     mqtt.Version
	id          engine.SessionID
	sess        engine.Session
	persistent  bool
	expiry      time.Duration // changed by the reader at DISCONNECT
	will        *engine.Will
	keepAlive   time.Duration
	clientMax   uint32 // largest packet the client accepts
	window      int    // QoS 1 and 2 messages in flight to the client
	quota       int    // QoS 1 and 2 messages in flight from the client
	maxPacket   uint32 // largest packet from the client
	aliasMax    int    // topic aliases the client accepts
	problemInfo bool
	enhanced    *enhanced     // nil: CONNECT named no authentication method
	accepted    bool          // CONNACK with success was sent; guarded by out.mu
	sent        atomic.Uint32 // messages since Traffic looked; here it fills a gap

	refusalLogged    atomic.Int64 // when a refused message was logged, in Unix seconds
	refusalsUnlogged atomic.Int64 // since then

	ending atomic.Bool // out.end is set
	ended  atomic.Bool // the engine has ended the session: the will is ours

	tenant *tenant // its organisation
	group  *group  // its device type, or what other clients of its kind share

	grant  atomic.Pointer[auth.Grant]
	limits atomic.Pointer[quota.Limits] // what the grant and the installation allow
	heard  atomic.Int64                 // since when the client is silent, in Unix nanoseconds; 0: we are not listening
	alive  *time.Timer                  // for CONNECT, then for the keep alive
	until  *time.Timer                  // for the end of the credential

	// Used by the reader only.
	worker   *poll.Worker // nil: it has a goroutine of its own
	in       inbuf
	at       int64 // see now; Unix nanoseconds
	work     *scratch
	passed   func(error) // passedOn, made with the first QoS 0 message
	aliases  map[uint16]string
	known    *known // nil: it has published nothing yet
	messages quota.Bucket
	bytes    quota.Bucket

	turn sync.Mutex // a session takes one call at a time, this one at its turn; guards until and subs too
	subs subscriptions

	replies replies
	out     outbound
}

// serve runs a connection that speaks MQTT to its end.
func (b *Broker) serve(p *peer, nc net.Conn) {
	c := newConn(b, p, nc)
	if !b.register(c) {
		c.cancel()
		p.abort()
		return
	}
	err := c.connect()
	if err == nil {
		if c.poll() {
			return
		}
		err = c.read()
	}
	c.stop(err)
	c.finish()
}

func newConn(b *Broker, p *peer, nc net.Conn) *conn {
	c := &conn{
		b: b, nc: nc, peer: p, over: make(chan struct{}),
		work:      scratches.Get().(*scratch),
		clientMax: mqtt.MaxPacketSize, problemInfo: true,
	}
	if nc == net.Conn(p) {
		c.wire = p.wire
	}
	c.limits.Store(&b.cfg.Limits)
	c.ctx, c.cancel = context.WithCancel(b.life)
	c.in.r = nc
	c.in.waits = true
	c.out.room.L = &c.out.mu
	return c
}

// A scratch is what a reader needs while it reads.
type scratch struct {
	pub     mqtt.Publish
	ack     mqtt.Ack
	message engine.Message
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// transport returns what carries MQTT.
func (c *conn) transport() string {
	if c.nc == net.Conn(c.peer) {
		return "tls"
	}
	return "websocket"
}

// log returns a log that tells whose connection this is.
func (c *conn) log() *slog.Logger {
	l := c.b.log.With("address", c.peer.remote, "transport", c.transport())
	if c.name != "" {
		l = l.With("client", c.name)
	}
	if c.tenant != nil {
		l = l.With("org", c.id.Owner.Org, "session", c.client())
	}
	return l
}

// next returns the next packet. Its body is valid until the call after.
func (c *conn) next(max uint32) (mqtt.Header, []byte, error) {
	for {
		h, body, n, err := mqtt.Frame(c.in.bytes(), max)
		if err != nil {
			return h, nil, err
		}
		if n > 0 {
			c.in.skip(n)
			return h, body, nil
		}
		need := 0
		if h.Type != 0 {
			need = h.Size()
		}
		if err := c.breathe(); err != nil {
			return h, nil, err
		}
		if c.heard.Load() == 0 {
			c.heard.Store(time.Now().UnixNano())
		}
		got, err := c.in.fill(need)
		c.at = 0
		c.b.metrics.bytesIn.Add(uint64(got))
		if err != nil {
			return h, nil, err
		}
	}
}

// now is the time at which the reader looked at the clock last: once for all that
// it got at a time, and again when it has waited. It is called by the reader only.
func (c *conn) now() time.Time {
	if c.at == 0 {
		c.at = time.Now().UnixNano()
	}
	return time.Unix(0, c.at)
}

// breathe sends what is queued, as far as acknowledgements have made room, and
// waits while the client leaves too much unread: who does not read may
// not make us write more.
func (c *conn) breathe() error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	for c.out.end == nil && c.out.backlog() > c.maxOutbound()+slack {
		c.heard.Store(0) // what it sent meanwhile is not read
		c.block()
		c.out.room.Wait()
	}
	if c.out.end != nil {
		return errEnded
	}
	c.kickLocked()
	return nil
}

// slack is room for answers above what messages may fill.
const slack = 64 << 10

// errEnded says that the connection was ended by somebody who knows why.
var errEnded = errors.New("connection was ended")

// read serves packets until the connection ends.
func (c *conn) read() error {
	for {
		h, body, err := c.next(c.maxPacket)
		if err != nil {
			if errors.Is(err, mqtt.ErrTooLarge) {
				c.noteLimit(quota.ClientPacket, int64(c.maxPacket), quota.Ended, 1)
			}
			return err
		}
		c.heard.Store(0)
		if c.ending.Load() {
			// Before MQTT 5 a message that is refused ends the connection and is sent
			// again: what came behind it must not be taken before it [MQTT-4.6.0-5].
			return errEnded
		}
		if err := c.handle(h, body); err != nil {
			return err
		}
	}
}

// handle serves one packet.
func (c *conn) handle(h mqtt.Header, body []byte) error {
	switch h.Type {
	case mqtt.PUBLISH:
		return c.publish(h, body)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		return c.acknowledged(h.Type, body)
	case mqtt.SUBSCRIBE:
		c.block()
		return c.subscribe(body)
	case mqtt.UNSUBSCRIBE:
		c.block()
		return c.unsubscribe(body)
	case mqtt.PINGREQ:
		if err := c.slow(1, 0); err != nil {
			return err
		}
		c.send(&mqtt.Pingresp{})
		return nil
	case mqtt.DISCONNECT:
		return c.disconnected(body)
	case mqtt.AUTH:
		return c.reauthenticate(body)
	case mqtt.CONNECT:
		return protocolError(mqtt.ProtocolError, "connect: must not be sent twice [MQTT-3.1.0-2]")
	}
	return protocolError(mqtt.ProtocolError, "packet type: only a server sends it (2.1.2)")
}

// disconnected serves DISCONNECT.
func (c *conn) disconnected(body []byte) error {
	p, err := mqtt.DecodeDisconnect(body, c.version)
	if err != nil {
		return err
	}
	if v, ok := p.Properties.SessionExpiry.Get(); ok && !c.grant.Load().Separate() {
		if c.expiry == 0 && v != 0 {
			return protocolError(mqtt.ProtocolError, "disconnect: session expiry must stay 0 if it was 0 in CONNECT [MQTT-3.14.2-2]")
		}
		c.expiry = c.b.sessionExpiry(v)
	}
	c.end(ending{quiet: true, clean: p.Code != mqtt.DisconnectWithWill && !p.Code.IsError()})
	return errEnded
}

// stop ends the connection on an error of its reader, unless it is ending.
func (c *conn) stop(err error) {
	switch ne := net.Error(nil); {
	case err == nil, errors.Is(err, errEnded):
		c.end(ending{quiet: true})
	case errors.As(err, new(*mqtt.Error)), errors.As(err, new(*errs.Error)), errors.Is(err, engine.ErrLost):
		c.end(endingOf(err))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &ne):
		c.end(ending{quiet: true, err: err})
	default:
		c.end(ending{quiet: true, err: err})
	}
}

// end asks the connection to end, from any goroutine. The first cause counts.
func (c *conn) end(e ending) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.endLocked(e)
}

func (c *conn) endLocked(e ending) {
	o := &c.out
	if o.end != nil {
		return
	}
	if e.urgent || e.lost {
		o.buf = o.buf[:0]
	}
	if !e.quiet && c.accepted && c.version >= mqtt.V5 {
		p := &mqtt.Disconnect{Code: e.code}
		if e.msg != "" {
			p.Properties.ReasonString = reason(e.msg)
		}
		o.buf, _ = mqtt.AppendWithin(o.take(), p, c.version, c.clientMax)
	}
	o.end = &e
	c.ending.Store(true)
	o.pending, o.held = nil, nil // jobs belong to sendRetained, which ends now
	o.room.Broadcast()
	c.cancel()
	patience := closeTimeout
	if e.urgent || e.lost {
		patience = urgentTimeout
	}
	o.deadline = time.Now().Add(patience)
	if o.running { // it may be stuck in a write
		c.nc.SetWriteDeadline(o.deadline)
		return
	}
	o.running = true
	c.wg.Go(c.flush)
}

// How long a client that is being disconnected has to read what is left for it.
const (
	closeTimeout  = 2 * time.Second
	urgentTimeout = 200 * time.Millisecond
)

// finish cleans up when the reader has ended: the session is let go, the will
// is published or scheduled, and whoever waits to take over may go on.
func (c *conn) finish() {
	c.wg.Wait()
	c.settle()
	c.close()
}

// settle is what finish does that others wait for.
func (c *conn) settle() {
	stopTimer(c.alive)
	stopTimer(c.until)
	c.noteDrops()
	c.stopAuthenticating()
	e := *c.out.end // set by stop, and never again
	if c.sess != nil {
		c.b.metrics.connected.Add(-1)
		c.letGo(e)
		level := slog.LevelDebug
		if e.code.IsError() {
			level = slog.LevelInfo
		}
		c.log().Log(context.Background(), level, "disconnected", "code", e.code.String(), "reason", e.msg, "err", e.err)
	}
	c.in.i = c.in.n
	c.in.release()
	c.b.forget(c)
	close(c.over)
}

// close says goodbye, which a client that does not read can hold up.
func (c *conn) close() {
	c.nc.Close()
	c.peer.Close()
}

// wasAccepted reports whether the client was let in.
func (c *conn) wasAccepted() bool {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.accepted
}

func stopTimer(t *time.Timer) {
	if t != nil {
		t.Stop()
	}
}

// keepAliveExpired runs when the client may have been silent for too long. The
// time in which we serve it, and do not listen, is not its silence: it may have
// sent something that nobody has read.
func (c *conn) keepAliveExpired() {
	limit := c.keepAlive + c.keepAlive/2 // [MQTT-3.1.2-22]
	since := c.heard.Load()
	if c.ctx.Err() != nil {
		return // it ends, and nobody would stop the timer again
	}
	if since == 0 {
		c.alive.Reset(limit)
		return
	}
	silent := time.Since(time.Unix(0, since))
	if silent >= limit {
		c.end(endKeepAlive)
		return
	}
	c.alive.Reset(limit - silent)
}
