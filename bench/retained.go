package main

import (
	"context"
	"fmt"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// retainedRow stores retained messages, each on a topic of its own, measures
// what they take, how long a subscriber of all of them waits for the first and
// the last, and how long a restart takes.
func retainedRow(ctx context.Context, b *bench, r *Result) error {
	return b.each(ctx, r, Peer.Queues, func(p Peer) error {
		return b.fresh(ctx, p, fmt.Sprintf("limits: {org.retained: %d, org.retained_bytes: %d}\n", max(1_000_000, b.retained), max(1<<30, b.retained<<10)),
			func(broker *Broker) error { return b.retainedOf(ctx, broker, r) })
	})
}

func (b *bench) retainedOf(ctx context.Context, broker *Broker, r *Result) error {
	peer := broker.Peer.Name()
	if err := b.restarts(ctx, broker, r, "with none"); err != nil {
		return err
	}
	base, err := settled(ctx, broker)
	if err != nil {
		return err
	}
	const pubs = 100
	s := shape{name: "retained-", pubs: pubs, qos: 1, window: 16, size: smallPayload, retain: true, vary: max(1, b.retained/pubs),
		topic:  func(i int) string { return fmt.Sprintf("bench/retained/%d/%0*d", i, digits, 0) },
		filter: func(int) string { return "" }}
	l, err := connectLoad(ctx, broker, s)
	if err != nil {
		return err
	}
	total := s.vary * pubs
	m, err := l.exactly(total)
	l.close()
	if err != nil {
		return err
	}
	r.note(peer, 0, m)
	r.add("CPU per stored message, µs", peer, m.perMessage())
	now, err := settled(ctx, broker)
	if err != nil {
		return err
	}
	r.add(fmt.Sprintf("bytes of memory for each of %d", total), peer, float64(now-base)/float64(total))
	for n := range b.rounds {
		first, last, err := broker.readRetained(ctx, n, total)
		if err != nil {
			return err
		}
		r.add("first message of #, ms", peer, first.Seconds()*1e3)
		r.add("last message of #, ms", peer, last.Seconds()*1e3)
	}
	return b.restarts(ctx, broker, r, fmt.Sprintf("with %d", total))
}

// readRetained subscribes to everything and returns when the first and when the
// last of the retained messages came.
func (b *Broker) readRetained(ctx context.Context, n, total int) (first, last time.Duration, err error) {
	c, err := b.dial(ctx, n, fmt.Sprintf("reader-%d", n), true)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = c.leave() }() // all has come
	start := time.Now()
	if err := c.tls.SetDeadline(start.Add(startTimeout)); err != nil {
		return 0, 0, err
	}
	p := &mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "#"}}}
	if _, err := c.tls.Write(p.Append(nil, version)); err != nil {
		return 0, 0, err
	}
	for have := 0; have < total; {
		used := 0
		for {
			h, _, n, err := mqtt.Frame(c.buf[used:c.have], mqtt.MaxPacketSize)
			if err != nil {
				return 0, 0, err
			}
			if n == 0 {
				break
			}
			if used += n; h.Type == mqtt.PUBLISH {
				if have++; have == 1 {
					first = time.Since(start)
				}
			}
		}
		c.have = copy(c.buf, c.buf[used:c.have])
		if have == total {
			break
		}
		if err := c.fill(); err != nil {
			return 0, 0, fmt.Errorf("%d of %d retained messages came: %w", have, total, err)
		}
	}
	return first, time.Since(start), nil
}
