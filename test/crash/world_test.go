package crash

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/test/server"
)

// A world is a data folder, the servers that live in it one after the other,
// and everybody who uses them.
type world struct {
	t    testing.TB
	rng  *rand.Rand
	seed uint64
	h    *history

	dir         string
	mqtt, https string // addresses, the same in all lives
	tls         *tls.Config
	secrets     []string // tokens and passwords
	welcome     server.Welcome
	token       string
	user        struct{ Username, Password string }

	roles     []*role
	all       bool   // everybody is online
	between   func() // between the end of one server and the next
	lives     int
	looks     int // at retained messages, guarded by h.mu
	acks      int64
	refused   atomic.Int64 // messages
	processes []*process
}

// An account is how somebody connects.
type account struct{ client, user, password string }

// newWorld makes a data folder with accounts.
func newWorld(t testing.TB, dir string, seed uint64, args ...string) *world {
	t.Helper()
	w := &world{t: t, rng: newRand(seed, 0), seed: seed, h: new(history), dir: dir, between: func() {}}
	w.mqtt, w.https = freePort(t, w.rng), freePort(t, w.rng)
	t.Cleanup(func() {
		for _, p := range w.processes {
			p.kill()
		}
	})
	s := server.Start(t, dir, append([]string{"--mqtt", w.mqtt, "--https", w.https}, args...)...)
	w.tls, w.welcome = s.TLS(), s.Welcome
	api := s.SignIn()
	w.token = api.Token()
	w.secrets = append(w.secrets, w.token, s.LoginCode, s.Device.Token, s.Application.Token)
	api.Call(http.MethodPost, "/orgs", map[string]string{"id": "plain1", "profile": "plain"}, nil)
	api.Call(http.MethodPost, "/orgs/plain1/users", map[string]string{"name": "someone"}, &w.user)
	w.secrets = append(w.secrets, w.user.Password)
	s.Kill()
	return w
}

// freePort returns an address that outgoing connections do not take by chance.
func freePort(t testing.TB, rng *rand.Rand) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rng.IntN(12000))
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

// add gives an account a role. Its sessions last, unless changed.
func (w *world) add(a account, v mqtt.Version, window int) *role {
	c := &client{
		h: w.h, address: strings.Replace(w.mqtt, "127.0.0.1", "localhost", 1), tls: w.tls,
		id: a.client, user: a.user, password: a.password, version: v, window: window, expiry: mqtt.SessionNeverExpires,
		in: map[uint16]*incoming{}, past: map[uint16]*incoming{}, wanted: map[string]bool{}, subs: map[string]*stretch{}, asked: map[uint16]string{},
	}
	r := &role{client: c, rng: newRand(w.seed, uint64(len(w.roles)+1)), online: 1, quits: 0.002, changing: map[*retained]bool{}}
	c.onRefusal = func() { w.refused.Add(1) }
	r.topic = func(s *stream) string { return s.topic }
	w.roles = append(w.roles, r)
	return r
}

func (w *world) someone(client string) account {
	return account{client, w.user.Username, w.user.Password}
}

// publisher adds one with n streams below a topic.
func (w *world) publisher(name string, v mqtt.Version, qos byte, topic string, n int) *role {
	r := w.add(w.someone("pub-"+name), v, 16)
	for i := range n {
		r.streams = append(r.streams, w.h.stream(fmt.Sprintf("%s-%d", name, i), fmt.Sprintf("%s/%s/%d", topic, name, i), qos))
	}
	return r
}

// subscriber adds one that wants filters.
func (w *world) subscriber(name string, v mqtt.Version, qos byte, filters ...string) *role {
	r := w.add(w.someone("sub-"+name), v, 50)
	r.r = w.h.receiver(r.id, qos)
	for _, f := range filters {
		r.wanted[f] = true
	}
	return r
}

// cast adds everybody of the great play.
func (w *world) cast() {
	w.publisher("one5", mqtt.V5, 1, "load", 2).will = marker + " will"
	w.publisher("one4", mqtt.V311, 1, "load", 1)
	w.publisher("two5", mqtt.V5, 2, "load", 2)
	w.publisher("two4", mqtt.V311, 2, "load", 1)
	w.publisher("churn", mqtt.V5, 2, "churn", 4)
	w.publisher("churn1", mqtt.V311, 1, "churn", 4)
	w.publisher("volatile", mqtt.V311, 1, "load", 1).volatile = true
	keeper := w.publisher("keeper", mqtt.V5, 1, "load", 0)
	for i := range 6 {
		keeper.retained = append(keeper.retained, w.h.retain(fmt.Sprintf("ret-%d", i), fmt.Sprintf("%st%d", retainedTopics, i), byte(1+i%2)))
	}

	w.subscriber("two5", mqtt.V5, 2, "load/#")
	w.subscriber("two4", mqtt.V311, 2, "load/#")
	w.subscriber("one5", mqtt.V5, 1, "load/#")
	w.subscriber("one4", mqtt.V311, 1, "load/+/+")
	lazy := w.subscriber("lazy", mqtt.V5, 2, "load/two5/0", "load/one5/#")
	lazy.lazy = true
	w.subscriber("lazy4", mqtt.V311, 1, "load/two4/+", "load/one4/#").lazy = true
	w.subscriber("away5", mqtt.V5, 2, "load/#").online = 0.2
	w.subscriber("away4", mqtt.V311, 1, "load/two5/#", "load/one4/#").online = 0.2
	for i, v := range []mqtt.Version{mqtt.V5, mqtt.V311} {
		r := w.subscriber(fmt.Sprintf("churn%d", i), v, byte(2-i))
		for k := range 4 {
			r.churn = append(r.churn, fmt.Sprintf("churn/+/%d", k))
		}
		r.clean = 0.3 * float64(1-i) // in 3.1.1 a clean session would not last
	}
	brief := w.subscriber("brief", mqtt.V5, 2, "load/two5/#")
	brief.online, brief.expiry, brief.ended.expiry = 0.4, 2, 2*time.Second
	ret := w.subscriber("retained", mqtt.V5, 2)
	ret.churn = []string{retainedTopics + "#"}
	w.castThings()
}

