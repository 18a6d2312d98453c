package broker

import (
	"sync"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/mqtt"
)

// Connects and takeovers are told; messages are counted for devices, each once.
func TestConnectedAndTraffic(t *testing.T) {
	var mu sync.Mutex
	var told []Connect
	w := start(t, func(c *Config) {
		c.Connected = func(x Connect) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, x)
		}
	})
	w.dir.addPump(testOrg, "1")
	pump := func() *client {
		return w.connect(mqtt.V5, "c", func(p *mqtt.Connect) { as(p, testOrg, "pump:1") })
	}
	pump().ping()
	c := pump()
	for range 3 {
		c.publish("a", "x")
	}
	w.connect(mqtt.V5, "u", nil).publish("a", "x") // a user, who has no habit
	who := auth.Principal{Org: testOrg, Kind: auth.Device, ID: "pump:1"}
	for _, want := range []int64{3, 0} {
		got := map[auth.Principal]int64{}
		for p, n := range w.b.Traffic() {
			got[p] = n
		}
		if n, ok := got[who]; !ok || n != want || len(got) != 1 {
			t.Errorf("traffic %v, want %d", got, want)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	takeovers := 0
	for _, x := range told {
		if x.Takeover {
			takeovers++
		}
		if x.Address != "127.0.0.1" || x.Who.Org != testOrg || x.Client == "" {
			t.Errorf("told %+v", x)
		}
	}
	if takeovers != 1 || len(told) != 4 || told[1].Who != who {
		t.Errorf("told %+v", told)
	}
}
