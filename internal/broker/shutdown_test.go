package broker

import (
	"net"
	"testing"
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
