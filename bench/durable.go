package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// away is how many sessions are without a connection. Each gets the messages
// of several publishers, and no more in a round than a queue may hold.
const away = 40

// toAway publishes to sessions that no load connection receives from.
func toAway(pubs int) shape {
	return shape{pubs: pubs, subs: away, qos: 1, window: 16, size: smallPayload,
		topic:  func(i int) string { return fmt.Sprintf("bench/away/%d/%d", i%away, i) },
		filter: func(i int) string { return fmt.Sprintf("bench/away/%d/#", i) }}
}

// durable measures QoS 1 publishes to persistent sessions that are away, and
// then the delivery of all that was acknowledged to the sessions as they
// return. Peers without queues are left out. Beside it are the same publishers
// with as many subscribers that are there and whose messages nobody keeps.
func durable(pubs int) func(context.Context, *bench, *Result) error {
	return func(ctx context.Context, b *bench, r *Result) error {
		if err := toThere(ctx, b, r, pubs); err != nil {
			return err
		}
		return toAwayRounds(ctx, b, r, toAway(pubs))
	}
}

// toThere measures what nobody keeps.
func toThere(ctx context.Context, b *bench, r *Result, pubs int) error {
	s := toAway(pubs)
	s.copies = 1
	return b.loads(ctx, r, s, func(l *load, peer string, n int) error {
		if !l.broker.Peer.Queues() {
			return nil
		}
		m, err := l.saturated(b.seconds, b.watch(r.Name+"-there", l.broker, n))
		if err != nil {
			return err
		}
		r.add("to those that are there: CPU per message, µs", peer, m.perMessage())
		r.add("to those that are there: per second", peer, m.rate())
		r.note(peer, n, m)
		return nil
	})
}

func toAwayRounds(ctx context.Context, b *bench, r *Result, shape shape) error {
	all := map[string]*load{}
	defer func() {
		for _, l := range all {
			l.close()
		}
	}()
	return b.turns(ctx, r, func(broker *Broker, n int) error {
		peer := broker.Peer.Name()
		if !broker.Peer.Queues() {
			return nil
		}
		if all[peer] == nil {
			l, err := connectLoad(ctx, broker, shape)
			if err != nil {
				return err
			}
			all[peer] = l
		}
		l := all[peer]
		sessions, err := broker.sessions(ctx, away, n, func(c *client, i int) error { return c.subscribe(shape.filter(i), 1) })
		if err != nil {
			return err
		}
		closeAll(sessions)
		had := l.delivered()
		m, err := l.saturated(b.seconds, b.watch(r.Name, broker, n))
		if err != nil {
			return err
		}
		r.add("CPU per stored message, µs", peer, m.perMessage())
		r.add("stored per second", peer, m.rate())
		r.note(peer, n, m)
		d, err := broker.collect(ctx, away, n, l.delivered()-had)
		if err != nil {
			return err
		}
		r.add("CPU per collected message, µs", peer, d.perMessage())
		r.add("collected per second", peer, d.rate())
		r.note(peer, n, d)
		return broker.forget(ctx, away, n)
	})
}

// sessions connects the sessions of round n, count of them, which are kept.
func (b *Broker) sessions(ctx context.Context, count, n int, then func(c *client, i int) error) ([]*client, error) {
	return b.open(ctx, count, func(i int) (*client, error) {
		c, err := b.dial(ctx, i, sessionID(n, i), false)
		if err != nil {
			return nil, err
		}
		if err := then(c, i); err != nil {
			_ = c.leave()
			return nil, err
		}
		return c, nil
	})
}

func sessionID(n, i int) string { return fmt.Sprintf("away-%d-%d", n, i) }

// forget ends the sessions of round n, so that nothing is queued for them in
// the next.
func (b *Broker) forget(ctx context.Context, count, n int) error {
	all, err := b.open(ctx, count, func(i int) (*client, error) { return b.dial(ctx, i, sessionID(n, i), true) })
	if err != nil {
		return err
	}
	closeAll(all)
	return nil
}

// collect reconnects the sessions and measures the delivery of what is queued
// for them: each acknowledged message once.
func (b *Broker) collect(ctx context.Context, count, n int, due int64) (round, error) {
	before, err := b.Usage()
	if err != nil {
		return round{}, err
	}
	start := time.Now()
	var arrived atomic.Int64
	var readers sync.WaitGroup
	errs := make([]error, count)
	sessions, err := b.sessions(ctx, count, n, func(c *client, i int) error {
		readers.Go(func() { errs[i] = c.read(&collector{arrived: &arrived}) })
		return nil
	})
	if err != nil {
		return round{}, err
	}
	err = arriving(ctx, &arrived, due)
	r := round{elapsed: time.Since(start), delivered: arrived.Load()}
	r.lost, r.extra = max(0, due-r.delivered), max(0, r.delivered-due)
	after, usageErr := b.Usage()
	r.cpu = after.cpu() - before.cpu()
	closeAll(sessions)
	readers.Wait()
	return r, errors.Join(append(errs, err, usageErr)...)
}

// arriving waits until all that is due has arrived, or nothing more comes.
func arriving(ctx context.Context, arrived *atomic.Int64, due int64) error {
	last, since := int64(0), time.Now()
	for last < due && time.Since(since) < patience {
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
		if n := arrived.Load(); n != last {
			last, since = n, time.Now()
		}
	}
	return nil
}

// A collector counts and acknowledges.
type collector struct {
	arrived *atomic.Int64
	pub     mqtt.Publish
}

func (k *collector) handle(c *client, h mqtt.Header, body []byte) error {
	if h.Type != mqtt.PUBLISH {
		return fmt.Errorf("a session got %v", h.Type)
	}
	if err := k.pub.Decode(h.Flags, body, version); err != nil {
		return err
	}
	c.out = (&mqtt.Ack{Type: mqtt.PUBACK, PacketID: k.pub.PacketID}).Append(c.out, version)
	k.arrived.Add(1)
	return nil
}
