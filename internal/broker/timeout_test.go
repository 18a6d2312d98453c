package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/nettest"
	"github.com/keepmq/keepmq/internal/quota"
)

// A client has one time limit for everything up to CONNECT, whatever it does
// with it.
func TestConnectTimeout(t *testing.T) {
	whole := hello(mqtt.V5, "c", nil).Append(nil, mqtt.V5)
	hand := []byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3}
	for _, tt := range []struct {
		name string
		tls  bool
		send []byte // a byte a second
	}{
		{"nothing", false, nil},
		{"half a handshake", false, hand},
		{"a handshake byte by byte", false, append(hand, make([]byte, 500)...)},
		{"TLS alone", true, nil},
		{"one byte", true, whole[:1]},
		{"one byte, late", true, append([]byte{0, 0, 0, 0, 0, 0, 0}, whole[0])}, // 0: nothing is sent in that second
		{"a packet byte by byte", true, whole},
		{"a request byte by byte", true, []byte("GET")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, w *world) {
				begun := time.Now()
				var nc net.Conn
				if tt.tls {
					nc = w.dial(nil)
				} else {
					nc, _ = w.ln.Dial()
				}
				ended := make(chan time.Time, 1)
				go func() {
					for {
						if _, err := nc.Read(make([]byte, 100)); err != nil {
							ended <- time.Now()
							return
						}
					}
				}()
				for i, b := range tt.send {
					if b == 0 && tt.send[0] == 0 {
						time.Sleep(time.Second)
						continue
					}
					if _, err := nc.Write(tt.send[i : i+1]); err != nil {
						break
					}
					time.Sleep(time.Second)
				}
				if d := (<-ended).Sub(begun); d != 10*time.Second {
					t.Errorf("ended after %v", d)
				}
				nc.Close()
				synctest.Wait()
				if s := w.b.Snapshot(); s.Open != 0 || s.Connected != 0 {
					t.Errorf("left: %+v", s)
				}
			})
		})
	}
}

// In time is in time, and from then on there is no such limit. A WebSocket has
// the time again when it is open.
func TestConnectInTime(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		bubble(t, nil, func(t *testing.T, w *world) {
			c := newClient(t, w.dial(nil), v)
			c.listen()
			time.Sleep(10*time.Second - 1)
			c.send(hello(v, "c", alive(0)))
			expect[*mqtt.Connack](c)
			ws := w.dialWebSocket("/mqtt", v)
			time.Sleep(10*time.Second - 1)
			ws.send(hello(v, "ws", alive(0)))
			expect[*mqtt.Connack](ws)
			silent := w.dialWebSocket("/mqtt", v)
			begun := time.Now()
			silent.gone(begun.Add(10 * time.Second))
			time.Sleep(100 * time.Hour)
			c.ping()
			ws.ping()
		})
	})
}

// A Verifier that does not answer lets nobody in, and nobody wait.
func TestVerifierHangs(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		bubble(t, nil, func(t *testing.T, w *world) {
			w.dir.mu.Lock()
			w.dir.hangs = true
			w.dir.mu.Unlock()
			c := newClient(t, w.dial(nil), v)
			c.listen()
			begun := time.Now()
			time.Sleep(time.Second)
			c.send(hello(v, "c", nil))
			if _, err := c.packet(); err == nil || !c.at.Equal(begun.Add(10*time.Second)) {
				t.Errorf("%v after %v", err, c.at.Sub(begun))
			}
		})
	})
}

// If after a change the Verifier does not answer in time, that is a no: for all
// whom the change concerns, however many they are, and for nobody else.
func TestRenewTimeout(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		for _, n := range []int{1, renewers, 5*renewers + 1} {
			bubble(t, nil, func(t *testing.T, w *world) {
				other := w.connect(v, "other", func(p *mqtt.Connect) { as(p, testOrg, "v"); p.KeepAlive = 0 })
				var all []*client
				for i := range n {
					all = append(all, w.connect(v, fmt.Sprint("c", i), nil))
				}
				w.dir.mu.Lock()
				w.dir.hangs = true
				w.dir.mu.Unlock()
				begun := time.Now()
				w.dir.set(testOrg, "u", func(*user) {})
				for _, c := range all {
					c.endsAt(begun.Add(renewTimeout), mqtt.AdministrativeAction)
				}
				time.Sleep(time.Hour)
				other.silent()
				other.ping()
			})
		}
	})
}

// A Verifier that answers slowly, but in time, ends nobody.
func TestSlowVerifier(t *testing.T) {
	bubble(t, func(c *Config) { c.Verifier = &slowVerifier{c.Verifier.(*directory)} }, func(t *testing.T, w *world) {
		var all []*client
		for i := range 3*renewers + 1 {
			all = append(all, w.connect(mqtt.V5, fmt.Sprint("c", i), alive(0)))
		}
		w.dir.set(testOrg, "u", func(*user) {})
		time.Sleep(time.Minute)
		for i, c := range all {
			if c.silent(); t.Failed() {
				t.Fatalf("client %d", i)
			}
		}
	})
}

