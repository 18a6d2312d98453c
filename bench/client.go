package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/secret"
)

// version is what the load generator speaks: all peers know it.
const version = mqtt.V311

// sources is how many addresses of 127.0.0.0/8 clients come from, so that
// their ports do not run short.
const sources = 8

// A client is a connection of the load generator. One goroutine reads; writing
// is for one goroutine at a time.
type client struct {
	tls  *tls.Conn
	out  []byte // what the reader answers
	buf  []byte
	have int // buf[:have] was read and not handled

	leaving atomic.Bool // this side ends the connection
}

// A handler gets what a client reads. What is appended to client.out is sent
// after each batch.
type handler interface {
	handle(c *client, h mqtt.Header, body []byte) error
}

// A login is how a client connects.
type login struct {
	tls          *tls.Config
	id, username string
	password     secret.String
	clean        bool
}

// dial connects as everybody does, and waits for CONNACK. i chooses the source address.
func (b *Broker) dial(ctx context.Context, i int, id string, clean bool) (*client, error) {
	return b.enter(ctx, i, login{b.TLS, id, b.Username, b.Password, clean})
}

func (b *Broker) enter(ctx context.Context, i int, l login) (*client, error) {
	d := tls.Dialer{Config: l.tls, NetDialer: &net.Dialer{
		Timeout:   startTimeout,
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i%sources))},
	}}
	nc, err := d.DialContext(ctx, "tcp", b.Addr)
	if err != nil {
		return nil, err
	}
	c := &client{tls: nc.(*tls.Conn), buf: make([]byte, 512)}
	p := &mqtt.Connect{Version: version, CleanStart: l.clean, ClientID: l.id}
	if l.username != "" {
		p.Username, p.Password = mqtt.Some(l.username), mqtt.Credential(l.password.Reveal())
	}
	h, body, err := c.ask(p)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect %s: %w", l.id, err)
	}
	ack, err := mqtt.DecodeConnack(body, version)
	if h.Type != mqtt.CONNACK || err != nil || ack.Code != 0 {
		nc.Close()
		return nil, fmt.Errorf("connect %s: refused: %v %+v, %v", l.id, h.Type, ack, err)
	}
	return c, nil
}

// ask sends p and returns the next packet.
func (c *client) ask(p mqtt.Packet) (h mqtt.Header, body []byte, err error) {
	if err := c.tls.SetDeadline(time.Now().Add(startTimeout)); err != nil {
		return h, nil, err
	}
	if _, err := c.tls.Write(p.Append(nil, version)); err != nil {
		return h, nil, err
	}
	for {
		h, body, n, err := mqtt.Frame(c.buf[:c.have], mqtt.MaxPacketSize)
		if err != nil {
			return h, nil, err
		}
		if n > 0 {
			body = append([]byte(nil), body...)
			c.have = copy(c.buf, c.buf[n:c.have])
			return h, body, c.tls.SetDeadline(time.Time{})
		}
		if err := c.fill(); err != nil {
			return h, nil, err
		}
	}
}

// subscribe asks for a filter and waits for the answer. Messages that come
// before it are an error: nothing publishes yet.
func (c *client) subscribe(filter string, qos byte) error {
	h, body, err := c.ask(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: filter, QoS: qos}}})
	if err != nil {
		return fmt.Errorf("subscribe %s: %w", filter, err)
	}
	ack, err := mqtt.DecodeSuback(body, version)
	if h.Type != mqtt.SUBACK || err != nil || len(ack.Codes) != 1 || ack.Codes[0] != mqtt.ReasonCode(qos) {
		return fmt.Errorf("subscribe %s: refused: %v %+v, %v", filter, h.Type, ack, err)
	}
	return nil
}

// readSize is what a reading client asks for at a time: one TLS record.
const readSize = 16 << 10

// fill reads once, after making room.
func (c *client) fill() error {
	if c.have == len(c.buf) {
		c.buf = append(c.buf, make([]byte, max(readSize, len(c.buf)))...)
	}
	n, err := c.tls.Read(c.buf[c.have:])
	c.have += n
	return err
}

// read handles packets until the connection ends, which is not an error if
// this side has closed it.
func (c *client) read(h handler) error {
	if len(c.buf) < readSize {
		c.buf = append(c.buf, make([]byte, readSize)...)
	}
	for {
		used := 0
		for {
			head, body, n, err := mqtt.Frame(c.buf[used:c.have], mqtt.MaxPacketSize)
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
			if err := h.handle(c, head, body); err != nil {
				return err
			}
			used += n
		}
		c.have = copy(c.buf, c.buf[used:c.have])
		if len(c.out) > 0 {
			if _, err := c.tls.Write(c.out); err != nil {
				return c.unlessLeaving(err)
			}
			c.out = c.out[:0]
		}
		if err := c.fill(); err != nil {
			return c.unlessLeaving(err)
		}
	}
}

func (c *client) unlessLeaving(err error) error {
	if c.leaving.Load() {
		return nil
	}
	return err
}

// leave disconnects in order.
func (c *client) leave() error {
	c.leaving.Store(true)
	_, err := c.tls.Write((&mqtt.Disconnect{}).Append(nil, version))
	return errors.Join(err, c.tls.Close())
}

// openers is how many connections are opened at a time.
const openers = 32

// open connects n clients. If one fails, none stays open.
func (b *Broker) open(ctx context.Context, n int, connect func(i int) (*client, error)) ([]*client, error) {
	return b.openBy(ctx, openers, n, connect)
}

// openBy is open with so many connections at a time.
func (b *Broker) openBy(ctx context.Context, openers, n int, connect func(i int) (*client, error)) ([]*client, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	all := make([]*client, n)
	var wg sync.WaitGroup
	for w := range openers {
		wg.Go(func() {
			for i := w; i < n && ctx.Err() == nil; i += openers {
				c, err := connect(i)
				if err != nil {
					cancel(err)
					return
				}
				all[i] = c
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		closeAll(all)
		return nil, fmt.Errorf("open %d connections to %s: %w", n, b.Peer.Name(), err)
	}
	return all, nil
}

// closeAll ends connections, those that are there.
func closeAll(all []*client) {
	var wg sync.WaitGroup
	for w := range openers {
		wg.Go(func() {
			for i := w; i < len(all); i += openers {
				if all[i] != nil {
					_ = all[i].leave() // its reader may have ended it
				}
			}
		})
	}
	wg.Wait()
}
