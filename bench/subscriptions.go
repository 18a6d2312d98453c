package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// perSession is how many subscriptions each session of growSubscriptions has.
const perSession = 100

// growSubscriptions: sessions that are away have subscriptions with wildcards,
// none of which matches what the few publish. Each message of theirs goes to
// another topic, so that none of them is matched from memory.
func growSubscriptions(ctx context.Context, b *bench, r *Result) error {
	s := few()
	s.vary = 1000
	s.topic = func(i int) string { return fmt.Sprintf("bench/few/%d/%0*d", i, digits, 0) }
	s.filter = func(i int) string { return fmt.Sprintf("bench/few/%d/+", i) }
	return b.each(ctx, r, Peer.Queues, func(p Peer) error {
		return b.grow(ctx, p, fmt.Sprintf("limits: {org.subscriptions: %d}\n", max(10_000_000, 2*b.subscriptions)), r, growth{
			of: "subscriptions", sizes: upTo(b.subscriptions, 1000, 10_000, 100_000),
			open: func(ctx context.Context, broker *Broker) (*meter, error) { return b.online(ctx, broker, r, s) },
			more: func(ctx context.Context, broker *Broker, from, to int) error {
				base, err := settled(ctx, broker)
				if err != nil {
					return err
				}
				if err := broker.leaveSubscriptions(ctx, from/perSession, to/perSession); err != nil || to < b.subscriptions {
					return err
				}
				now, err := settled(ctx, broker)
				r.add(fmt.Sprintf("bytes of memory for each, the last of %d", to), p.Name(), float64(now-base)/float64(to-from))
				return err
			},
		})
	})
}

// leaveSubscriptions makes sessions that subscribe and go away.
func (b *Broker) leaveSubscriptions(ctx context.Context, from, to int) error {
	all, err := b.open(ctx, to-from, func(i int) (*client, error) {
		n := from + i
		c, err := b.dial(ctx, i, fmt.Sprintf("subscribed-%d", n), false)
		if err != nil {
			return nil, err
		}
		var filters []string
		for k := range perSession {
			filters = append(filters, fmt.Sprintf("bench/many/%d/+/%d/#", n, k))
		}
		return nil, errors.Join(c.subscribeAll(filters, 1), c.leave())
	})
	closeAll(all)
	return err
}

// subscribeAll asks for many filters at once.
func (c *client) subscribeAll(filters []string, qos byte) error {
	p := &mqtt.Subscribe{PacketID: 1}
	for _, f := range filters {
		p.Subscriptions = append(p.Subscriptions, mqtt.Subscription{Filter: f, QoS: qos})
	}
	h, body, err := c.ask(p)
	if err != nil {
		return fmt.Errorf("subscribe %s and others: %w", filters[0], err)
	}
	ack, err := mqtt.DecodeSuback(body, version)
	if h.Type != mqtt.SUBACK || err != nil || len(ack.Codes) != len(filters) {
		return fmt.Errorf("subscribe %s and others: refused: %v %+v, %v", filters[0], h.Type, ack, err)
	}
	for _, code := range ack.Codes {
		if code != mqtt.ReasonCode(qos) {
			return fmt.Errorf("subscribe %s and others: refused: %v", filters[0], code)
		}
	}
	return nil
}