// castThings adds a device and its application.
func (w *world) castThings() {
	org, d, a := w.welcome.Org, w.welcome.Device, w.welcome.Application
	device := w.add(account{fmt.Sprintf("d:%s:%s:%s", org, d.Type, d.ID), "use-token-auth", d.Token}, mqtt.V311, 10)
	app := w.add(account{"a:" + org + ":board", a.Key, a.Token}, mqtt.V5, 20)
	app.r = w.h.receiver(app.id, 2)
	app.wanted["iot-2/type/+/id/+/evt/+/fmt/+"] = true
	for qos := byte(1); qos <= 2; qos++ {
		event := fmt.Sprintf("evt/level%d/fmt/json", qos)
		device.streams = append(device.streams, w.h.stream(fmt.Sprintf("device-%d", qos),
			fmt.Sprintf("iot-2/type/%s/id/%s/%s", d.Type, d.ID, event), qos))
	}
	device.topic = func(s *stream) string {
		return "iot-2/" + s.topic[strings.Index(s.topic, "evt/"):]
	}
}

// look finds out which retained messages there are.
func (w *world) look(l *life, n int) {
	v := []mqtt.Version{mqtt.V5, mqtt.V311}[n%2]
	a := w.someone("look")
	c, err := dial(l.ctx, strings.Replace(w.mqtt, "127.0.0.1", "localhost", 1), w.tls, v)
	if err != nil {
		return
	}
	defer c.close()
	c.write(&mqtt.Connect{Version: v, CleanStart: true, ClientID: a.client, Username: mqtt.Some(a.user), Password: mqtt.Credential(a.password)})
	if ack, ok := c.next().(*mqtt.Connack); !ok || ack.Code != mqtt.Success {
		return
	}
	w.h.mu.Lock()
	from := map[string]int{}
	for _, r := range w.h.retained {
		from[r.topic] = r.allowedFrom()
	}
	w.h.mu.Unlock()
	end := fmt.Sprintf("look/%d", n)
	c.write(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: retainedTopics + "#"}, {Filter: end}}})
	// Live messages come after the retained ones.
	c.write(&mqtt.Publish{Topic: []byte(end), Payload: []byte("end")})
	found := map[string]string{}
	for {
		switch p := c.next().(type) {
		case *mqtt.Publish:
			if string(p.Topic) == end {
				w.judge(from, found)
				return
			}
			if p.Retain {
				found[string(p.Topic)] = string(p.Payload)
			}
		case *mqtt.Suback:
		default:
			return // the server was killed
		}
	}
}

// judge compares the retained messages that were found with those that must be
// there.
func (w *world) judge(from map[string]int, found map[string]string) {
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	for _, r := range w.h.retained {
		if err := r.judge(from[r.topic], found[r.topic]); err != nil {
			w.h.faults = append(w.h.faults, err.Error())
		}
	}
	w.looks++
}

// report prints what the run was made of, and fails if it was too little.
func (w *world) report(kills int) {
	w.t.Helper()
	var sent, acked, arrived int
	for _, s := range w.h.streams {
		sent += len(s.msgs)
		for _, m := range s.msgs {
			if m.acked != 0 {
				acked++
			}
		}
	}
	var stretches int
	for _, r := range w.h.receivers {
		stretches += len(r.stretches)
		for _, a := range r.arrived {
			arrived += len(a)
		}
	}
	var changes int
	for _, r := range w.h.retained {
		changes += len(r.changes)
	}
	conns := 0
	for _, r := range w.roles {
		conns += r.conn
	}
	w.t.Logf("%d kills: %d messages sent, %d acknowledged, %d arrived, %d subscriptions, %d retained changes, %d looks, %d connections",
		kills, sent, acked, arrived, stretches, changes, w.looks, conns)
	load := []int{acked / kills, arrived / kills, stretches}
	if len(w.h.retained) > 0 {
		load = append(load, changes/kills, w.looks*4/kills)
	}
	if !w.t.Failed() && slices.Min(load) == 0 {
		w.t.Error("there was too little load to prove anything")
	}
}
