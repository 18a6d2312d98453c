package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/keepmq/keepmq/internal/secret"
)

const (
	revokeClients = 10_000 // that are connected
	victims       = 100    // of them: with an account of their own, which is disabled
)

// revoke measures how long what was revoked lives on: from the API's answer to the
// end of the connection, for one account after the other among thousands of
// clients, and for all clients of an organisation at once. This program notices
// the ends with the processors that it shares with the server, so that the times
// are upper bounds. Our server alone has an API to ask.
func revoke(ctx context.Context, b *bench, r *Result) error {
	own := func(p Peer) bool { return p.Name() == keepmq{}.Name() }
	return b.each(ctx, r, own, func(p Peer) error {
		return b.fresh(ctx, p, b.roomy(), func(broker *Broker) error { return b.revokeOne(ctx, r, broker) })
	})
}

// A doomed client notes when its connection ends.
type doomed struct {
	c     *client
	ended chan time.Time
}

func (b *bench) revokeOne(ctx context.Context, r *Result, broker *Broker) error {
	n := min(b.connections, revokeClients)
	few := min(victims, n/10)
	users, err := makeUsers(ctx, broker, few)
	if err != nil {
		return err
	}
	open := func(count int, connect func(i int) (*client, error)) ([]doomed, error) {
		all, err := broker.open(ctx, count, connect)
		if err != nil {
			return nil, err
		}
		var of []doomed
		for _, c := range all {
			d := doomed{c, make(chan time.Time, 1)}
			go func() { // ends with the connection
				for d.c.have = 0; d.c.fill() == nil; d.c.have = 0 {
				}
				d.ended <- time.Now()
			}()
			of = append(of, d)
		}
		return of, nil
	}
	crowd, err := open(n-few, func(i int) (*client, error) { return broker.dial(ctx, i, fmt.Sprintf("crowd-%d", i), true) })
	if err != nil {
		return err
	}
	single, err := open(few, func(i int) (*client, error) { return broker.enter(ctx, i, users[i]) })
	if err != nil {
		return err
	}
	defer func() {
		for _, d := range slices.Concat(crowd, single) {
			d.c.tls.NetConn().Close()
		}
	}()
	var lives []int64
	for i, d := range single {
		life, err := outlives(ctx, d, func() error {
			path := fmt.Sprintf("/orgs/%s/users/victim%d", broker.org, i)
			return broker.api.call(ctx, http.MethodPatch, path, map[string]bool{"disabled": true}, &struct{}{})
		})
		if err != nil {
			return err
		}
		lives = append(lives, int64(life))
	}
	note := func(what string, lives []int64) {
		slices.Sort(lives)
		ms := func(ns int64) float64 { return float64(ns) / float64(time.Millisecond) }
		peer := broker.Peer.Name()
		r.add(what+", p50, ms", peer, ms(percentile(lives, 0.5)))
		r.add(what+", p99, ms", peer, ms(percentile(lives, 0.99)))
		r.add(what+", last, ms", peer, ms(lives[len(lives)-1]))
	}
	note(fmt.Sprintf("one of %d is disabled", n), lives)

	if err := broker.api.call(ctx, http.MethodPatch, "/orgs/"+broker.org, map[string]bool{"disabled": true}, &struct{}{}); err != nil {
		return err
	}
	answered := time.Now()
	lives = lives[:0]
	for _, d := range crowd {
		select {
		case at := <-d.ended:
			lives = append(lives, int64(max(0, at.Sub(answered))))
		case <-time.After(time.Minute):
			return fmt.Errorf("a client of a disabled organisation is still connected after a minute")
		}
	}
	note(fmt.Sprintf("the organisation of %d is disabled", len(crowd)), lives)
	return nil
}

// outlives returns how long d lives on after change has returned.
func outlives(ctx context.Context, d doomed, change func() error) (time.Duration, error) {
	if err := change(); err != nil {
		return 0, err
	}
	answered := time.Now()
	select {
	case at := <-d.ended:
		return max(0, at.Sub(answered)), nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-time.After(time.Minute):
		return 0, fmt.Errorf("a client that was disabled is still connected after a minute")
	}
}

// makeUsers makes accounts that can be revoked one by one.
func makeUsers(ctx context.Context, broker *Broker, n int) ([]login, error) {
	users := make([]login, n)
	var wg sync.WaitGroup
	errs := make(chan error, n)
	for i := range n {
		wg.Go(func() {
			var u struct{ Username, Password string }
			name := fmt.Sprintf("victim%d", i)
			errs <- broker.api.post(ctx, "/orgs/"+broker.org+"/users", map[string]string{"name": name}, &u)
			users[i] = login{broker.TLS, name, u.Username, secret.New(u.Password), true}
		})
	}
	wg.Wait()
	for range n {
		if err := <-errs; err != nil {
			return nil, err
		}
	}
	return users, nil
}
