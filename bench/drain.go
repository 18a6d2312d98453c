package main

import (
	"context"
	"fmt"
)

// toOne has many publish for one session, which is away if copies is 0.
func toOne(name string, copies int) shape {
	return shape{name: name, pubs: 200, subs: 1, qos: 1, window: 16, size: smallPayload, copies: copies,
		topic:  func(i int) string { return fmt.Sprintf("bench/%s/%d", name, i) },
		filter: func(int) string { return "bench/" + name + "/#" }}
}

// drain stores as many messages as the run says for one session that is away,
// and measures how it collects them when it returns. Beside it are the same
// publishers with one subscriber that is there. Each peer is a fresh process,
// because our default for a queue is 100,000 messages.
func drain(ctx context.Context, b *bench, r *Result) error {
	return b.each(ctx, r, Peer.Queues, func(p Peer) error {
		return b.fresh(ctx, p, b.deep(), func(broker *Broker) error { return b.drainRounds(ctx, broker, r) })
	})
}

func (b *bench) drainRounds(ctx context.Context, broker *Broker, r *Result) error {
	there, err := connectLoad(ctx, broker, toOne("there", 1))
	if err != nil {
		return err
	}
	defer there.close()
	gone, err := connectLoad(ctx, broker, toOne("gone", 0))
	if err != nil {
		return err
	}
	defer gone.close()
	peer := broker.Peer.Name()
	add := func(what string, n int, m round) {
		r.add(what+": CPU per message, µs", peer, m.perMessage())
		r.add(what+": per second", peer, m.rate())
		r.note(peer, n, m)
	}
	for n := range b.rounds {
		m, err := there.saturated(b.seconds, b.watch(r.Name+"-there", broker, n))
		if err != nil {
			return err
		}
		add("to one that is there", n, m)
		if err := broker.leaveOne(ctx, n, gone.shape.filter(0)); err != nil {
			return err
		}
		if m, err = gone.exactly(b.stored); err != nil {
			return err
		}
		add(fmt.Sprintf("%d stored", b.stored), n, m)
		if m, err = broker.collect(ctx, 1, n, int64(b.stored)); err != nil {
			return err
		}
		add(fmt.Sprintf("%d collected", b.stored), n, m)
		if err := broker.forget(ctx, 1, n); err != nil {
			return err
		}
	}
	return nil
}

// leaveOne makes the session of round n, which subscribes and goes away.
func (b *Broker) leaveOne(ctx context.Context, n int, filter string) error {
	one, err := b.sessions(ctx, 1, n, func(c *client, _ int) error { return c.subscribe(filter, 1) })
	closeAll(one)
	return err
}
