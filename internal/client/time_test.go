package client

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/nettest"
)

// connected runs a client whose server follows script, in a bubble of
// testing/synctest, where time is exact.
func connected(t *testing.T, change func(*Config), script func(*peer), run func(t *testing.T, c *Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cert, pool := certificate(t)
		near, far := nettest.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			conn := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{cert}})
			defer far.Close()
			script(&peer{t: t, conn: conn, r: mqtt.NewReader(conn, mqtt.MaxPacketSize), v: mqtt.V5})
		}()
		cfg := Config{Address: "127.0.0.1:8883", TLS: &tls.Config{RootCAs: pool}, ClientID: "c1"}
		if change != nil {
			change(&cfg)
		}
		cfg = cfg.withDefaults()
		c, err := handshake(context.Background(), tls.Client(near, cfg.tlsConfig()), cfg)
		if err != nil {
			t.Fatal(err)
		}
		run(t, c)
		c.Abort()
		<-done
	})
}

// The client pings in time, and gives up a server that answers nothing for one
// and a half times the keep alive, which the server may have set [MQTT-3.1.2-21].
func TestKeepAlive(t *testing.T) {
	for _, told := range []uint16{0, 100} {
		keepAlive := 10 * time.Second
		ack := &mqtt.Connack{}
		if told > 0 {
			keepAlive = time.Duration(told) * time.Second
			ack.Properties.ServerKeepAlive = mqtt.Some(told)
		}
		var begun time.Time
		connected(t, func(c *Config) { c.KeepAlive = 10 * time.Second }, func(p *peer) {
			p.accept(ack)
			begun = time.Now()
			for i := range 3 {
				expect[*mqtt.Pingreq](p)
				if d := time.Since(begun); d != time.Duration(i+1)*keepAlive*3/4 {
					t.Errorf("ping %d after %v of %v", i, d, keepAlive)
				}
				p.write(&mqtt.Pingresp{})
			}
			for p.read() != nil { // answers no more
			}
		}, func(t *testing.T, c *Client) {
			<-c.Done()
			if d := time.Since(begun); d != 3*keepAlive*3/4+keepAlive*3/2 {
				t.Errorf("given up after %v", d)
			}
			if err := c.Err(); err == nil || !strings.Contains(err.Error(), "silent") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Without a keep alive there are no pings, and silence is no offence.
func TestNoKeepAlive(t *testing.T) {
	connected(t, func(c *Config) { c.KeepAlive = -1 }, func(p *peer) {
		p.accept(&mqtt.Connack{Properties: mqtt.Properties{ServerKeepAlive: mqtt.Some[uint16](0)}})
		if pkt := p.read(); pkt != nil {
			p.t.Errorf("server read %T", pkt)
		}
	}, func(t *testing.T, c *Client) {
		time.Sleep(1000 * time.Hour)
		if err := c.Err(); err != nil {
			t.Errorf("ended: %v", err)
		}
	})
}

// A server that takes nothing is given up.
func TestWriteTimeout(t *testing.T) {
	connected(t, nil, func(p *peer) {
		p.accept(&mqtt.Connack{Properties: mqtt.Properties{ServerKeepAlive: mqtt.Some[uint16](0)}})
		time.Sleep(time.Hour) // and reads nothing
	}, func(t *testing.T, c *Client) {
		begun := time.Now()
		for {
			err := c.Publish(context.Background(), Message{Topic: "a", Payload: make([]byte, 32<<10)})
			if err == nil {
				continue
			}
			if d := time.Since(begun); d != writeTimeout || !strings.Contains(err.Error(), "write") {
				t.Errorf("%v after %v", err, d)
			}
			return
		}
	})
}

// A server that does not close after DISCONNECT is waited for, and not for ever.
func TestCloseTimeout(t *testing.T) {
	connected(t, nil, func(p *peer) {
		p.accept(&mqtt.Connack{})
		expect[*mqtt.Disconnect](p)
		time.Sleep(time.Hour)
	}, func(t *testing.T, c *Client) {
		begun := time.Now()
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if d := time.Since(begun); d != closeTimeout {
			t.Errorf("waited %v", d)
		}
		if err := c.Err(); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}
