package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// lone measures one publisher that sends a message when the one before it is
// acknowledged: to a session that is away, and on a topic that nobody asked
// for. Beside it, a record of the same size is appended to a file and synced.
// The first should take what the other two take together, and wait for no timer.
func lone(ctx context.Context, b *bench, r *Result) error {
	dir, remove, err := tempDir("sync")
	if err != nil {
		return err
	}
	defer remove()
	return b.turns(ctx, r, func(broker *Broker, n int) error {
		if !broker.Peer.Queues() {
			return nil
		}
		return b.loneRound(ctx, broker, n, filepath.Join(dir, fmt.Sprintf("%s-%d", broker.Peer.Name(), n)), r)
	})
}

func (b *bench) loneRound(ctx context.Context, broker *Broker, n int, file string, r *Result) error {
	peer := broker.Peer.Name()
	away, err := broker.sessions(ctx, 1, n, func(c *client, _ int) error { return c.subscribe("bench/lone/kept", 1) })
	if err != nil {
		return err
	}
	closeAll(away)
	c, err := broker.dial(ctx, 0, "lone", true)
	if err != nil {
		return err
	}
	defer func() { _ = c.leave() }() // the round is over
	note := func(what string, took []int64) {
		slices.Sort(took)
		for _, p := range []float64{50, 99} {
			r.add(fmt.Sprintf("%s: p%v, µs", what, p), peer, float64(percentile(took, p/100))/1e3)
		}
	}
	for _, w := range []struct{ topic, what string }{{"bench/lone/kept", "kept"}, {"bench/lone/nobody", "nobody asked for it"}} {
		before, err := broker.Usage()
		if err != nil {
			return err
		}
		took, err := c.oneByOne(w.topic, b.seconds)
		if err != nil {
			return err
		}
		after, err := broker.Usage()
		if err != nil {
			return err
		}
		note(w.what, took)
		r.add(w.what+": CPU per message, µs", peer, float64((after.cpu()-before.cpu()).Microseconds())/float64(len(took)))
	}
	took, err := syncOneByOne(file, len(lonePacket("bench/lone/kept")), b.seconds)
	if err != nil {
		return err
	}
	note("bare file: append and fsync", took)
	return broker.forget(ctx, 1, n)
}

func lonePacket(topic string) []byte {
	s := mqtt.Shared{Topic: topic, Payload: make([]byte, smallPayload)}
	return mqtt.AppendPublish(nil, version, &s, &mqtt.Delivery{QoS: 1, PacketID: 1})
}

// oneByOne publishes for a while, one message at a time, and returns how long
// each acknowledgement took in ns.
func (c *client) oneByOne(topic string, d time.Duration) (took []int64, err error) {
	packet := lonePacket(topic)
	if err := c.tls.SetDeadline(time.Now().Add(d + startTimeout)); err != nil {
		return nil, err
	}
	for begin := time.Now(); time.Since(begin) < d || len(took) == 0; {
		start := time.Now()
		if _, err := c.tls.Write(packet); err != nil {
			return nil, err
		}
		for {
			h, _, n, err := mqtt.Frame(c.buf[:c.have], mqtt.MaxPacketSize)
			if err != nil {
				return nil, err
			}
			if n > 0 {
				if c.have = copy(c.buf, c.buf[n:c.have]); h.Type != mqtt.PUBACK {
					return nil, fmt.Errorf("a publisher got %v", h.Type)
				}
				break
			}
			if err := c.fill(); err != nil {
				return nil, err
			}
		}
		took = append(took, int64(time.Since(start)))
	}
	return took, c.tls.SetDeadline(time.Time{})
}

// syncOneByOne appends records of a size to a new file and syncs each.
func syncOneByOne(file string, size int, d time.Duration) (took []int64, err error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, fmt.Errorf("bare file: %w", err)
	}
	defer f.Close()
	record := make([]byte, size)
	for begin := time.Now(); time.Since(begin) < d || len(took) == 0; {
		start := time.Now()
		if _, err := f.Write(record); err != nil {
			return nil, fmt.Errorf("bare file: %w", err)
		}
		if err := f.Sync(); err != nil {
			return nil, fmt.Errorf("bare file: %w", err)
		}
		took = append(took, int64(time.Since(start)))
	}
	return took, nil
}
