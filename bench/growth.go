package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/keepmq/keepmq/internal/secret"
)

// A Curve is what a message costs as something else grows.
type Curve struct {
	Of, Measure, Peer string
	Points            []Point
}

// A Point has the numbers of some rounds at one size, and those of a second
// process of the same broker that has stayed at the first size and was
// measured in turn with it: a machine that becomes slower changes both.
type Point struct {
	Size           int
	Values, Beside []float64
}

// point notes one round.
func (r *Result) point(of, measure, peer string, size int, v, beside float64) {
	i := slices.IndexFunc(r.Curves, func(c Curve) bool { return c.Of == of && c.Measure == measure && c.Peer == peer })
	if i < 0 {
		i = len(r.Curves)
		r.Curves = append(r.Curves, Curve{Of: of, Measure: measure, Peer: peer})
	}
	c := &r.Curves[i]
	if len(c.Points) == 0 || c.Points[len(c.Points)-1].Size != size {
		c.Points = append(c.Points, Point{Size: size})
	}
	p := &c.Points[len(c.Points)-1]
	p.Values, p.Beside = append(p.Values, v), append(p.Beside, beside)
}

// ratio is the median of the ratios of each round: a neighbour who takes the
// processor's caches for a round takes them from both.
func (p Point) ratio() float64 {
	var all []float64
	for i, v := range p.Values {
		all = append(all, v/p.Beside[i])
	}
	return median(all)
}

// growth is how one thing grows and what is measured at each size.
type growth struct {
	of    string
	sizes []int
	// more makes the broker grow from one size to the next; zero is an empty one.
	more func(ctx context.Context, broker *Broker, from, to int) error
	// open connects the loads that a round is measured with.
	open func(ctx context.Context, broker *Broker) (*meter, error)
}

// A meter measures rounds of one broker.
type meter struct {
	round func(n int) ([]reading, error)
	close func()
}

// A reading is one number of a round.
type reading struct {
	measure string
	v       float64
}

// grow measures a peer at each size, in turn with one that stays at the first.
func (b *bench) grow(ctx context.Context, p Peer, config string, r *Result, g growth) error {
	return b.fresh(ctx, p, config, func(large *Broker) error {
		return b.fresh(ctx, p, config, func(small *Broker) error {
			if err := g.more(ctx, small, 0, g.sizes[0]); err != nil {
				return err
			}
			beside, err := g.open(ctx, small)
			if err != nil {
				return err
			}
			defer beside.close()
			own, err := g.open(ctx, large)
			if err != nil {
				return err
			}
			defer own.close()
			return b.growRounds(ctx, large, own, beside, r, g)
		})
	})
}

func (b *bench) growRounds(ctx context.Context, large *Broker, own, beside *meter, r *Result, g growth) error {
	from, n := 0, 0
	for _, size := range g.sizes {
		if err := g.more(ctx, large, from, size); err != nil {
			return err
		}
		from = size
		for range b.rounds {
			v, err := own.round(n)
			if err != nil {
				return err
			}
			w, err := beside.round(n)
			if err != nil {
				return err
			}
			for i := range v {
				r.point(g.of, v[i].measure, large.Peer.Name(), size, v[i].v, w[i].v)
			}
			n++
		}
	}
	return nil
}

// few is a load of ten connections: five publish, five receive.
func few() shape {
	topic := func(i int) string { return fmt.Sprintf("bench/few/%d", i) }
	return shape{name: "few-", pubs: 5, subs: 5, qos: 1, window: 16, size: smallPayload, copies: 1, topic: topic, filter: topic}
}

// online measures the few, or others.
func (b *bench) online(ctx context.Context, broker *Broker, r *Result, s shape) (*meter, error) {
	l, err := connectLoad(ctx, broker, s)
	if err != nil {
		return nil, err
	}
	return &meter{close: l.close, round: func(n int) ([]reading, error) {
		m, err := l.saturated(b.seconds, nil)
		r.note(broker.Peer.Name(), n, m)
		return []reading{{"between ten that are there", m.perMessage()}}, err
	}}, nil
}

func oursAndFloor(p Peer) bool { return onlyOurs(p) || p == relay{} }

func onlyOurs(p Peer) bool { return p.Name() == keepmq{}.Name() }

// growConnections: ten are busy, all others idle. The floor shows what is the
// system's.
func growConnections(ctx context.Context, b *bench, r *Result) error {
	return b.each(ctx, r, oursAndFloor, func(p Peer) error {
		var idle []*client
		defer func() { closeAll(idle) }()
		return b.grow(ctx, p, b.roomy(), r, growth{
			of: "connections", sizes: upTo(b.connections, 10, 100, 1000, 10_000),
			open: func(ctx context.Context, broker *Broker) (*meter, error) { return b.online(ctx, broker, r, few()) },
			more: func(ctx context.Context, broker *Broker, from, to int) error {
				from = max(from, 10) // the few are there
				all, err := broker.open(ctx, max(0, to-from), func(i int) (*client, error) {
					return broker.dial(ctx, i, fmt.Sprintf("idle-%d", from+i), true)
				})
				idle = append(idle, all...)
				return err
			},
		})
	})
}

