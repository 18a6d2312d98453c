package main

import (
	"context"
	"slices"
	"sync"
	"time"
)

// warmUp is how long a load runs before it is measured.
const warmUp = 500 * time.Millisecond

// A round is what was measured over a few seconds.
type round struct {
	elapsed   time.Duration
	cpu       time.Duration // of the broker
	delivered int64
	lost      int64 // deliveries or acknowledgements that never came
	extra     int64 // those that came too often
	behind    int64 // messages the generator could not send on time
	latency   []int64
}

// perMessage is the broker's processor time for one delivery in microseconds.
func (r round) perMessage() float64 {
	return float64(r.cpu.Nanoseconds()) / 1e3 / float64(max(1, r.delivered))
}

// rate is the deliveries in a second.
func (r round) rate() float64 { return float64(r.delivered) / r.elapsed.Seconds() }

// window lets the load run for a while and measures the broker over it, after
// the warm-up. If it is timed, it notes the latency of each message.
func (l *load) window(d time.Duration, timed bool, watch *watcher) (round, error) {
	if err := pause(l.ctx, warmUp); err != nil {
		return round{}, err
	}
	before, err := l.broker.Usage()
	if err != nil {
		return round{}, err
	}
	start, had := time.Now(), l.delivered()
	if timed {
		l.from.Store(int64(start.Sub(l.base)))
		l.to.Store(int64(start.Add(d).Sub(l.base)))
	}
	if err := watch.during(l.ctx, l.broker, d); err != nil {
		return round{}, err
	}
	after, err := l.broker.Usage()
	if err != nil {
		return round{}, err
	}
	return round{elapsed: time.Since(start), cpu: after.cpu() - before.cpu(), delivered: l.delivered() - had}, nil
}

// saturated measures one round in which every sender sends as soon as its
// window allows.
func (l *load) saturated(d time.Duration, watch *watcher) (round, error) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, p := range l.senders {
		wg.Go(func() { p.saturate(stop) })
	}
	r, err := l.window(d, false, watch)
	close(stop)
	wg.Wait()
	if err != nil {
		return r, err
	}
	return l.finish(r)
}

// steady measures one round at a fixed number of messages a second over all
// senders in turn.
func (l *load) steady(perSecond int, d time.Duration, watch *watcher) (round, error) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var behind int64
	wg.Go(func() { behind = l.pace(perSecond, stop) })
	r, err := l.window(d, true, watch)
	close(stop)
	wg.Wait()
	if err != nil {
		return r, err
	}
	r.behind = behind
	return l.finish(r)
}

// pace sends at a fixed rate and returns how many messages could not be sent
// because their sender's window was full.
func (l *load) pace(perSecond int, stop <-chan struct{}) (behind int64) {
	start, sent := time.Now(), 0
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		due := int(time.Since(start).Seconds() * float64(perSecond))
		for ; sent < due; sent++ {
			p := l.senders[sent%len(l.senders)]
			if !p.put(int64(time.Since(l.base))) {
				behind++
				continue
			}
			if !p.write() {
				return behind
			}
		}
		select {
		case <-tick.C:
		case <-stop:
			return behind
		case <-l.ctx.Done():
			return behind
		}
	}
}

// finish waits for what is under way and collects what the receivers noted.
func (l *load) finish(r round) (round, error) {
	var err error
	if r.lost, err = l.drain(); err != nil {
		return r, err
	}
	l.to.Store(l.from.Load())
	r.extra = l.extra.Swap(0)
	for _, c := range l.receivers {
		c.mu.Lock()
		r.latency = append(r.latency, c.latency...)
		c.latency = c.latency[:0]
		c.mu.Unlock()
	}
	slices.Sort(r.latency)
	return r, nil
}

// pause waits for d.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
