package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// A row is one workload that all peers run in turn.
type row struct {
	name  string
	title string
	run   func(ctx context.Context, b *bench, r *Result) error
}

// A Result is what a row has measured.
type Result struct {
	Name     string
	Title    string
	Measures []Measure
	Curves   []Curve  `json:",omitempty"`
	Notes    []string // losses and failures
	Failed   bool
}

// A Measure is one number of each round, by peer.
type Measure struct {
	Name   string
	Values map[string][]float64
}

// add notes a number of one round.
func (r *Result) add(measure, peer string, v float64) {
	i := slices.IndexFunc(r.Measures, func(m Measure) bool { return m.Name == measure })
	if i < 0 {
		i = len(r.Measures)
		r.Measures = append(r.Measures, Measure{measure, map[string][]float64{}})
	}
	r.Measures[i].Values[peer] = append(r.Measures[i].Values[peer], v)
}

// failed notes that a peer could not run the row. The run fails only if it is ours:
// what others cannot do is a result.
func (r *Result) failed(peer string, err error) {
	r.Failed = r.Failed || peer == keepmq{}.Name()
	r.Notes = append(r.Notes, fmt.Sprintf("%s: %v", peer, err))
}

// note tells about messages that were not delivered exactly as they should.
func (r *Result) note(peer string, n int, m round) {
	if m.lost > 0 || m.extra > 0 || m.behind > 0 {
		r.Failed = r.Failed || m.lost > 0 && peer == keepmq{}.Name()
		r.Notes = append(r.Notes, fmt.Sprintf("%s, round %d: %d of about %d deliveries lost, %d twice, %d messages not sent on time",
			peer, n+1, m.lost, m.delivered, m.extra, m.behind))
	}
}

const (
	cpuPerMessage = "CPU per delivery, µs"
	messageRate   = "deliveries per second"
)

// steadyRate is the fixed rate of the latency rows, messages a second.
const steadyRate = 5000

// fanIn, fanOut and pairs are the shapes of the saturation and latency rows.
// The windows keep what waits for one subscriber below every peer's limits.
func fanIn(qos byte) shape {
	const subs = 4
	return shape{pubs: 200, subs: subs, qos: qos, window: 16, size: smallPayload, copies: 1,
		topic:  func(i int) string { return fmt.Sprintf("bench/in/%d/%d", i%subs, i) },
		filter: func(i int) string { return fmt.Sprintf("bench/in/%d/#", i) }}
}

func fanOut(qos byte) shape {
	const subs = 500
	return shape{pubs: 1, subs: subs, qos: qos, window: 16, size: smallPayload, copies: subs,
		topic:  func(int) string { return "bench/out" },
		filter: func(int) string { return "bench/out" }}
}

func pairs(qos byte) shape {
	topic := func(i int) string { return fmt.Sprintf("bench/pair/%d", i) }
	return shape{pubs: 500, subs: 500, qos: qos, window: 8, size: smallPayload, copies: 1, topic: topic, filter: topic}
}

// large has a shape's messages be large, and so few of them under way that what
// waits for one subscriber stays below every peer's limits.
func large(s shape) shape {
	s.size, s.window = largePayload, max(1, s.window/8)
	return s
}

