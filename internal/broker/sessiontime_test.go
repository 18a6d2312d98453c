package broker

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// expiring makes a CONNECT of user v that resumes and asks for a session expiry.
func expiring(seconds uint32) func(*mqtt.Connect) {
	return func(p *mqtt.Connect) {
		as(p, testOrg, "v")
		p.CleanStart, p.KeepAlive = false, 0
		p.Properties.SessionExpiry = mqtt.Some(seconds)
	}
}

// A session goes on until it has been without a connection for as long as its
// expiry says, and ends then, with its subscriptions and its queue
// [MQTT-3.1.2-23]. The expiry is that of the last CONNECT, or of DISCONNECT.
func TestSessionExpiryTime(t *testing.T) {
	const most = 2 * time.Hour
	for _, tt := range []struct {
		name   string
		v      mqtt.Version
		expiry uint32
		clean  bool // before MQTT 5
		end    func(*client)
		told   int // in CONNACK; -1: nothing
		lasts  time.Duration
	}{
		{name: "0", v: mqtt.V5, expiry: 0, told: -1, lasts: 0},
		{name: "1", v: mqtt.V5, expiry: 1, told: -1, lasts: time.Second},
		{name: "100", v: mqtt.V5, expiry: 100, told: -1, lasts: 100 * time.Second},
		{name: "the most", v: mqtt.V5, expiry: 7200, told: -1, lasts: most},
		{name: "more than the most", v: mqtt.V5, expiry: 7201, told: 7200, lasts: most},
		{name: "never", v: mqtt.V5, expiry: mqtt.SessionNeverExpires, told: 7200, lasts: most},
		{name: "3.1.1", v: mqtt.V311, told: -1, lasts: most},
		{name: "3.1.1, clean", v: mqtt.V311, clean: true, told: -1, lasts: 0},
		{name: "3.1", v: mqtt.V31, told: -1, lasts: most},
		{name: "goodbye", v: mqtt.V5, expiry: 100, end: disconnect(0), told: -1, lasts: 100 * time.Second},
		{name: "made longer", v: mqtt.V5, expiry: 100, end: disconnect(0, 200), told: -1, lasts: 200 * time.Second},
		{name: "made shorter", v: mqtt.V5, expiry: 100, end: disconnect(0, 7), told: -1, lasts: 7 * time.Second},
		{name: "made to last", v: mqtt.V5, expiry: 100, end: disconnect(0, mqtt.SessionNeverExpires), told: -1, lasts: most},
		{name: "ended", v: mqtt.V5, expiry: 100, end: disconnect(0, 0), told: -1, lasts: 0},
		{name: "with the will", v: mqtt.V5, expiry: 100, end: disconnect(mqtt.DisconnectWithWill, 50), told: -1, lasts: 50 * time.Second},
		{name: "malformed", v: mqtt.V5, expiry: 100, end: func(c *client) { c.raw([]byte{0}) }, told: -1, lasts: 100 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			durably(t, func(c *Config) { c.MaxSessionExpiry = most }, func(t *testing.T, s *stable) {
				p := s.connect(mqtt.V5, "p", alive(0))
				ask := func(p *mqtt.Connect) { expiring(tt.expiry)(p); p.CleanStart = tt.clean }
				leave := func(present bool) {
					t.Helper()
					c, ack := s.try(hello(tt.v, "c", ask))
					told, ok := ack.Properties.SessionExpiry.Get()
					if ok != (tt.told >= 0) || ok && int(told) != tt.told {
						t.Errorf("told %d %v, want %d", told, ok, tt.told)
					}
					if ack.SessionPresent != (present && tt.v != mqtt.V31) { // which has no such flag
						t.Errorf("session present %v", ack.SessionPresent)
					}
					if present {
						c.receive("a", "kept")
					} else {
						c.sub("a", 1)
					}
					time.Sleep(time.Minute) // a connection does not run out
					c.ping()
					if tt.end == nil {
						c.cut()
					} else {
						tt.end(c)
					}
					synctest.Wait()
					p.publish("a", "kept")
				}
				leave(false)
				if tt.lasts > 0 {
					time.Sleep(tt.lasts - time.Millisecond)
					leave(true)
					if n := s.stats().Queued; n != 2 {
						t.Errorf("%d queued, want 2", n)
					}
					time.Sleep(tt.lasts - time.Millisecond)
					if n := s.stats().Sessions; n != 2 {
						t.Errorf("%d sessions just before", n)
					}
					time.Sleep(2 * time.Millisecond) // the engine counts milliseconds
				}
				synctest.Wait()
				if st := s.stats(); st.Sessions != 1 || st.Queued != 0 || st.Subscriptions != 0 {
					t.Errorf("left: %+v", st)
				}
				leave(false)
				if n := s.stats().Queued; n != 1 && tt.lasts > 0 {
					t.Errorf("%d queued, want 1", n)
				}
			})
		})
	}
}

func (s *stable) stats() (st struct{ Sessions, Subscriptions, Queued, Retained int64 }) {
	s.t.Helper()
	all, err := s.eng.Stats(context.Background(), testOrg)
	if err != nil {
		s.t.Fatal(err)
	}
	st.Sessions, st.Subscriptions, st.Queued, st.Retained = all.Sessions, all.Subscriptions, all.Queued, all.Retained
	return st
}

