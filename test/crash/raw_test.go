package crash

import (
	"context"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// raw makes a connection for a single question. The answer is nil if there was
// none.
func (w *world) raw(a account, v mqtt.Version, clean bool, expiry uint32) (*wire, *mqtt.Connack) {
	w.t.Helper()
	c, ack, err := w.ask(a, v, clean, expiry)
	if err != nil {
		w.t.Fatal(err)
	}
	return c, ack
}

func (w *world) ask(a account, v mqtt.Version, clean bool, expiry uint32) (*wire, *mqtt.Connack, error) {
	c, err := dial(context.Background(), strings.Replace(w.mqtt, "127.0.0.1", "localhost", 1), w.tls, v)
	if err != nil {
		return nil, nil, err
	}
	p := &mqtt.Connect{Version: v, CleanStart: clean, ClientID: a.client, Username: mqtt.Some(a.user), Password: mqtt.Credential(a.password)}
	if v >= mqtt.V5 {
		p.Properties.SessionExpiry = mqtt.Some(expiry)
	}
	c.write(p)
	ack, _ := c.next().(*mqtt.Connack)
	return c, ack, nil
}

// gets reports whether a message on topic comes.
func (w *wire) gets(topic string) bool {
	for late := time.Now().Add(patience); time.Now().Before(late); {
		switch p := w.next().(type) {
		case nil:
			return false
		case *mqtt.Publish:
			if string(p.Topic) == topic {
				return true
			}
		}
	}
	return false
}

// acknowledgement returns the acknowledgement of the message with identifier 8,
// or nil if the connection ends first.
func (w *wire) acknowledgement() *mqtt.Ack {
	for {
		switch p := w.next().(type) {
		case nil:
			return nil
		case *mqtt.Ack:
			if p.PacketID == 8 {
				return p
			}
		}
	}
}
