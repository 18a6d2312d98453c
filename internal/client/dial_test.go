package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/secret"
)

func TestConnectPacket(t *testing.T) {
	got := make(chan *mqtt.Connect, 1)
	cfg := serve(t, func(p *peer) {
		got <- p.accept(&mqtt.Connack{SessionPresent: true, Properties: mqtt.Properties{
			ReceiveMaximum: mqtt.Some[uint16](7), ServerKeepAlive: mqtt.Some[uint16](99), AssignedClientID: mqtt.Some("given"),
		}})
		expect[*mqtt.Disconnect](p)
	})
	cfg.Username, cfg.Password = "user", secret.New("pass")
	cfg.SessionExpiry, cfg.KeepAlive, cfg.ReceiveMaximum = 1500*time.Millisecond, 10*time.Second, 33
	cfg.Will = &mqtt.Will{Topic: "gone", QoS: 1, Delay: 5}
	c := dial(t, cfg)
	p := <-got
	if p.CleanStart || p.KeepAlive != 10 || p.ClientID != "c1" || p.Username.Or("") != "user" || string(p.Password) != "pass" {
		t.Errorf("CONNECT is %+v", p)
	}
	if q := p.Properties; q.SessionExpiry.Or(0) != 2 || q.ReceiveMaximum.Or(0) != 33 || p.Will == nil || p.Will.Delay != 5 {
		t.Errorf("CONNECT has %+v and will %+v", q, p.Will)
	}
	if s := c.Server(); !s.SessionPresent || s.ReceiveMaximum != 7 || s.KeepAlive != 99*time.Second || s.ClientID != "given" {
		t.Errorf("server is %+v", s)
	}
	if err := c.Close(testContext(t)); err != nil {
		t.Error(err)
	}
	if err := c.Err(); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := c.Publish(testContext(t), Message{Topic: "a"}); !errors.Is(err, ErrClosed) {
		t.Errorf("publish after Close: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		name    string
		version mqtt.Version
		answer  mqtt.Packet
		code    mqtt.ReasonCode
		class   errs.Code
		text    string
	}{
		{"v5", mqtt.V5, &mqtt.Connack{Code: mqtt.NotAuthorized, Properties: mqtt.Properties{ReasonString: mqtt.Some("device is disabled")}},
			mqtt.NotAuthorized, errs.Denied, "device is disabled"},
		{"v5 quota", mqtt.V5, &mqtt.Connack{Code: mqtt.QuotaExceeded}, mqtt.QuotaExceeded, errs.Exhausted, "Quota exceeded"},
		{"v5 password", mqtt.V5, &mqtt.Connack{Code: mqtt.BadUserNameOrPassword}, mqtt.BadUserNameOrPassword, errs.Unauthenticated, ""},
		{"v3.1.1", mqtt.V311, &mqtt.Connack{Code: 5}, mqtt.NotAuthorized, errs.Denied, "Not authorized"},
		{"v3.1.1 id", mqtt.V311, &mqtt.Connack{Code: 2}, mqtt.ClientIdentifierNotValid, errs.Invalid, ""},
		{"v3.1", mqtt.V31, &mqtt.Connack{Code: 3}, mqtt.ServerUnavailable, errs.Unavailable, ""},
		{"disconnect", mqtt.V5, &mqtt.Disconnect{Code: mqtt.ServerBusy}, mqtt.ServerBusy, errs.Unavailable, "disconnected"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := serve(t, func(p *peer) {
				p.v = test.version
				expect[*mqtt.Connect](p)
				p.write(test.answer)
			})
			cfg.Version, cfg.CleanStart = test.version, true
			_, err := Dial(testContext(t), cfg)
			var r *Refusal
			if !errors.As(err, &r) || r.Code != test.code || errs.CodeOf(err) != test.class || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %v (class %d)", err, errs.CodeOf(err))
			}
		})
	}
}