// A session runs out while the server is down, and not sooner. If the server
// crashed under its connection, that ended with the next start.
func TestSessionExpiryAcrossRestart(t *testing.T) {
	for _, tt := range []struct {
		name    string
		gone    bool // before the server ends, by 10 s
		crash   bool
		away    time.Duration
		then    time.Duration // after the start
		present bool
	}{
		{"in time", true, false, 80 * time.Second, 10*time.Second - time.Millisecond, true},
		{"just over", true, false, 80 * time.Second, 10 * time.Second, false},
		{"over while down", true, false, 90 * time.Second, 0, false},
		{"in time after a crash", true, true, 80 * time.Second, 10*time.Second - time.Millisecond, true},
		{"over after a crash", true, true, 80 * time.Second, 10 * time.Second, false},
		{"ended with the server, in time", false, false, 80 * time.Second, 20*time.Second - time.Millisecond, true},
		{"ended with the server, over", false, false, 80 * time.Second, 20 * time.Second, false},
		{"cut by a crash, in time", false, true, time.Hour, 100*time.Second - time.Millisecond, true},
		{"cut by a crash, over", false, true, time.Hour, 100 * time.Second, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			durably(t, nil, func(t *testing.T, s *stable) {
				c := s.resume(mqtt.V5, "c", false, expiring(100))
				c.sub("a", 1)
				if tt.gone {
					c.cut()
					synctest.Wait()
				}
				time.Sleep(10 * time.Second)
				s.connect(mqtt.V5, "p", nil).publish("a", "kept")
				if tt.crash {
					s.crash(tt.away)
				} else {
					s.restart(tt.away)
				}
				time.Sleep(tt.then)
				c = s.resume(mqtt.V5, "c", tt.present, expiring(100))
				if tt.present {
					c.receive("a", "kept")
				}
				c.ping()
			})
		})
	}
}

// What a client asks for when it comes back holds from then on.
func TestSessionExpiryChanges(t *testing.T) {
	durably(t, nil, func(t *testing.T, s *stable) {
		s.resume(mqtt.V5, "c", false, expiring(100)).cut()
		time.Sleep(99 * time.Second)
		s.resume(mqtt.V5, "c", true, expiring(10)).cut()
		time.Sleep(10 * time.Second)
		s.resume(mqtt.V5, "c", false, expiring(1000)).cut()
		time.Sleep(999 * time.Second)
		c := s.resume(mqtt.V5, "c", true, expiring(0)) // its last connection
		c.cut()
		synctest.Wait()
		s.resume(mqtt.V5, "c", false, expiring(0)).bye()
	})
}

// Who does not read cannot hold up whoever takes its session over: it is cut
// after the time that it has to take its leave.
func TestTakeoverTime(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		t.Run(fmt.Sprint("deaf ", deaf), func(t *testing.T) {
			both(t, func(t *testing.T, v mqtt.Version) {
				bubble(t, nil, func(t *testing.T, w *world) {
					old := newClient(t, w.dial(nil), v)
					old.send(hello(v, "c", willed(0, lasting)))
					expect[*mqtt.Connack](old)
					old.sub("a", 0)
					sub := w.connect(v, "sub", func(p *mqtt.Connect) { as(p, testOrg, "v") })
					sub.sub("will", 0)
					if deaf {
						old.small()
						for range 10 {
							sub.publish("a", string(make([]byte, 16<<10)))
						}
					} else {
						old.listen()
					}
					begun := time.Now()
					c := w.resume(v, "c", true, willed(30, lasting))
					want := begun
					if deaf {
						want = begun.Add(urgentTimeout)
					} else {
						old.endsAt(begun, mqtt.SessionTakenOver)
					}
					c.came(want)
					sub.receive("will", "gone") // its delay of 0 is over
					sub.came(want)
					c.ping()
					// With a delay it is not, if the session goes on [MQTT-3.1.3-9].
					next := w.resume(v, "c", true, lasting)
					c.endsAt(want, mqtt.SessionTakenOver)
					if v < mqtt.V5 {
						sub.receive("will", "gone")
					}
					time.Sleep(50 * time.Second)
					sub.ping()
					next.ping()
				})
			})
		})
	}
}

// Many clients with one client id: each gets its turn, all but the last are
// ended and told so, and no time passes.
func TestTakeoverStorm(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		durably(t, nil, func(t *testing.T, s *stable) {
			const n = 50
			begun := time.Now()
			all := make([]*client, n)
			for i := range all {
				all[i] = newClient(t, s.dial(nil), v)
				all[i].listen()
			}
			for _, c := range all {
				c.send(hello(v, "same", lasting))
			}
			synctest.Wait()
			left := 0
			for _, c := range all {
				over := false
				for len(c.heard) > 0 && !over {
					switch p, err := c.packet(); p := p.(type) {
					case *mqtt.Connack:
						if p.Code != mqtt.Success {
							t.Errorf("refused: %v", p.Code)
						}
						left++
					case *mqtt.Disconnect:
						if p.Code != mqtt.SessionTakenOver {
							t.Errorf("ended with %v", p.Code)
						}
					case nil:
						if over = err != nil; over && c.at.Equal(begun) {
							left--
						}
					}
				}
			}
			// Some are ended before their CONNACK.
			if st := s.b.Snapshot(); left > 1 || st.Connected != 1 || st.Open != 1 || !time.Now().Equal(begun) {
				t.Errorf("%d were let in and not ended; %d connected, %d open, after %v", left, st.Connected, st.Open, time.Since(begun))
			}
		})
	})
}
