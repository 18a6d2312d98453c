package conformance

import (
	"fmt"
	"hash/fnv"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/test/server"
)

// A mode is how a test speaks to the server.
type mode struct {
	version   mqtt.Version
	transport transport
	writing   writing
}

type transport string

const (
	overTLS       transport = "tls"
	overWebSocket transport = "websocket"
)

// writing is how packets become writes, and over WebSocket messages.
type writing string

const (
	whole     writing = "whole"     // one packet in one write
	split     writing = "split"     // one byte in one write
	coalesced writing = "coalesced" // all packets until the trial's next read in one write
)

var (
	transports = []transport{overTLS, overWebSocket}
	writings   = []writing{whole, split, coalesced}
)

func (m mode) String() string { return fmt.Sprintf("%v/%v/%v", m.version, m.transport, m.writing) }

// rotate returns the mode in which a test with this name runs if it runs in one.
func rotate(name string, v mqtt.Version) mode {
	h := fnv.New32a()
	fmt.Fprint(h, name, v)
	n := int(h.Sum32() >> 3)
	return mode{v, transports[n%len(transports)], writings[n/len(transports)%len(writings)]}
}

// both runs a test in 3.1.1 and in 5.0.
func both(t *testing.T, run func(*trial)) {
	t.Parallel()
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		try(t, rotate(t.Name(), v), run)
	}
}

// only runs a test in one version.
func only(t *testing.T, v mqtt.Version, run func(*trial)) {
	t.Parallel()
	try(t, rotate(t.Name(), v), run)
}

// everywhere runs a test in every combination, of these versions if any are given.
func everywhere(t *testing.T, run func(*trial), versions ...mqtt.Version) {
	t.Parallel()
	if len(versions) == 0 {
		versions = []mqtt.Version{mqtt.V311, mqtt.V5}
	}
	for _, v := range versions {
		for _, over := range transports {
			for _, w := range writings {
				try(t, mode{v, over, w}, run)
			}
		}
	}
}

func try(t *testing.T, m mode, run func(*trial)) {
	t.Run(m.String(), func(t *testing.T) {
		t.Parallel()
		tr := &trial{T: t, mode: m, site: theSite(), prefix: fmt.Sprintf("t%dx", trials.Add(1))}
		t.Cleanup(tr.explain)
		run(tr)
	})
}

// explain shows what the server has logged about the clients of a trial that failed.
func (t *trial) explain() {
	if !t.Failed() {
		return
	}
	for line := range strings.Lines(t.site.Log()) {
		if strings.Contains(line, "="+t.prefix) {
			t.Log(strings.TrimSpace(line))
		}
	}
}

var trials atomic.Int64

// A trial is one run of a test in one mode.
type trial struct {
	*testing.T
	mode
	site    *site
	prefix  string
	clients []*client
	fresh   int
}

// is5 reports whether the trial speaks MQTT 5.
func (t *trial) is5() bool { return t.version >= mqtt.V5 }

// id returns a client identifier of this trial.
func (t *trial) id(name string) string { return t.prefix + name }

// freshID returns a client identifier that was not returned before.
func (t *trial) freshID() string {
	t.fresh++
	return fmt.Sprintf("%sc%d", t.prefix, t.fresh)
}

// topic returns a topic name or filter of this trial.
func (t *trial) topic(name string) string { return t.prefix + "/" + name }

// A user is an MQTT user that may do everything in its organisation.
type user struct{ Username, Password string }

// A site is the server that all tests share, with a plain organisation and its users.
type site struct {
	*server.Server
	api      *server.API
	org      string
	ann, bob user
}

var theSite = sync.OnceValue(func() *site {
	s := &site{Server: server.Shared()}
	s.api = s.SignIn()
	s.org = s.newOrg("plain")
	s.ann, s.bob = s.newUser(s.org, "ann"), s.newUser(s.org, "bob")
	return s
})

func (s *site) newOrg(profile string) string {
	var made struct{ ID string }
	s.api.Call(http.MethodPost, "/orgs", map[string]string{"name": "Tests", "profile": profile}, &made)
	return made.ID
}

func (s *site) newUser(org, name string) (u user) {
	s.api.Call(http.MethodPost, "/orgs/"+org+"/users", map[string]string{"name": name}, &u)
	return u
}

// elsewhere makes clients those of an organisation that the trial has for itself:
// there it may subscribe to everything.
func (t *trial) elsewhere() func(*mqtt.Connect) {
	t.Helper()
	u := t.site.newUser(t.site.newOrg("plain"), "alone")
	return func(p *mqtt.Connect) { p.Username, p.Password = mqtt.Some(u.Username), mqtt.Credential(u.Password) }
}

// device makes a device in an iot-2 organisation, which may retain nothing, and
// returns its CONNECT.
func (t *trial) device() *mqtt.Connect {
	t.Helper()
	org := t.site.newOrg("iot-2")
	t.site.api.Call(http.MethodPost, "/orgs/"+org+"/types", map[string]string{"id": "sensor"}, nil)
	var made struct{ Token string }
	t.site.api.Call(http.MethodPost, "/orgs/"+org+"/devices", map[string]string{"type": "sensor", "id": "one"}, &made)
	p := t.hello()
	p.ClientID = strings.Join([]string{"d", org, "sensor", "one"}, ":")
	p.Username, p.Password = mqtt.Some("use-token-auth"), mqtt.Credential(made.Token)
	return p
}

// hello returns the CONNECT of a client with a fresh identifier and a clean session.
func (t *trial) hello() *mqtt.Connect {
	return &mqtt.Connect{
		Version: t.version, CleanStart: true, KeepAlive: 600, ClientID: t.freshID(),
		Username: mqtt.Some(t.site.ann.Username), Password: mqtt.Credential(t.site.ann.Password),
	}
}

// persistent returns the CONNECT of a client whose session outlives its connections.
func (t *trial) persistent(id string) *mqtt.Connect {
	p := t.hello()
	p.ClientID, p.CleanStart = t.id(id), false
	if t.is5() {
		p.Properties.SessionExpiry = mqtt.Some[uint32](600)
	}
	return p
}

// connect connects a client with a clean session, changed by the given functions.
func (t *trial) connect(change ...func(*mqtt.Connect)) *client {
	t.Helper()
	p := t.hello()
	for _, f := range change {
		f(p)
	}
	return t.connectAs(p)
}

// connectAs connects a client that must be let in.
func (t *trial) connectAs(p *mqtt.Connect) *client {
	t.Helper()
	c := t.dial()
	c.send(p)
	c.ack = expect[*mqtt.Connack](c)
	if c.ack.Code != mqtt.Success {
		t.Fatalf("%s is refused: %#x %v", p.ClientID, byte(c.ack.Code), c.ack.Properties.ReasonString)
	}
	return c
}
