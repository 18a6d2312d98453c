package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// fresh runs a process of a peer for one row: with the configuration, if it is
// ours, and in a folder that is removed.
func (b *bench) fresh(ctx context.Context, p Peer, config string, use func(*Broker) error) error {
	dir, remove, err := tempDir(p.Name())
	if err != nil {
		return err
	}
	defer remove()
	if k, ok := p.(keepmq); ok {
		k.config = config
		p = k
	}
	broker, err := p.Start(ctx, dir)
	if err != nil {
		return err
	}
	defer broker.Stop()
	return use(broker)
}

// roomy allows the connections of the run. The default is eight of ten files
// that the process may open, and few machines let it open many more than needed.
func (b *bench) roomy() string {
	return fmt.Sprintf("mqtt: {max_connections: %d}\n", b.connections+500)
}

// deep allows the stored messages of the run in one session.
func (b *bench) deep() string {
	return fmt.Sprintf("limits: {client.queue: %d, client.queue_bytes: %d}\n", max(100_000, 2*b.stored), int64(max(100_000, 2*b.stored))*1024)
}

// upTo returns the sizes that are below most, and most.
func upTo(most int, sizes ...int) []int {
	return append(slices.DeleteFunc(sizes, func(n int) bool { return n >= most }), most)
}

// each runs one for every peer that is wanted. What fails is noted.
func (b *bench) each(ctx context.Context, r *Result, want func(Peer) bool, one func(p Peer) error) error {
	for _, p := range b.peers {
		if !want(p) {
			continue
		}
		if err := one(p); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			r.failed(p.Name(), err)
		}
	}
	return nil
}

// exactly sends n messages over all senders, each as fast as its window
// allows, and measures the broker until all are acknowledged or delivered.
func (l *load) exactly(n int) (round, error) {
	before, err := l.broker.Usage()
	if err != nil {
		return round{}, err
	}
	start, had := time.Now(), l.delivered()
	var wg sync.WaitGroup
	for i, p := range l.senders {
		share := n / len(l.senders)
		if i < n%len(l.senders) {
			share++
		}
		wg.Go(func() { p.send(share) })
	}
	wg.Wait()
	r, err := l.finish(round{})
	if err != nil {
		return r, err
	}
	after, err := l.broker.Usage()
	r.elapsed, r.cpu, r.delivered = time.Since(start), after.cpu()-before.cpu(), l.delivered()-had
	return r, err
}

// send sends n messages, as fast as slots become free.
func (p *sender) send(n int) {
	for n > 0 {
		for ; n > 0 && p.put(int64(time.Since(p.load.base))); n-- {
			if !p.write() {
				return
			}
		}
		if n == 0 {
			return
		}
		select {
		case <-p.wake:
		case <-p.load.ctx.Done():
			return
		}
	}
}
