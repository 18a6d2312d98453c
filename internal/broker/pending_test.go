package broker

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// Over HTTP a connection is for one request until somebody authenticates on it;
// from then on it stays, and does not count as pending.
func TestHTTPConnectionsAreForOneRequest(t *testing.T) {
	w := start(t, nil)
	for _, tt := range []struct {
		name, path, password string
		status               int
		stays                bool
	}{
		{"nothing there", "/", "secret-u", 404, false},
		{"wrong password", "/api/v0002/device/types/t/devices/x/events/e", "wrong", 401, false},
		{"right password", "/api/v0002/device/types/t/devices/x/events/e", "secret-u", 200, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			nc := w.dial(nil)
			req, err := http.NewRequest("POST", "https://localhost"+tt.path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "text/plain")
			req.SetBasicAuth(string(testOrg)+"/u", tt.password)
			req.Host = string(testOrg) + ".messaging.localhost"
			r := bufio.NewReader(nc)
			for range 2 {
				if err := req.Write(nc); err != nil {
					t.Fatal(err)
				}
				res, err := http.ReadResponse(r, req)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if res.StatusCode != tt.status || res.Close == tt.stays {
					t.Fatalf("status %d, last: %v; want %d, %v", res.StatusCode, res.Close, tt.status, !tt.stays)
				}
				if res.Close {
					if _, err := r.ReadByte(); err != io.EOF {
						t.Errorf("after the last answer: %v", err)
					}
					break
				}
				if c := w.b.Snapshot().Door; c.Pending != 0 || c.Open != 1 {
					t.Errorf("after authentication: %+v", c)
				}
			}
			nc.Close()
			eventually(t, "it is gone", func() bool { return w.b.Snapshot().Open == 0 })
		})
	}
}

// A connection has a place until it has authenticated, and is pending as long.
func TestPlacesUntilAuthenticated(t *testing.T) {
	w := start(t, nil)
	c := newClient(t, w.dial(nil), mqtt.V5)
	eventually(t, "it has a place", func() bool { d := w.b.Snapshot().Door; return d.Inside == 1 && d.Pending == 1 })
	c.send(hello(mqtt.V5, "c", nil))
	expect[*mqtt.Connack](c)
	if d := w.b.Snapshot().Door; d.Inside != 0 || d.Pending != 0 || d.Open != 1 {
		t.Errorf("with CONNACK: %+v", d)
	}
	for i := range 3 {
		_, ack := w.try(hello(mqtt.V5, fmt.Sprint("bad", i), func(p *mqtt.Connect) { p.Password = []byte("wrong") }))
		if ack.Code != mqtt.BadUserNameOrPassword {
			t.Errorf("wrong password: %v", ack.Code)
		}
	}
	eventually(t, "the refused are counted", func() bool { d := w.b.Snapshot().Door; return d.Failed == 3 && d.Open == 1 })
}