// A slowVerifier takes nearly as long as it may to renew a grant.
type slowVerifier struct{ *directory }

func (s *slowVerifier) Renew(ctx context.Context, r auth.Ref) (*auth.Grant, error) {
	if !wait(ctx, renewTimeout-1) {
		return nil, ctx.Err()
	}
	return s.directory.Renew(ctx, r)
}

// A connection ends with its credential, to the moment, and not while the
// credential is made to last.
func TestCredentialExpires(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		bubble(t, nil, func(t *testing.T, w *world) {
			begun := time.Now()
			add := func(name string, life time.Duration) *client {
				w.dir.add(testOrg, name, func(s *auth.Spec) { s.Expires = begun.Add(life) })
				return w.connect(v, name, func(p *mqtt.Connect) { as(p, testOrg, name); p.KeepAlive = 0 })
			}
			change := func(name string, life time.Duration) {
				w.dir.set(testOrg, name, func(u *user) { u.spec.Expires = begun.Add(life) })
			}
			brief, longer, shorter, ever := add("brief", time.Hour), add("longer", time.Hour), add("shorter", time.Hour), add("ever", time.Hour)
			time.Sleep(time.Minute)
			change("longer", 2*time.Hour)
			change("shorter", 30*time.Minute)
			w.dir.set(testOrg, "ever", func(u *user) { u.spec.Expires = time.Time{} })
			shorter.endsAt(begun.Add(30*time.Minute), mqtt.NotAuthorized)
			time.Sleep(30*time.Minute - 1)
			brief.silent()
			brief.endsAt(begun.Add(time.Hour), mqtt.NotAuthorized)
			longer.endsAt(begun.Add(2*time.Hour), mqtt.NotAuthorized)
			time.Sleep(1000 * time.Hour)
			ever.ping()
			_, ack := w.try(hello(v, "late", func(p *mqtt.Connect) { as(p, testOrg, "longer") }))
			want := mqtt.BadUserNameOrPassword
			if v < mqtt.V5 {
				want = mqtt.ReasonCode(mqtt.ReturnNotAuthorized)
			}
			if ack.Code != want {
				t.Errorf("an expired credential is answered by %v", ack.Code)
			}
		})
	})
}

// A client that reads nothing is cut when it has taken none of what is written
// to it for the time that it has, and its will goes out then.
func TestWriteTimeout(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		for _, timeout := range []time.Duration{0, 5 * time.Second} {
			bubble(t, func(c *Config) { c.WriteTimeout = timeout }, func(t *testing.T, w *world) {
				sub := w.connect(v, "sub", func(p *mqtt.Connect) { as(p, testOrg, "v"); p.KeepAlive = 0 })
				sub.sub("will", 0)
				c := newClient(t, w.dial(nil), v)
				c.small()
				c.send(hello(v, "c", willed(0, alive(0))))
				expect[*mqtt.Connack](c)
				c.sub("a", 0)
				time.Sleep(time.Hour) // there is nothing to read
				sub.silent()
				begun := time.Now()
				sub.publish("a", strings.Repeat("x", 20<<10))
				time.Sleep(time.Second)
				sub.publish("a", "it does not begin anew with what comes after")
				sub.receive("will", "gone")
				if timeout == 0 {
					timeout = 30 * time.Second
				}
				sub.came(begun.Add(timeout))
			})
		}
	})
}

// A client that writes without reading is not read either, and cut in the end.
func TestDeafWriter(t *testing.T) {
	bubble(t, func(c *Config) { c.Log, c.Limits = nil, c.Limits.With(quota.ClientOutbound, 1) }, func(t *testing.T, w *world) {
		w.dir.add(testOrg, "none", func(s *auth.Spec) { s.Rules = nil })
		c := newClient(t, w.dial(nil), mqtt.V5)
		c.small()
		c.send(hello(mqtt.V5, "c", func(p *mqtt.Connect) { as(p, testOrg, "none") }))
		expect[*mqtt.Connack](c)
		begun := time.Now()
		// Each is refused, with the topic in the reason string.
		denied := pub(strings.Repeat("long", 1000), "", 1, 1).Append(nil, mqtt.V5)
		written := 0
		c.nc.SetWriteDeadline(time.Time{})
		for ; written < 100_000; written++ {
			if _, err := c.nc.Write(denied); err != nil {
				break
			}
		}
		if d := time.Since(begun); d != 30*time.Second || written == 100_000 {
			t.Errorf("cut after %v and %d packets", d, written)
		}
		synctest.Wait()
		if s := w.b.Snapshot(); s.PublishRefused[errs.Denied] > 1000 || s.Connected != 0 {
			t.Errorf("%d packets were served, %d connected", s.PublishRefused[errs.Denied], s.Connected)
		}
	})
}