// allRows are the rows in the order of the table.
func allRows() []row {
	var all []row
	for _, w := range []struct {
		name, title string
		shape       func(byte) shape
	}{{"fan-in", "fan-in 200 → 4", fanIn}, {"fan-out", "fan-out 1 → 500", fanOut}, {"pairs", "pairs 500 ↔ 500", pairs}} {
		for qos := range byte(2) {
			all = append(all, row{fmt.Sprintf("%s-%d", w.name, qos), fmt.Sprintf("%s, QoS %d", w.title, qos), saturation(w.shape(qos))})
		}
		for qos := range byte(2) {
			all = append(all, row{fmt.Sprintf("%s-%d-4k", w.name, qos), fmt.Sprintf("%s, QoS %d, 4 KB", w.title, qos), saturation(large(w.shape(qos)))})
		}
	}
	return append(all,
		row{"steady-fan-in-0", "fan-in 200 → 4, QoS 0, 5,000/s", latency(fanIn(0))},
		row{"steady-pairs-1", "pairs 500 ↔ 500, QoS 1, 5,000/s", latency(pairs(1))},
		row{"connect", "TLS handshake + CONNECT", connects(full)},
		row{"connect-resumed", "resumed TLS session + CONNECT", connects(resumed)},
		row{"connect-mutual", "TLS handshake with a client certificate + CONNECT", connects(mutual)},
		row{"storm", "10,000 come back beside 2,000 messages/s", storm},
		row{"revoke", "10,000 connected: from the API's answer to the end of whom it concerns", revoke},
		row{"durable-200", "QoS 1 from 200 to sessions that are away", durable(200)},
		row{"durable-512", "QoS 1 from 512 to sessions that are away", durable(512)},
		row{"lone", "QoS 1, one at a time, to a session that is away", lone},
		row{"drain", "a queue collected by one session", drain},
		row{"idle", "idle TLS connections", idle},
		row{"growth-connections", "growth with idle connections", growConnections},
		row{"growth-orgs", "growth with organisations", growOrgs},
		row{"growth-stored", "growth with stored messages", growStored},
		row{"growth-subscriptions", "growth with subscriptions", growSubscriptions},
		row{"churn", "20,000 messages/s beside 10,000 SUBSCRIBE and UNSUBSCRIBE a second", churn},
		row{"retained", "retained messages", retainedRow},
		row{"restart", "restart with stored messages", restart},
	)
}

// saturation measures a shape at full speed.
func saturation(s shape) func(context.Context, *bench, *Result) error {
	return func(ctx context.Context, b *bench, r *Result) error {
		return b.loads(ctx, r, s, func(l *load, peer string, n int) error {
			m, err := l.saturated(b.seconds, b.watch(r.Name, l.broker, n))
			if err != nil {
				return err
			}
			r.add(cpuPerMessage, peer, m.perMessage())
			r.add(messageRate, peer, m.rate())
			r.note(peer, n, m)
			return nil
		})
	}
}

// latency measures a shape at a fixed rate.
func latency(s shape) func(context.Context, *bench, *Result) error {
	return func(ctx context.Context, b *bench, r *Result) error {
		return b.loads(ctx, r, s, func(l *load, peer string, n int) error {
			m, err := l.steady(steadyRate, b.seconds, b.watch(r.Name, l.broker, n))
			if err != nil {
				return err
			}
			r.add(cpuPerMessage, peer, m.perMessage())
			for _, p := range []float64{50, 99, 99.9} {
				r.add(fmt.Sprintf("p%v, ms", p), peer, float64(percentile(m.latency, p/100))/float64(time.Millisecond))
			}
			r.note(peer, n, m)
			return nil
		})
	}
}

// loads connects a load to each broker and runs the rounds in turn. A peer
// that fails is noted and left out of the rest of the row.
func (b *bench) loads(ctx context.Context, r *Result, s shape, one func(l *load, peer string, n int) error) error {
	all := map[string]*load{}
	defer func() {
		for _, l := range all {
			l.close()
		}
	}()
	return b.turns(ctx, r, func(broker *Broker, n int) error {
		peer := broker.Peer.Name()
		if all[peer] == nil {
			l, err := connectLoad(ctx, broker, s)
			if err != nil {
				return err
			}
			all[peer] = l
		}
		return one(all[peer], peer, n)
	})
}

// turns calls one for every round and running broker. The order changes from
// round to round, so that nobody always runs after the same other.
func (b *bench) turns(ctx context.Context, r *Result, one func(broker *Broker, n int) error) error {
	out := map[*Broker]bool{}
	for n := range b.rounds {
		for i := range b.brokers {
			broker := b.brokers[(i+n)%len(b.brokers)]
			if broker == nil || out[broker] {
				continue
			}
			if err := one(broker, n); err != nil {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				out[broker] = true
				r.failed(broker.Peer.Name(), err)
			}
		}
	}
	return nil
}
