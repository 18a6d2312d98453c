package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// connects measures full TLS handshakes with CONNECT and DISCONNECT: openers
// at a time, each with a new client identifier, as fast as they are answered.
func connects(ctx context.Context, b *bench, r *Result) error {
	return b.turns(ctx, r, func(broker *Broker, n int) error {
		before, err := broker.Usage()
		if err != nil {
			return err
		}
		start := time.Now()
		var wg sync.WaitGroup
		var done atomic.Int64
		errs := make([]error, openers)
		for w := range openers {
			wg.Go(func() {
				for i := w; time.Since(start) < b.seconds && ctx.Err() == nil; i += openers {
					c, err := broker.dial(ctx, i, fmt.Sprintf("connect-%d-%d", n, i), true)
					if err != nil {
						errs[w] = err
						return
					}
					done.Add(1)
					_ = c.leave() // the broker may be faster in closing
				}
			})
		}
		wg.Wait()
		elapsed := time.Since(start)
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		after, err := broker.Usage()
		if err != nil {
			return err
		}
		peer, count := broker.Peer.Name(), max(1, done.Load())
		r.add("CPU per connect, µs", peer, float64((after.cpu()-before.cpu()).Microseconds())/float64(count))
		r.add("connects per second", peer, float64(count)/elapsed.Seconds())
		return nil
	})
}
