package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A way is how the openers of a row connect. It makes ready so many of them and
// returns what opener w does for its connection i, of which the first is not
// measured. nil: the peer has no such clients.
type way func(ctx context.Context, broker *Broker, n int) (func(w, i int) (*client, error), error)

// connects measures handshakes with CONNECT and DISCONNECT: openers at a time,
// each as fast as it is answered.
func connects(prepare way) func(context.Context, *bench, *Result) error {
	return func(ctx context.Context, b *bench, r *Result) error {
		ready := map[*Broker]func(w, i int) (*client, error){}
		return b.turns(ctx, r, func(broker *Broker, n int) error {
			if n == 0 {
				connect, err := prepare(ctx, broker, openers)
				if err != nil {
					return err
				}
				ready[broker] = connect
			}
			if ready[broker] == nil {
				return nil
			}
			return b.connectOnce(ctx, r, broker, ready[broker])
		})
	}
}

func (b *bench) connectOnce(ctx context.Context, r *Result, broker *Broker, connect func(w, i int) (*client, error)) error {
	once := func(w, i int) error {
		c, err := connect(w, i)
		if err == nil {
			_ = c.leave() // the broker may be faster in closing
		}
		return err
	}
	var done atomic.Int64
	all := func(each func(w int) error) error {
		var wg sync.WaitGroup
		errs := make([]error, openers)
		for w := range openers {
			wg.Go(func() { errs[w] = each(w) })
		}
		wg.Wait()
		return errors.Join(errs...)
	}
	if err := all(func(w int) error { return once(w, 0) }); err != nil {
		return err
	}
	before, err := broker.Usage()
	if err != nil {
		return err
	}
	start := time.Now()
	err = all(func(w int) error {
		for i := 1; time.Since(start) < b.seconds && ctx.Err() == nil; i++ {
			if err := once(w, i); err != nil {
				return err
			}
			done.Add(1)
		}
		return nil
	})
	if err != nil {
		return err
	}
	elapsed := time.Since(start)
	after, err := broker.Usage()
	if err != nil {
		return err
	}
	peer, count := broker.Peer.Name(), max(1, done.Load())
	r.add("CPU per connect, µs", peer, float64((after.cpu()-before.cpu()).Microseconds())/float64(count))
	r.add("connects per second", peer, float64(count)/elapsed.Seconds())
	return nil
}

// full: each connection makes a full handshake under a new client identifier.
func full(ctx context.Context, broker *Broker, _ int) (func(w, i int) (*client, error), error) {
	var number atomic.Int64
	return func(w, _ int) (*client, error) {
		return broker.dial(ctx, w, fmt.Sprintf("connect-%d", number.Add(1)), true)
	}, nil
}

// resumed: each opener goes on with the TLS session of its connection before.
func resumed(ctx context.Context, broker *Broker, n int) (func(w, i int) (*client, error), error) {
	confs := make([]*tls.Config, n)
	for w := range confs {
		confs[w] = broker.TLS.Clone()
		confs[w].ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	var number atomic.Int64
	return func(w, i int) (*client, error) {
		c, err := broker.enter(ctx, w, login{confs[w], fmt.Sprintf("resume-%d", number.Add(1)), broker.Username, broker.Password, true})
		if err == nil && i > 0 && !c.tls.ConnectionState().DidResume {
			return nil, errors.Join(errors.New("the TLS session was not resumed"), c.leave())
		}
		return c, err
	}, nil
}

// mutual: each opener is a device with a certificate of its own, and makes full
// handshakes.
func mutual(ctx context.Context, broker *Broker, n int) (func(w, i int) (*client, error), error) {
	if broker.devices == nil {
		return nil, nil
	}
	logins, err := broker.devices(ctx, n)
	if err != nil {
		return nil, err
	}
	return func(w, _ int) (*client, error) { return broker.enter(ctx, w, logins[w]) }, nil
}
