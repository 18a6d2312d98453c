package client

import (
	"context"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
)

// Ack is the server's answer to a publish.
type Ack struct {
	Type     mqtt.Type // PUBACK, PUBREC or PUBCOMP
	PacketID uint16
	Code     mqtt.ReasonCode
	Reason   string
}

// Publish sends m and waits for the acknowledgement of its QoS: none for 0,
// PUBACK for 1, PUBCOMP for 2. A refusal by the server is a [*Refusal]. When
// the connection ends or ctx is cancelled first, whether the server has the
// message is not known.
func (c *Client) Publish(ctx context.Context, m Message) error {
	result := make(chan error, 1)
	if err := c.PublishAsync(ctx, m, func(err error) { result <- err }); err != nil {
		return err
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// PublishAsync sends m and returns; done is called once with what Publish
// would return, unless PublishAsync itself returns an error. It waits, until
// ctx or the connection ends, only while as many publishes are in flight as
// the server allows. The message's memory must not change before done.
//
// done is called by the client's own goroutine and must not block.
func (c *Client) PublishAsync(ctx context.Context, m Message, done func(error)) error {
	p, err := c.checked(&m, 0, false)
	if err != nil {
		return err
	}
	if m.QoS == 0 {
		if err := c.send(ctx, p, publishLimit); err != nil {
			return err
		}
		done(nil)
		return nil
	}
	select {
	case <-c.quota:
	case <-c.done:
		return c.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
	f := &flight{awaits: firstAnswer(m.QoS), counted: true, done: done}
	if p.PacketID, err = c.launch(f); err != nil {
		return err
	}
	return c.sendFlight(ctx, p, p.PacketID)
}

// Post sends m with QoS 1 or 2 under a packet id that the caller chose and
// keeps over connections; ack gets the PUBACK or PUBREC. After a PUBREC
// without an error the id stays taken until [Client.Release] has been
// answered. When the connection ends first, ack is not called: the caller
// posts again on the next connection, with dup set, or releases.
//
// Post heeds no quota: the caller keeps to Server().ReceiveMaximum itself.
// ack is called by the client's own goroutine and must not block.
func (c *Client) Post(ctx context.Context, id uint16, dup bool, m Message, ack func(Ack)) error {
	if m.QoS == 0 || id == 0 {
		return errs.E(errs.Invalid, "a message is posted with QoS 1 or 2 and a packet id")
	}
	p, err := c.checked(&m, id, dup)
	if err != nil {
		return err
	}
	if err := c.take(id, &flight{awaits: firstAnswer(m.QoS), ack: ack}); err != nil {
		return err
	}
	return c.sendFlight(ctx, p, id)
}

// Release sends PUBREL for a message the server has received; ack gets the
// PUBCOMP. The rules of Post apply.
func (c *Client) Release(ctx context.Context, id uint16, ack func(Ack)) error {
	if err := c.take(id, &flight{awaits: mqtt.PUBCOMP, ack: ack}); err != nil {
		return err
	}
	return c.sendFlight(ctx, &mqtt.Ack{Type: mqtt.PUBREL, PacketID: id}, id)
}

func firstAnswer(qos byte) mqtt.Type {
	if qos == 2 {
		return mqtt.PUBREC
	}
	return mqtt.PUBACK
}

// checked returns the packet for m, if the server takes such a one.
func (c *Client) checked(m *Message, id uint16, dup bool) (*mqtt.Publish, error) {
	if err := checkMessage(m.Topic, m.QoS); err != nil {
		return nil, err
	}
	p := m.packet(id, dup)
	switch {
	case m.QoS > c.server.MaximumQoS:
		return nil, &Refusal{mqtt.CONNACK, mqtt.QoSNotSupported, ""} // [MQTT-3.2.2-11]
	case m.Retain && !c.server.Properties.RetainAvailable.Or(true):
		return nil, &Refusal{mqtt.CONNACK, mqtt.RetainNotSupported, ""} // [MQTT-3.2.2-14]
	case int64(p.Size(c.version)) > int64(c.server.MaximumPacketSize):
		return nil, &Refusal{mqtt.CONNACK, mqtt.PacketTooLarge, ""} // [MQTT-3.2.2-15]
	}
	return p, nil
}
