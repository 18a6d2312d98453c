package soak

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// An attack is the attackers at work.
type attack struct {
	w  *world
	wg sync.WaitGroup

	mu    sync.Mutex // guards tried
	tried map[string]int
}

// An attacker is one way to hurt a server with one connection.
type attacker struct {
	name string
	run  func(x *assault) error
}

// An assault is one attacker's present connection.
type assault struct {
	*attack
	ctx context.Context
	rnd *rand.Rand
	nc  net.Conn // TCP
}

var kinds = []attacker{
	{"silent", (*assault).silent},
	{"slow handshake", (*assault).slowHandshake},
	{"garbage instead of TLS", (*assault).garbage},
	{"half-open after TLS", (*assault).afterTLS},
	{"half-open session", (*assault).halfOpen},
	{"guessed password", (*assault).guess},
	{"malformed CONNECT", (*assault).malformedConnect},
	{"malformed packet", (*assault).malformed},
	{"malformed packet", (*assault).malformed},
	{"slow reader", (*assault).slowReader},
}

// attack starts the attackers, which end with ctx.
func (w *world) attack(ctx context.Context, r *rand.Rand) *attack {
	a := &attack{w: w, tried: map[string]int{}}
	for i := range *attackers {
		k := kinds[i%len(kinds)]
		rnd := rand.New(rand.NewPCG(r.Uint64(), uint64(i)))
		from := net.IPv4(127, 0, 1, byte(1+i%8))
		a.wg.Go(func() { a.loop(ctx, k, rnd, from) })
	}
	return a
}

func (a *attack) loop(ctx context.Context, k attacker, rnd *rand.Rand, from net.IP) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}, Timeout: 5 * time.Second}
	for ctx.Err() == nil {
		nc, err := d.DialContext(ctx, "tcp", a.w.address)
		if err != nil {
			a.count(k.name + ", not let in")
			pause(ctx, 200*time.Millisecond)
			continue
		}
		stop := context.AfterFunc(ctx, func() { nc.Close() })
		x := &assault{a, ctx, rnd, nc}
		err = k.run(x)
		stop()
		nc.Close()
		if err == nil {
			a.count(k.name)
		} else {
			a.count(k.name + ", ended by the server")
		}
		pause(ctx, time.Duration(100+rnd.IntN(300))*time.Millisecond)
	}
}

func (a *attack) count(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tried[what]++
}

// wait waits for the attackers and tells what they tried.
func (a *attack) wait() string {
	a.wg.Wait()
	var all []string
	for what, n := range a.tried {
		all = append(all, fmt.Sprintf("%s %d", what, n))
	}
	sort.Strings(all)
	return strings.Join(all, "; ")
}

// pause waits for d and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// gone waits until the server closes, reading nothing but the end.
func gone(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return fmt.Errorf("ended: %w", err)
}

func (x *assault) silent() error { return gone(x.nc) }

func (x *assault) slowHandshake() error {
	var hello bytes.Buffer
	c := tls.Client(recorder{&hello}, x.w.s.TLS())
	_ = c.Handshake() // fails, with a ClientHello recorded
	for _, b := range hello.Bytes() {
		if _, err := x.nc.Write([]byte{b}); err != nil {
			return err
		}
		if !pause(x.ctx, 150*time.Millisecond) {
			return nil
		}
	}
	return gone(x.nc)
}

// recorder is a connection that keeps what is written and gives nothing.
type recorder struct{ *bytes.Buffer }

func (r recorder) Read([]byte) (int, error)         { return 0, io.EOF }
func (r recorder) Close() error                     { return nil }
func (r recorder) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (r recorder) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (r recorder) SetDeadline(time.Time) error      { return nil }
func (r recorder) SetReadDeadline(time.Time) error  { return nil }
func (r recorder) SetWriteDeadline(time.Time) error { return nil }

func (x *assault) garbage() error {
	b := make([]byte, 1+x.rnd.IntN(2000))
	for i := range b {
		b[i] = byte(x.rnd.Uint32())
	}
	if _, err := x.nc.Write(b); err != nil {
		return err
	}
	return gone(x.nc)
}

func (x *assault) secure() (*tls.Conn, error) {
	c := tls.Client(x.nc, x.w.s.TLS())
	return c, c.HandshakeContext(x.ctx)
}

