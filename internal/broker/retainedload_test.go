package broker

import (
	"context"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/topic"
)

// viewed counts the looks at retained messages that are open at one time.
type viewed struct {
	engine.Engine
	open, most atomic.Int64
}

func (e *viewed) Retained(ctx context.Context, org auth.OrgID, f topic.Filter) iter.Seq2[*engine.Message, error] {
	return func(yield func(*engine.Message, error) bool) {
		e.most.Store(max(e.most.Load(), e.open.Add(1)))
		defer e.open.Add(-1)
		for m, err := range e.Engine.Retained(ctx, org, f) {
			if !yield(m, err) {
				return
			}
		}
	}
}

// greedy returns a client that subscribes that often to what is retained,
// and reads nothing of it.
func (w *world) greedy(times int) *client {
	w.t.Helper()
	p := w.connect(mqtt.V5, "p", func(p *mqtt.Connect) { as(p, testOrg, "v") })
	p.send(&mqtt.Publish{Topic: []byte("a"), Payload: []byte(strings.Repeat("x", 20<<10)), QoS: 1, PacketID: 1, Retain: true})
	p.expectAck(mqtt.PUBACK, 1, mqtt.Success)
	c := newClient(w.t, w.dial(nil), mqtt.V5) // it does not listen
	c.send(hello(mqtt.V5, "c", nil))
	expect[*mqtt.Connack](c)
	go func() {
		for range times {
			if _, err := c.nc.Write((&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "#"}}}).Append(nil, mqtt.V5)); err != nil {
				return
			}
		}
	}()
	synctest.Wait()
	return c
}

// However often a client subscribes, few views of the store are open for it.
func TestRetainedViewsAreBounded(t *testing.T) {
	var e *viewed
	bubble(t, func(c *Config) { e = &viewed{Engine: c.Engine}; c.Engine = e }, func(t *testing.T, w *world) {
		w.greedy(200)
		if n := e.most.Load(); n > maxOpened+1 {
			t.Errorf("%d views were open at one time", n)
		}
	})
}

// Who subscribes again and again, and does not read what is retained, is ended.
func TestWaitingForRetainedIsBounded(t *testing.T) {
	log := quota.NewLog(nil)
	limits := quota.Limits{}.With(quota.ClientSubscriptions, 5)
	bubble(t, func(c *Config) { c.Limits, c.LimitLog = limits, log }, func(t *testing.T, w *world) {
		w.greedy(maxJobs + 100)
		event(t, log, testOrg, quota.ClientSubscriptions, quota.Ended)
	})
}