// growOrgs: each other organisation has a device, whose persistent session has
// a subscription and is away.
func growOrgs(ctx context.Context, b *bench, r *Result) error {
	return b.each(ctx, r, onlyOurs, func(p Peer) error {
		return b.grow(ctx, p, "", r, growth{
			of: "organisations", sizes: upTo(b.orgs, 1, 10, 100, 1000),
			open: func(ctx context.Context, broker *Broker) (*meter, error) { return b.both(ctx, broker, r) },
			more: func(ctx context.Context, broker *Broker, from, to int) error {
				return broker.makeOrgs(ctx, max(0, to-max(1, from))) // the load's is there
			},
		})
	})
}

// makers is how many organisations are made at a time.
const makers = 4

func (b *Broker) makeOrgs(ctx context.Context, n int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for w := range makers {
		wg.Go(func() {
			for i := w; i < n && ctx.Err() == nil; i += makers {
				if err := b.makeOrg(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (b *Broker) makeOrg(ctx context.Context, i int) error {
	var org struct{ ID string }
	if err := b.api.post(ctx, "/orgs", struct{}{}, &org); err != nil {
		return err
	}
	if err := b.api.post(ctx, "/orgs/"+org.ID+"/types", map[string]string{"id": "sensor"}, &struct{}{}); err != nil {
		return err
	}
	var device struct {
		Token    string
		ClientID string `json:"client_id"`
	}
	if err := b.api.post(ctx, "/orgs/"+org.ID+"/devices", map[string]string{"type": "sensor", "id": "one"}, &device); err != nil {
		return err
	}
	as := *b
	as.Username, as.Password = "use-token-auth", secret.New(device.Token)
	c, err := as.dial(ctx, i, device.ClientID, false)
	if err != nil {
		return err
	}
	err = c.subscribe("iot-2/cmd/+/fmt/+", 1)
	_ = c.leave() // the session stays
	return err
}

// growStored: another session holds the messages and is away.
func growStored(ctx context.Context, b *bench, r *Result) error {
	return b.each(ctx, r, Peer.Queues, func(p Peer) error {
		return b.grow(ctx, p, b.deep(), r, growth{
			of: "stored messages", sizes: upTo(b.stored, 1, 1000, 10_000, 100_000),
			open: func(ctx context.Context, broker *Broker) (*meter, error) { return b.both(ctx, broker, r) },
			more: func(ctx context.Context, broker *Broker, from, to int) error {
				const session = -1 // no round has this number
				s := toOne("full", 0)
				if from == 0 {
					if err := broker.leaveOne(ctx, session, s.filter(0)); err != nil {
						return err
					}
				}
				l, err := connectLoad(ctx, broker, s)
				if err != nil {
					return err
				}
				defer l.close()
				m, err := l.exactly(to - from)
				if err == nil && m.delivered != int64(to-from) {
					err = fmt.Errorf("%d of %d messages are stored", m.delivered, to-from)
				}
				return err
			},
		})
	})
}

// both measures the few, then storing for sessions that are away, then how
// they collect.
func (b *bench) both(ctx context.Context, broker *Broker, r *Result) (*meter, error) {
	there, err := b.online(ctx, broker, r, few())
	if err != nil {
		return nil, err
	}
	s := toAway(200)
	s.name = "away-"
	gone, err := connectLoad(ctx, broker, s)
	if err != nil {
		there.close()
		return nil, err
	}
	round := func(n int) ([]reading, error) {
		out, err := there.round(n)
		if err != nil {
			return nil, err
		}
		all, err := broker.sessions(ctx, away, n, func(c *client, i int) error { return c.subscribe(s.filter(i), 1) })
		closeAll(all)
		if err != nil {
			return nil, err
		}
		had := gone.delivered()
		m, err := gone.saturated(b.seconds, nil)
		if err != nil {
			return nil, err
		}
		r.note(broker.Peer.Name(), n, m)
		d, err := broker.collect(ctx, away, n, gone.delivered()-had)
		if err != nil {
			return nil, err
		}
		r.note(broker.Peer.Name(), n, d)
		return append(out, reading{"stored for one that is away", m.perMessage()}, reading{"collected", d.perMessage()}), broker.forget(ctx, away, n)
	}
	return &meter{round: round, close: func() { gone.close(); there.close() }}, nil
}

// writeGrowth writes a line for each point of each curve, with a bar that is
// as long as the median ratio to the broker that did not grow: ten mean the same cost.
func writeGrowth(w io.Writer, rows []Result) error {
	lines := [][]string{{"grows", "broker", "CPU per message", "", "size", "µs", "µs of one that did not grow", "ratio"}}
	for _, r := range rows {
		for _, c := range r.Curves {
			for i, p := range c.Points {
				head := []string{"", "", ""}
				if i == 0 {
					head = []string{c.Of, c.Peer, c.Measure}
				}
				m := p.ratio()
				lines = append(lines, append(head, bar(m), strconv.Itoa(p.Size), spread(p.Values), spread(p.Beside), ratio(m, 1)))
			}
		}
	}
	if len(lines) == 1 {
		return nil
	}
	if _, err := fmt.Fprintln(w, "\nGrowth"); err != nil {
		return err
	}
	return writeColumns(w, lines, 4)
}

// bar draws a ratio: ten characters are 1, and forty the most.
func bar(ratio float64) string {
	if math.IsNaN(ratio) || ratio < 0 {
		return ""
	}
	return strings.Repeat("█", int(math.Round(min(ratio, 4)*10)))
}