// An engine that hangs with a will holds the session for a time, not for ever.
func TestWillTimeout(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		bubble(t, nil, func(t *testing.T, w *world) {
			old := w.connect(v, "c", willed(0, lasting))
			goOn := w.mem.hang()
			begun := time.Now()
			c := newClient(t, w.dial(nil), v)
			c.listen()
			c.send(hello(v, "c", func(p *mqtt.Connect) { lasting(p); p.KeepAlive = 0 }))
			old.endsAt(begun, mqtt.SessionTakenOver)
			// It is within the time for CONNECT, by a hair.
			p, err := c.packet()
			if ack, ok := p.(*mqtt.Connack); err == nil && (!ok || ack.Code != 0) {
				t.Errorf("got %T %+v", p, p)
			}
			c.came(begun.Add(willTimeout))
			goOn()
		})
	})
}

// Shutdown takes no time if nobody keeps it, and is bounded if somebody does.
func TestShutdownTime(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		for _, tt := range []struct {
			name   string
			within time.Duration
			deaf   bool
			hangs  bool // the engine, with a will
			want   time.Duration
		}{
			{"nobody keeps it", time.Hour, false, false, 0},
			{"reads nothing", time.Hour, true, false, closeTimeout},
			{"reads nothing, and no patience", closeTimeout - 1, true, false, closeTimeout - 1},
			{"engine hangs", time.Hour, false, true, willTimeout},
			{"engine hangs, and no patience", time.Second, false, true, time.Second},
		} {
			t.Run(tt.name, func(t *testing.T) {
				bubble(t, nil, func(t *testing.T, w *world) {
					p := w.connect(v, "p", func(p *mqtt.Connect) { as(p, testOrg, "v"); p.KeepAlive = 0 })
					c := newClient(t, w.dial(nil), v)
					c.small()
					c.send(hello(v, "c", willed(0, alive(0))))
					expect[*mqtt.Connack](c)
					c.sub("a", 0)
					half, _ := w.ln.Dial()
					defer half.Close()
					w.dial(nil)
					ws := w.dialWebSocket("/mqtt", v)
					ws.send(hello(v, "ws", nil))
					expect[*mqtt.Connack](ws)
					if tt.deaf {
						p.publish("a", strings.Repeat("x", 20<<10))
					} else {
						c.listen()
					}
					if tt.hangs {
						defer w.mem.hang()()
					}
					synctest.Wait()
					begun := time.Now()
					ctx, cancel := context.WithTimeout(context.Background(), tt.within)
					defer cancel()
					err := w.b.Shutdown(ctx)
					if d := time.Since(begun); d != tt.want && d != tt.want+1 { // the WebSocket takes a moment to wake its reader
						t.Errorf("took %v, want %v", d, tt.want)
					}
					if (err != nil) != (tt.want == tt.within) {
						t.Errorf("returned %v", err)
					}
					p.endsAt(begun, mqtt.ServerShuttingDown)
					if s := w.b.Snapshot(); s.Connected != 0 || s.Open != 0 {
						t.Errorf("left: %+v", s)
					}
				})
			})
		}
	})
}

// If changes cannot be listened to, that is tried again, with pauses that grow,
// and each time everybody is asked for. What changes in a pause is heard within
// the second.
func TestChangesPause(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		c := w.connect(mqtt.V5, "c", alive(0))
		w.dir.mu.Lock()
		w.dir.unheard = []time.Time{}
		w.dir.mu.Unlock()
		w.dir.fail()
		begun := time.Now()
		time.Sleep(10 * time.Second)
		w.dir.mu.Lock()
		var got []string
		for _, at := range w.dir.unheard[:9] {
			got = append(got, fmt.Sprint(at.Sub(begun).Milliseconds()))
		}
		n := len(w.dir.unheard)
		w.dir.unheard = nil
		w.dir.mu.Unlock()
		if s := strings.Join(got, " "); s != "0 0 10 30 70 150 310 630 1030" || n > 32 {
			t.Errorf("listened at %s, %d times in all", s, n)
		}
		c.silent()
		synctest.Wait()
		changed := time.Now()
		w.dir.set(testOrg, "u", func(u *user) { u.refused = errs.E(errs.Denied, "disabled") })
		c.closed()
		if d := c.at.Sub(changed); d > changesPause {
			t.Errorf("ended after %v", d)
		}
	})
}

// A failing listener cannot accept for a while.
type failing struct {
	net.Listener
	fails int
	tried []time.Time
}

func (f *failing) Accept() (net.Conn, error) {
	f.tried = append(f.tried, time.Now())
	if f.fails--; f.fails >= 0 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept", errors.New("too many open files"))}
	}
	return f.Listener.Accept()
}

// When no connection can be accepted, that is tried again, with pauses that
// grow up to a second, until it succeeds.
func TestAcceptPause(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.ln = nettest.Listen()
		f := &failing{Listener: w.ln, fails: 10}
		served := make(chan error, 1)
		begun := time.Now()
		go func() { served <- w.b.Serve(f) }()
		c := w.connect(mqtt.V5, "c", nil)
		c.ping()
		w.shutdown()
		if err := <-served; err != nil {
			t.Error(err)
		}
		want, pause := time.Duration(0), 5*time.Millisecond
		for i, at := range f.tried[:11] {
			if at.Sub(begun) != want {
				t.Errorf("attempt %d after %v, want %v", i, at.Sub(begun), want)
			}
			want += pause
			pause = min(2*pause, time.Second)
		}
	})
}
