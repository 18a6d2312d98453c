package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

const (
	churners  = 10
	churnRate = 10_000 // SUBSCRIBE and UNSUBSCRIBE a second, of all churners
	besides   = 20_000 // messages a second
)

// churn measures the same messages at a fixed rate without and with changes of
// subscriptions that they do not match, and the changes alone: what the messages
// cost beside changes is the rest of what both cost together.
func churn(ctx context.Context, b *bench, r *Result) error {
	return b.turns(ctx, r, func(broker *Broker, n int) error {
		if !broker.Peer.Queues() {
			return nil
		}
		peer := broker.Peer.Name()
		l, err := connectLoad(ctx, broker, few())
		if err != nil {
			return err
		}
		defer l.close()
		without, err := l.steady(besides, b.seconds, nil)
		if err != nil {
			return err
		}
		r.note(peer, n, without)
		all, err := broker.open(ctx, churners, func(i int) (*client, error) {
			return broker.dial(ctx, i, fmt.Sprintf("churn-%d", i), true)
		})
		if err != nil {
			return err
		}
		defer closeAll(all)
		c := startChurn(all)
		alone, err := c.alone(ctx, broker, b.seconds)
		if err != nil {
			return errors.Join(err, c.stop())
		}
		with, err := l.steady(besides, b.seconds, nil)
		if err = errors.Join(err, c.stop()); err != nil {
			return err
		}
		r.note(peer, n, with)
		perSecond := func(m round) float64 { return m.cpu.Seconds() / m.elapsed.Seconds() }
		r.add("CPU per message without changes, µs", peer, without.perMessage())
		r.add("CPU per change, µs", peer, perSecond(alone)*1e6/churnRate)
		r.add("CPU per message beside changes, over that without", peer, (perSecond(with)-perSecond(alone))/perSecond(without))
		for what, m := range map[string]round{"without": without, "beside": with} {
			r.add("p99 "+what+" changes, ms", peer, float64(percentile(m.latency, 0.99))/float64(time.Millisecond))
		}
		return nil
	})
}

// A churning is connections that subscribe and unsubscribe.
type churning struct {
	all     []*client
	readers sync.WaitGroup
	writer  sync.WaitGroup
	end     chan struct{}
	asked   atomic.Int64
	mu      sync.Mutex // guards err
	err     error
}

func startChurn(all []*client) *churning {
	c := &churning{all: all, end: make(chan struct{})}
	answers := new(atomic.Int64)
	for _, one := range all {
		c.readers.Go(func() { c.fail(one.read(answerCounter{answers})) })
	}
	c.writer.Go(func() {
		c.write()
		for deadline := time.Now().Add(patience); answers.Load() < c.asked.Load(); {
			if time.Now().After(deadline) {
				c.fail(fmt.Errorf("%d of %d changes are not answered", c.asked.Load()-answers.Load(), c.asked.Load()))
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	return c
}

func (c *churning) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = errors.Join(c.err, err)
}

// write makes changes at the rate, each client in turn: a filter comes, and at
// the client's next turn it goes.
func (c *churning) write() {
	start, tick := time.Now(), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	var packet []byte
	for {
		due := int64(time.Since(start).Seconds() * churnRate)
		for n := c.asked.Load(); n < due; n++ {
			turn, i := n/churners, n%churners
			filter, id := fmt.Sprintf("bench/churn/%d/%d/+", i, turn/2%500), uint16(1+turn%65_535)
			var p mqtt.Packet = &mqtt.Subscribe{PacketID: id, Subscriptions: []mqtt.Subscription{{Filter: filter, QoS: 1}}}
			if turn%2 == 1 {
				p = &mqtt.Unsubscribe{PacketID: id, Filters: []string{filter}}
			}
			packet = p.Append(packet[:0], version)
			c.asked.Store(n + 1)
			if _, err := c.all[i].tls.Write(packet); err != nil {
				c.fail(err)
				return
			}
		}
		select {
		case <-tick.C:
		case <-c.end:
			return
		}
	}
}

// alone measures the changes.
func (c *churning) alone(ctx context.Context, broker *Broker, d time.Duration) (round, error) {
	if err := pause(ctx, warmUp); err != nil {
		return round{}, err
	}
	before, err := broker.Usage()
	if err != nil {
		return round{}, err
	}
	start := time.Now()
	if err := pause(ctx, d); err != nil {
		return round{}, err
	}
	after, err := broker.Usage()
	return round{elapsed: time.Since(start), cpu: after.cpu() - before.cpu()}, err
}

// stop ends the changes and waits for their answers.
func (c *churning) stop() error {
	close(c.end)
	c.writer.Wait()
	closeAll(c.all)
	c.readers.Wait()
	return c.err
}

// An answerCounter counts what is answered.
type answerCounter struct{ n *atomic.Int64 }

func (a answerCounter) handle(_ *client, h mqtt.Header, _ []byte) error {
	if h.Type != mqtt.SUBACK && h.Type != mqtt.UNSUBACK {
		return fmt.Errorf("who subscribes got %v", h.Type)
	}
	a.n.Add(1)
	return nil
}
