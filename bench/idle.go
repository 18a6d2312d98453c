package main

import (
	"context"
	"fmt"
	"time"
)

// idle measures the resident memory of idle connections, once for each peer,
// in a fresh process: groups of connections open, each on top of the one before.
func idle(ctx context.Context, b *bench, r *Result) error {
	for _, p := range b.peers {
		if err := b.idleOne(ctx, p, r); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			r.failed(p.Name(), err)
		}
	}
	return nil
}

func (b *bench) idleOne(ctx context.Context, p Peer, r *Result) error {
	return b.fresh(ctx, p, b.roomy(), func(broker *Broker) error { return b.idleGroups(ctx, broker, r) })
}

func (b *bench) idleGroups(ctx context.Context, broker *Broker, r *Result) error {
	base, err := settled(ctx, broker)
	if err != nil {
		return err
	}
	var open []*client
	defer func() { closeAll(open) }()
	for _, n := range upTo(b.connections, 1000, 10_000) {
		first := len(open)
		more, err := broker.open(ctx, n-first, func(i int) (*client, error) {
			return broker.dial(ctx, i, fmt.Sprintf("idle-%d", first+i), true)
		})
		if err != nil {
			return err
		}
		open = append(open, more...)
		now, err := settled(ctx, broker)
		if err != nil {
			return err
		}
		r.add(fmt.Sprintf("KiB each of %d", n), broker.Peer.Name(), float64(now-base)/1024/float64(n))
	}
	return nil
}

// settled waits until a broker's memory has stopped changing for six seconds, 20 at
// most, and returns it.
func settled(ctx context.Context, b *Broker) (int64, error) {
	const quiet, atMost = 12, 40 // half seconds
	last, same := int64(0), 0
	for range atMost {
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return 0, err
		}
		u, err := b.Usage()
		if err != nil {
			return 0, err
		}
		if diff := u.Resident - last; diff < last/200 && diff > -last/200 {
			same++
		} else {
			same = 0
		}
		if last = u.Resident; same == quiet {
			break
		}
	}
	return last, nil
}
