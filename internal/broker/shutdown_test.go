package broker

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

func TestShutdown(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w := start(t, nil)
		sub := w.resume(v, "sub", false, func(p *mqtt.Connect) { lasting(p); as(p, testOrg, "v") })
		sub.sub("will", 1)
		c := w.connect(v, "c", willed(0))
		d := w.connect(v, "d", willed(60))
		ws := w.dialWebSocket("/mqtt", v)
		ws.send(hello(v, "ws", nil))
		expect[*mqtt.Connack](ws)
		silent := newClient(t, w.dial(nil), v)
		silentWeb := w.dialWebSocket("/", v)
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.shutdown()
		}()
		for _, k := range []*client{c, d, ws} {
			if code := k.closed(); v == mqtt.V5 && code != mqtt.ServerShuttingDown {
				t.Errorf("code %v", code)
			}
		}
		silent.closed()
		silentWeb.closed()
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatal("shutdown does not end")
		}
		if s := w.b.Snapshot(); s.Connected != 0 || s.Open != 0 {
			t.Errorf("left: %+v", s)
		}
		if _, err := net.DialTimeout("tcp", w.addr, time.Second); err == nil {
			t.Error("it still listens")
		}
		// Both wills are the engine's: published for those who come back, or kept.
		queued, kept := 1, 1
		if v < mqtt.V5 {
			queued, kept = 2, 0 // no delay before MQTT 5
		}
		if n, m := w.mem.queued(), w.mem.wills(); n != queued || m != kept {
			t.Errorf("%d published, %d kept", n, m)
		}
		if err := w.b.Serve(nopListener{}); err == nil {
			t.Error("serves again")
		}
	})
}

type nopListener struct{ net.Listener }

func (nopListener) Close() error { return nil }

// A client that does not read cannot hold the shutdown up.
func TestShutdownCuts(t *testing.T) {
	w := start(t, nil)
	gate := make(chan struct{})
	w.mem.mu.Lock()
	w.mem.stall = gate
	w.mem.mu.Unlock()
	w.connect(mqtt.V5, "c", willed(0)) // its will hangs in the engine
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := w.b.Shutdown(ctx); err == nil {
		t.Error("no error")
	}
	close(gate)
}

// pipe runs a connection of b over a pipe.
func pipe(t *testing.T, b *Broker, v mqtt.Version) (*client, chan struct{}) {
	server, nc := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.serve(newPeer(b, server), server, "pipe")
	}()
	return newClient(t, nc, v), done
}

// Silence for one and a half times the keep alive ends the connection
// [MQTT-3.1.2-22], and not a moment less; without a keep alive nothing does.
func TestKeepAlive(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		synctest.Test(t, func(t *testing.T) {
			dir := newDirectory()
			dir.add(testOrg, "u", nil)
			b := newBroker(t, newMemory(), dir, nil)
			defer b.stopLife()
			defer b.stopWatch()
			c, done := pipe(t, b, v)
			c.send(hello(v, "c", func(p *mqtt.Connect) { p.KeepAlive = 10 }))
			expect[*mqtt.Connack](c)
			time.Sleep(14 * time.Second)
			c.ping()
			time.Sleep(14 * time.Second)
			c.ping()
			begun := time.Now()
			c.nc.SetReadDeadline(time.Time{})
			p, err := c.r.Packet(v)
			if d, ok := p.(*mqtt.Disconnect); v == mqtt.V5 && (!ok || d.Code != mqtt.KeepAliveTimeout) || v < mqtt.V5 && err == nil {
				t.Errorf("got %+v %v", p, err)
			}
			if d := time.Since(begun); d != 15*time.Second {
				t.Errorf("after %v", d)
			}
			<-done

			c, done = pipe(t, b, v)
			c.send(hello(v, "c", func(p *mqtt.Connect) { p.KeepAlive = 0 }))
			expect[*mqtt.Connack](c)
			time.Sleep(1000 * time.Hour)
			c.ping()
			c.nc.Close()
			<-done
		})
	})
}

// The delay of a will is exact, and ends with the session at the latest.
func TestWillDelayTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := newDirectory()
		dir.add(testOrg, "u", nil)
		b := newBroker(t, newMemory(), dir, nil)
		defer b.stopLife()
		defer b.stopWatch()
		sub, subDone := pipe(t, b, mqtt.V5)
		sub.send(hello(mqtt.V5, "sub", func(p *mqtt.Connect) { p.KeepAlive = 0 }))
		expect[*mqtt.Connack](sub)
		sub.sub("will", 0)
		for delay, want := range map[uint32]time.Duration{30: 30 * time.Second, 500: 100 * time.Second} {
			c, done := pipe(t, b, mqtt.V5)
			c.send(hello(mqtt.V5, "c", willed(delay)))
			expect[*mqtt.Connack](c)
			c.nc.Close()
			<-done
			begun := time.Now()
			sub.nc.SetReadDeadline(time.Time{})
			p, err := sub.r.Packet(mqtt.V5)
			if _, ok := p.(*mqtt.Publish); !ok {
				t.Fatalf("got %T %v", p, err)
			}
			if d := time.Since(begun); d != want {
				t.Errorf("delay %d: after %v, want %v", delay, d, want)
			}
		}
		sub.nc.Close()
		<-subDone
	})
}