func TestDialFailures(t *testing.T) {
	hold := make(chan struct{})
	cfg := serve(t, func(p *peer) { p.read(); <-hold })
	t.Cleanup(func() { close(hold) })
	for _, test := range []struct {
		name   string
		change func(*Config)
		text   string
	}{
		{"no TLS", func(c *Config) { c.TLS = nil }, "without TLS"},
		{"no port", func(c *Config) { c.Address = "localhost" }, "host:port"},
		{"version", func(c *Config) { c.Version = 9 }, "unknown"},
		{"will topic", func(c *Config) { c.Will = &mqtt.Will{Topic: "a/#"} }, "without +, # or NUL"},
		{"password alone", func(c *Config) { c.Version, c.Password = mqtt.V311, secret.New("p") }, "without a user name"},
		{"unknown authority", func(c *Config) { c.TLS = &tls.Config{RootCAs: x509.NewCertPool()} }, "unknown authority"},
		{"wrong name", func(c *Config) { c.TLS = c.TLS.Clone(); c.TLS.ServerName = "other.test" }, "other.test"},
		{"silent server", func(*Config) {}, "deadline"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(testContext(t))
			defer cancel()
			if test.name == "silent server" {
				ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
				defer cancel()
			}
			cfg := cfg
			test.change(&cfg)
			c, err := Dial(ctx, cfg)
			if err == nil {
				c.Abort()
				t.Fatal("connected")
			}
			if !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %q, want it to mention %q", err, test.text)
			}
		})
	}
}

// TestNoOldTLS: a configuration that asks for less than TLS 1.2 gets 1.2.
func TestNoOldTLS(t *testing.T) {
	cert, pool := certificate(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
	})
	if err != nil {
		t.Fatal(err)
	}
	handshake := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = conn.(*tls.Conn).Handshake()
			conn.Close()
		}
		handshake <- err
	}()
	_, err = Dial(testContext(t), Config{Address: l.Addr().String(), TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS10}})
	if serverErr := <-handshake; err == nil || serverErr == nil {
		t.Errorf("TLS 1.1 was spoken: %v, %v", err, serverErr)
	}
	l.Close()
}

// TestNotMQTT: bytes that are no MQTT end the attempt with an error.
func TestNotMQTT(t *testing.T) {
	cfg := serve(t, func(p *peer) {
		p.read()
		p.conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	})
	_, err := Dial(testContext(t), cfg)
	var e *mqtt.Error
	if !errors.As(err, &e) {
		t.Errorf("got %v", err)
	}
}

func TestServerDisconnects(t *testing.T) {
	cfg := serve(t, func(p *peer) {
		p.accept(&mqtt.Connack{})
		p.write(&mqtt.Disconnect{Code: mqtt.SessionTakenOver, Properties: mqtt.Properties{ReasonString: mqtt.Some("elsewhere")}})
		p.read()
	})
	c := dial(t, cfg)
	var r *Refusal
	if err := waitEnd(t, c); !errors.As(err, &r) || r.Code != mqtt.SessionTakenOver || r.Reason != "elsewhere" {
		t.Errorf("got %v", err)
	}
	if _, err := c.Receive(testContext(t)); !errors.As(err, &r) {
		t.Errorf("receive: %v", err)
	}
	if err := c.Close(testContext(t)); !errors.As(err, &r) {
		t.Errorf("close: %v", err)
	}
}

func TestConnectionLost(t *testing.T) {
	cfg := serve(t, func(p *peer) {
		p.accept(&mqtt.Connack{})
		expect[*mqtt.Publish](p)
		p.conn.NetConn().(*net.TCPConn).SetLinger(0)
	})
	c := dial(t, cfg)
	if err := c.Publish(testContext(t), Message{Topic: "a", QoS: 1}); err == nil || errors.Is(err, ErrClosed) {
		t.Errorf("publish: %v", err)
	}
	waitEnd(t, c)
}

func TestAbortSendsNoDisconnect(t *testing.T) {
	last := make(chan mqtt.Packet, 1)
	cfg := serve(t, func(p *peer) {
		p.accept(&mqtt.Connack{})
		last <- p.read()
	})
	dial(t, cfg).Abort()
	if p := <-last; p != nil {
		t.Errorf("server read %T", p)
	}
}
