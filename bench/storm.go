package main

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"
)

const (
	stormClients = 10_000 // that come back at once
	stormRate    = 2000   // messages a second of those who have stayed
	stormOpeners = 1000   // who come back at a time: the rest is their pause
)

// storm measures what others notice while a fleet comes back: established pairs
// exchange messages at a moderate rate, thousands of idle clients lose their
// connection at one moment, and all of them make a full handshake and CONNECT.
// Once for each peer, in a fresh process.
func storm(ctx context.Context, b *bench, r *Result) error {
	return b.each(ctx, r, func(Peer) bool { return true }, func(p Peer) error {
		return b.fresh(ctx, p, b.roomy(), func(broker *Broker) error { return b.stormOne(ctx, r, broker) })
	})
}

func (b *bench) stormOne(ctx context.Context, r *Result, broker *Broker) error {
	s := pairs(1)
	s.pubs, s.subs = 200, 200
	l, err := connectLoad(ctx, broker, s)
	if err != nil {
		return err
	}
	defer l.close()
	n := min(b.connections, stormClients)
	connect := func(i int) (*client, error) { return broker.dial(ctx, i, fmt.Sprintf("storm-%d", i), true) }
	fleet, err := broker.open(ctx, n, connect)
	if err != nil {
		return err
	}
	defer func() { closeAll(fleet) }()
	peer := broker.Peer.Name()
	note := func(when string, m round) {
		for _, p := range []float64{50, 99, 99.9} {
			r.add(fmt.Sprintf("p%v %s, ms", p, when), peer, float64(percentile(m.latency, p/100))/float64(time.Millisecond))
		}
		r.note(peer, 0, m)
	}
	quiet, err := l.steady(stormRate, b.seconds, b.watch(r.Name, broker, 0))
	if err != nil {
		return err
	}
	note("before", quiet)
	var took time.Duration
	during, err := l.beside(stormRate, func() error {
		for _, c := range fleet {
			c.leaving.Store(true)
			c.tls.NetConn().Close()
		}
		start := time.Now()
		var err error
		fleet, err = broker.openBy(ctx, stormOpeners, n, connect)
		took = time.Since(start)
		return err
	})
	if err != nil {
		return err
	}
	note("while they come back", during)
	r.add("all are back after, s", peer, took.Seconds())
	r.add("connects per second", peer, float64(n)/took.Seconds())
	return nil
}

// beside sends at a fixed rate while f runs, and notes the latency of what was
// sent meanwhile.
func (l *load) beside(perSecond int, f func() error) (round, error) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var behind int64
	wg.Go(func() { behind = l.pace(perSecond, stop) })
	err := pause(l.ctx, warmUp)
	start, had := time.Now(), l.delivered()
	if err == nil {
		l.from.Store(int64(time.Since(l.base)))
		l.to.Store(math.MaxInt64)
		err = f()
		l.to.Store(int64(time.Since(l.base)))
	}
	close(stop)
	wg.Wait()
	r := round{elapsed: time.Since(start), delivered: l.delivered() - had, behind: behind}
	if err != nil {
		return r, err
	}
	return l.finish(r)
}