func (x *assault) afterTLS() error {
	c, err := x.secure()
	if err != nil {
		return err
	}
	return gone(c)
}

// enter connects as a user of the same organisation as the fleet.
func (x *assault) enter(v mqtt.Version) (*tls.Conn, error) {
	c, err := x.secure()
	if err != nil {
		return nil, err
	}
	p := mqtt.Connect{
		Version: v, CleanStart: true, KeepAlive: 5, ClientID: fmt.Sprint("attacker-", x.rnd.Uint64()),
		Username: mqtt.Some(x.w.org + "/other"), Password: []byte(x.w.other),
	}
	if _, err := c.Write(p.Append(nil, v)); err != nil {
		return nil, err
	}
	ack := make([]byte, 4)
	_, err = io.ReadFull(c, ack)
	return c, err
}

// halfOpen connects, and is never heard of again.
func (x *assault) halfOpen() error {
	c, err := x.enter(mqtt.V5)
	if err != nil {
		return err
	}
	return gone(c)
}

func (x *assault) guess() error {
	c, err := x.secure()
	if err != nil {
		return err
	}
	p := mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: "x", Username: mqtt.Some(x.w.org + "/fleet"), Password: []byte(fmt.Sprint(x.rnd.Uint64()))}
	if _, err := c.Write(p.Append(nil, mqtt.V5)); err != nil {
		return err
	}
	return gone(c)
}

func (x *assault) malformedConnect() error {
	c, err := x.secure()
	if err != nil {
		return err
	}
	p := mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: "x", Will: &mqtt.Will{Topic: "a", Payload: []byte("b")}}
	if _, err := c.Write(x.damage(p.Append(nil, mqtt.V5))); err != nil {
		return err
	}
	return gone(c)
}

// damage changes, drops or adds bytes behind the first.
func (x *assault) damage(b []byte) []byte {
	for range 1 + x.rnd.IntN(4) {
		i := 1 + x.rnd.IntN(len(b)-1)
		switch x.rnd.IntN(3) {
		case 0:
			b[i] ^= byte(1 << x.rnd.IntN(8))
		case 1:
			b = append(b[:i], b[i+1:]...)
		default:
			b = append(b[:i], append([]byte{byte(x.rnd.Uint32())}, b[i:]...)...)
		}
		if len(b) < 3 {
			return b
		}
	}
	return b
}

// malformed sends what is nearly a packet in a session of its own, until it is cut off.
func (x *assault) malformed() error {
	v := []mqtt.Version{mqtt.V311, mqtt.V5}[x.rnd.IntN(2)]
	c, err := x.enter(v)
	if err != nil {
		return err
	}
	packets := []mqtt.Packet{
		&mqtt.Publish{Topic: []byte("attack/x"), Payload: []byte("x"), QoS: 1, PacketID: 1},
		&mqtt.Subscribe{PacketID: 2, Subscriptions: []mqtt.Subscription{{Filter: "attack/#", QoS: 1}}},
		&mqtt.Unsubscribe{PacketID: 3, Filters: []string{"attack/#"}},
		&mqtt.Ack{Type: mqtt.PUBREL, PacketID: 4}, &mqtt.Ack{Type: mqtt.PUBACK, PacketID: 5}, &mqtt.Pingreq{},
	}
	for range 20 {
		if _, err := c.Write(x.damage(packets[x.rnd.IntN(len(packets))].Append(nil, v))); err != nil {
			return err
		}
		if !pause(x.ctx, 20*time.Millisecond) {
			return nil
		}
	}
	return gone(c) // the keep alive ends it at the latest
}

// slowReader subscribes to all that the fleet says and reads next to nothing.
func (x *assault) slowReader() error {
	if t, ok := x.nc.(*net.TCPConn); ok {
		_ = t.SetReadBuffer(4 << 10)
	}
	c, err := x.enter(mqtt.V5)
	if err != nil {
		return err
	}
	sub := &mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "#", QoS: byte(x.rnd.IntN(2))}}}
	if _, err := c.Write(sub.Append(nil, mqtt.V5)); err != nil {
		return err
	}
	small := make([]byte, 16)
	for {
		if !pause(x.ctx, time.Second) {
			return nil
		}
		if _, err := c.Write((&mqtt.Pingreq{}).Append(nil, mqtt.V5)); err != nil {
			return err
		}
		if _, err := c.Read(small); err != nil {
			return err
		}
	}
}
