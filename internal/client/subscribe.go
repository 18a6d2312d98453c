package client

import (
	"context"
	"fmt"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
)

// Subscribe makes the subscriptions and waits for the server's answer. It
// returns the answer's codes in order; the error is a [*Refusal] if any of
// them is one, and then the others may hold.
func (c *Client) Subscribe(ctx context.Context, subs ...mqtt.Subscription) ([]mqtt.ReasonCode, error) {
	return c.SubscribeID(ctx, 0, subs...)
}

// SubscribeID is Subscribe with a subscription identifier (MQTT 5); 0: none.
func (c *Client) SubscribeID(ctx context.Context, id uint32, subs ...mqtt.Subscription) ([]mqtt.ReasonCode, error) {
	if id > mqtt.MaxSubscriptionID {
		return nil, errs.E(errs.Invalid, "subscription identifier must be at most %d", mqtt.MaxSubscriptionID)
	}
	p := &mqtt.Subscribe{Subscriptions: subs, SubscriptionID: id}
	names := make([]string, len(subs))
	for i, s := range subs {
		names[i] = s.Filter
	}
	return c.ask(ctx, mqtt.SUBACK, names, p, &p.PacketID)
}

// Unsubscribe ends subscriptions and waits for the server's answer.
func (c *Client) Unsubscribe(ctx context.Context, filters ...string) ([]mqtt.ReasonCode, error) {
	p := &mqtt.Unsubscribe{Filters: filters}
	return c.ask(ctx, mqtt.UNSUBACK, filters, p, &p.PacketID)
}

type answer struct {
	codes  []mqtt.ReasonCode
	reason string
	err    error
}

// ask sends p, whose packet id is at id, and waits for the answer to filters.
func (c *Client) ask(ctx context.Context, t mqtt.Type, filters []string, p mqtt.Packet, id *uint16) ([]mqtt.ReasonCode, error) {
	if len(filters) == 0 {
		return nil, errs.E(errs.Invalid, "at least one topic filter is needed")
	}
	for _, f := range filters {
		if f == "" || len(f) > mqtt.MaxString {
			return nil, errs.E(errs.Invalid, "topic filter must have 1 to %d bytes", mqtt.MaxString)
		}
	}
	result := make(chan answer, 1)
	f := &flight{awaits: t, answer: func(codes []mqtt.ReasonCode, reason string, err error) {
		result <- answer{codes, reason, err}
	}}
	var err error
	if *id, err = c.launch(f); err != nil {
		return nil, err
	}
	if err := c.sendFlight(ctx, p, *id); err != nil {
		return nil, err
	}
	select {
	case a := <-result:
		return a.check(t, filters, c.version)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (a answer) check(t mqtt.Type, filters []string, v mqtt.Version) ([]mqtt.ReasonCode, error) {
	if a.err != nil {
		return nil, a.err
	}
	if v < mqtt.V5 && t == mqtt.UNSUBACK {
		return make([]mqtt.ReasonCode, len(filters)), nil // it has no codes
	}
	if len(a.codes) != len(filters) {
		return nil, fmt.Errorf("the server answered %d filters with %d codes", len(filters), len(a.codes))
	}
	for i, code := range a.codes {
		if code.IsError() {
			return a.codes, fmt.Errorf("topic filter %q: %w", filters[i], &Refusal{t, code, a.reason})
		}
	}
	return a.codes, nil
}
