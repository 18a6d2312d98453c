package client

import (
	"context"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// Receive returns the next message. A QoS 1 or 2 message is acknowledged when
// it is handed out, not before: what waited in the buffer when the process
// died comes again. After the connection has ended, Receive hands out what had
// arrived, and then returns [Client.Err].
func (c *Client) Receive(ctx context.Context) (Message, error) {
	for {
		m, err := c.next(ctx)
		if err != nil {
			return Message{}, err
		}
		if c.handOver(&m) {
			return m, nil
		}
	}
}

// next prefers a message that has arrived over the end of the connection.
func (c *Client) next(ctx context.Context) (Message, error) {
	select {
	case m := <-c.inbox:
		return m, nil
	default:
	}
	select {
	case m := <-c.inbox:
		return m, nil
	case <-ctx.Done():
		return Message{}, ctx.Err()
	case <-c.done:
	}
	select {
	case m := <-c.inbox:
		return m, nil
	default:
		return Message{}, c.Err()
	}
}

// handOver acknowledges m. It reports false if the application has it already.
// An acknowledgement that cannot be sent is no error: the connection is gone,
// and the server sends the message again.
func (c *Client) handOver(m *Message) bool {
	fresh, t := true, mqtt.PUBACK
	switch m.QoS {
	case 0:
		return true
	case 2:
		fresh, t = c.session.claim(m.id), mqtt.PUBREC
	}
	// The server's own Receive Maximum bounds how many of these can wait.
	_, _ = c.out.add(&mqtt.Ack{Type: t, PacketID: m.id}, c.version, c.server.MaximumPacketSize, 1<<30)
	return fresh
}
