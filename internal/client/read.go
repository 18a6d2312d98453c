package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// input reads from the connection and gives up when the server is silent for
// longer than patience, though it must have answered a PINGREQ by then.
type input struct {
	conn     *tls.Conn
	patience time.Duration // 0: for ever
}

func (i *input) Read(b []byte) (int, error) {
	if i.patience > 0 {
		if err := i.conn.SetReadDeadline(time.Now().Add(i.patience)); err != nil {
			return 0, err
		}
	}
	return i.conn.Read(b)
}

// read is the reader's loop. It ends with the connection.
func (c *Client) read(r *mqtt.Reader) {
	for {
		p, err := r.Packet(c.version)
		if err == nil {
			err = c.handle(p)
		}
		if err != nil {
			select {
			case <-c.closing:
				err = ErrClosed // that the server closes after DISCONNECT is as it should be
			default:
			}
			c.end(c.explain(err))
			return
		}
	}
}

func (c *Client) explain(err error) error {
	var t interface{ Timeout() bool }
	if errors.As(err, &t) && t.Timeout() {
		return fmt.Errorf("the server has been silent for %v: %w", c.server.KeepAlive*3/2, err)
	}
	return ended(err)
}

func (c *Client) handle(p mqtt.Packet) error {
	switch p := p.(type) {
	case *mqtt.Publish:
		return c.deliver(p)
	case *mqtt.Ack:
		return c.acknowledged(p)
	case *mqtt.Suback:
		c.answered(mqtt.SUBACK, p.PacketID, p.Codes, p.ReasonString.Or(""))
		return nil
	case *mqtt.Unsuback:
		c.answered(mqtt.UNSUBACK, p.PacketID, p.Codes, p.ReasonString.Or(""))
		return nil
	case *mqtt.Pingresp:
		return nil
	case *mqtt.Disconnect:
		return disconnectRefusal(p)
	}
	return fmt.Errorf("the server sent %T, which a server must not", p)
}

// acknowledged moves a publish on, in either direction.
func (c *Client) acknowledged(p *mqtt.Ack) error {
	if p.Type == mqtt.PUBREL {
		code := mqtt.Success
		if !c.session.forget(p.PacketID) {
			code = mqtt.PacketIdentifierNotFound
		}
		return c.send(context.Background(), &mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: p.PacketID, Code: code}, answerLimit)
	}
	a := Ack{Type: p.Type, PacketID: p.PacketID, Code: p.Code, Reason: p.ReasonString.Or("")}
	f, rel := c.advance(a)
	if rel != nil {
		if err := c.send(context.Background(), rel, answerLimit); err != nil {
			return err
		}
	}
	if f != nil {
		c.finish(f, a)
	}
	return nil
}

// deliver puts a message into the inbox and waits while that is full.
func (c *Client) deliver(p *mqtt.Publish) error {
	topic := string(p.Topic)
	if a := int(p.TopicAlias); a > 0 {
		switch {
		case a > len(c.aliases):
			return &mqtt.Error{Code: mqtt.TopicAliasInvalid, Msg: "topic alias: above the maximum [MQTT-3.1.2-26]"}
		case topic != "":
			c.aliases[a-1] = topic
		case c.aliases[a-1] == "":
			return &mqtt.Error{Code: mqtt.ProtocolError, Msg: "topic alias: not known (3.3.2.3.4)"}
		default:
			topic = c.aliases[a-1]
		}
	}
	q := p.Clone()
	m := Message{
		Topic: topic, Payload: q.Payload, QoS: p.QoS, Retain: p.Retain, Dup: p.Dup,
		Expiry: p.Expiry, SubscriptionIDs: q.SubscriptionIDs, Carried: q.Carried, id: p.PacketID,
	}
	select {
	case c.inbox <- m:
		return nil
	case <-c.done:
		return c.Err()
	case <-c.closing:
		return nil // nobody will ask for it; what is not acknowledged comes again
	}
}
