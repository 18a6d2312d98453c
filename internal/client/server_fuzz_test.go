package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// FuzzServer answers a client with any bytes. It is not accepted, or the client
// hands out messages with a topic until the connection ends.
func FuzzServer(f *testing.F) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		ack := (&mqtt.Connack{}).Append(nil, v)
		message := (&mqtt.Publish{Topic: []byte("a"), QoS: 2, PacketID: 1, Payload: []byte("p")}).Append(bytes.Clone(ack), v)
		f.Add(byte(v), ack)
		f.Add(byte(v), message)
		f.Add(byte(v), (&mqtt.Ack{Type: mqtt.PUBREL, PacketID: 1}).Append(message, v))
		f.Add(byte(v), append(bytes.Clone(ack), 0x30, 0xff, 0xff, 0xff, 0x7f))
		f.Add(byte(v), (&mqtt.Disconnect{Code: mqtt.ServerBusy}).Append(bytes.Clone(ack), v))
		f.Add(byte(v), (&mqtt.Suback{PacketID: 1, Codes: []mqtt.ReasonCode{0}}).Append(bytes.Clone(ack), v))
	}
	alias := (&mqtt.Publish{Topic: []byte("a"), TopicAlias: 1}).Append((&mqtt.Connack{}).Append(nil, mqtt.V5), mqtt.V5)
	f.Add(byte(mqtt.V5), (&mqtt.Publish{TopicAlias: 1}).Append(alias, mqtt.V5))
	cert, roots := certificate(f)
	f.Fuzz(func(t *testing.T, v byte, answer []byte) {
		cfg := Config{Address: "127.0.0.1:1", TLS: &tls.Config{RootCAs: roots}, Version: mqtt.V5, ClientID: "c"}
		if v%2 == 0 {
			cfg.Version = mqtt.V311
		}
		cfg = cfg.withDefaults()
		near, far := net.Pipe()
		served := make(chan struct{})
		go func() {
			defer close(served)
			serveBytes(tls.Server(far, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}), answer)
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		c, err := handshake(ctx, tls.Client(near, cfg.tlsConfig()), cfg)
		if err == nil {
			for {
				m, err := c.Receive(ctx)
				if err != nil {
					break
				}
				if m.Topic == "" {
					t.Errorf("a message without a topic: %+v", m)
				}
			}
			c.Abort()
		}
		near.Close() //nolint:errcheck // the test ends
		<-served
		if ctx.Err() != nil {
			t.Fatal("the connection did not end")
		}
	})
}

// serveBytes answers the first packet with b and closes.
func serveBytes(conn *tls.Conn, b []byte) {
	defer conn.NetConn().Close() //nolint:errcheck // the test ends
	r := mqtt.NewReader(conn, mqtt.MaxPacketSize)
	if _, _, err := r.Next(); err != nil {
		return
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(io.Discard, conn) // what the client acknowledges
	}()
	_, _ = conn.Write(b)
	_ = conn.CloseWrite()
	<-read
}
