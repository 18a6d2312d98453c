package client

import (
	"context"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
)

// parked is what a flight awaits whose PUBREC has come and whose Release has
// not been called.
const parked mqtt.Type = 0

// A flight is a packet id in use: somebody waits for an answer with it. Of
// the functions exactly one is set.
type flight struct {
	awaits  mqtt.Type
	counted bool // takes a token of the quota
	done    func(error)
	ack     func(Ack)
	answer  func(codes []mqtt.ReasonCode, reason string, err error)
}

// fail tells the flight that the connection has ended.
func (f *flight) fail(err error) {
	switch {
	case f.done != nil:
		f.done(err)
	case f.answer != nil:
		f.answer(nil, "", err)
	}
}

// launch finds a free packet id for f.
func (c *Client) launch(f *flight) (uint16, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	for range mqtt.MaxPacketID {
		if c.lastID++; c.lastID == 0 {
			c.lastID = 1
		}
		if _, taken := c.flying[c.lastID]; !taken {
			c.flying[c.lastID] = f
			return c.lastID, nil
		}
	}
	return 0, errs.E(errs.Exhausted, "all packet identifiers are in use")
}

// take claims a packet id the caller chose. A parked one is its own.
func (c *Client) take(id uint16, f *flight) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if g, ok := c.flying[id]; ok && (g.awaits != parked || f.awaits != mqtt.PUBCOMP) {
		return errs.E(errs.Conflict, "packet identifier %d is in use", id)
	}
	c.flying[id] = f
	return nil
}

// sendFlight sends the packet of a flight, and takes the flight back if it
// could not be sent.
func (c *Client) sendFlight(ctx context.Context, p mqtt.Packet, id uint16) error {
	err := c.send(ctx, p, publishLimit)
	if err == nil {
		return nil
	}
	c.mu.Lock()
	f, ok := c.flying[id]
	delete(c.flying, id)
	c.mu.Unlock()
	if !ok {
		return nil // the connection ended and the flight was told so
	}
	if f.counted {
		c.quota <- struct{}{}
	}
	return err
}

// advance finds the flight that a belongs to. It returns the flight if a ends
// it or must be told, and the PUBREL to send if there is one.
func (c *Client) advance(a Ack) (*flight, mqtt.Packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.flying[a.PacketID]
	if !ok || f.awaits != a.Type {
		if a.Type == mqtt.PUBREC && !ok && !a.Code.IsError() {
			return nil, &mqtt.Ack{Type: mqtt.PUBREL, PacketID: a.PacketID, Code: mqtt.PacketIdentifierNotFound}
		}
		return nil, nil
	}
	if a.Type != mqtt.PUBREC || a.Code.IsError() {
		delete(c.flying, a.PacketID)
		return f, nil
	}
	if f.ack != nil {
		c.flying[a.PacketID] = &flight{awaits: parked}
		return f, nil
	}
	f.awaits = mqtt.PUBCOMP
	return nil, &mqtt.Ack{Type: mqtt.PUBREL, PacketID: a.PacketID}
}

// finish tells the flight and gives its token back.
func (c *Client) finish(f *flight, a Ack) {
	if f.counted {
		c.quota <- struct{}{}
	}
	switch {
	case f.ack != nil:
		f.ack(a)
	case a.Type == mqtt.PUBCOMP:
		f.done(nil) // the server had the message at PUBREC, whatever it says now
	default:
		f.done(refused(a))
	}
}

// answered ends a SUBSCRIBE or UNSUBSCRIBE.
func (c *Client) answered(t mqtt.Type, id uint16, codes []mqtt.ReasonCode, reason string) {
	c.mu.Lock()
	f, ok := c.flying[id]
	if ok = ok && f.awaits == t; ok {
		delete(c.flying, id)
	}
	c.mu.Unlock()
	if ok {
		f.answer(codes, reason, nil)
	}
}
