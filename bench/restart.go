package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// storedEach is how many messages each session of the row restart holds.
const storedEach = 50

// restart measures how long our server takes from its start until it is ready,
// with many sessions that are away and hold messages, after it was stopped and
// after it was killed. Others keep nothing over a restart in these rows.
func restart(ctx context.Context, b *bench, r *Result) error {
	config := fmt.Sprintf("limits: {org.queue: %d}\n", max(20_000_000, 2*storedEach*b.sessions))
	return b.each(ctx, r, onlyOurs, func(p Peer) error {
		return b.fresh(ctx, p, config, func(broker *Broker) error { return b.restartOne(ctx, broker, r) })
	})
}

func (b *bench) restartOne(ctx context.Context, broker *Broker, r *Result) error {
	if err := b.restarts(ctx, broker, r, "with nothing"); err != nil {
		return err
	}
	const pubs = 100
	s := shape{name: "restart-", pubs: pubs, qos: 1, window: 16, size: smallPayload, vary: max(1, b.sessions/pubs),
		topic: func(i int) string { return fmt.Sprintf("bench/restart/%d/%0*d", i, digits, 0) }}
	sessions := s.vary * pubs
	filter := func(n int) string { return fmt.Sprintf("bench/restart/%d/%0*d", n/s.vary, digits, n%s.vary) }
	_, err := broker.open(ctx, sessions, func(n int) (*client, error) {
		c, err := broker.dial(ctx, n, sessionID(0, n), false)
		if err != nil {
			return nil, err
		}
		return nil, errors.Join(c.subscribe(filter(n), 1), c.leave())
	})
	if err != nil {
		return err
	}
	l, err := connectLoad(ctx, broker, s)
	if err != nil {
		return err
	}
	total := sessions * storedEach
	m, err := l.exactly(total)
	l.close()
	if err != nil {
		return err
	}
	r.note(broker.Peer.Name(), 0, m)
	if err := b.restarts(ctx, broker, r, fmt.Sprintf("with %d sessions and %d messages", sessions, total)); err != nil {
		return err
	}
	u, err := broker.Usage()
	if err != nil {
		return err
	}
	r.add("MiB resident when it is ready", broker.Peer.Name(), float64(u.Resident)/(1<<20))
	some := min(sessions, away)
	d, err := broker.collect(ctx, some, 0, int64(some*storedEach))
	r.note(broker.Peer.Name(), 0, d)
	return err
}

// restarts measures some restarts of a broker that can.
func (b *bench) restarts(ctx context.Context, broker *Broker, r *Result, what string) error {
	if broker.again == nil {
		return nil
	}
	for range b.rounds {
		for _, w := range []struct {
			how string
			end func(*process)
		}{{"stopped", (*process).stop}, {"killed", (*process).kill}} {
			w.end(broker.proc)
			start := time.Now()
			if err := broker.again(ctx); err != nil {
				return err
			}
			r.add(fmt.Sprintf("ready again %s, %s before, ms", what, w.how), broker.Peer.Name(), time.Since(start).Seconds()*1e3)
		}
	}
	return nil
}
