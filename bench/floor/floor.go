// Package floor is a relay over TLS with almost nothing of MQTT: what any
// broker written in Go must at least do for the load generator's messages.
//
// It answers CONNECT, SUBSCRIBE, PINGREQ and PUBLISH with QoS 1, and forwards
// each PUBLISH to the connections whose filter is equal or ends in /# and
// begins alike. It checks nobody, keeps nothing, limits nothing, resends
// nothing and ignores what receivers acknowledge. It is a measuring stick and
// must never serve anyone.
package floor

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// maxPacket bounds what the relay reads; the load generator's packets are small.
const maxPacket = 1 << 20

// A Relay forwards messages between its connections.
type Relay struct {
	generation atomic.Uint64 // of the subscriptions; changes after they did
	mu         sync.RWMutex  // guards the fields below
	exact      map[string][]*conn
	prefix     []prefixed
}

type prefixed struct {
	prefix string // up to and with the slash before #
	to     *conn
}

// Serve relays between the connections that l accepts, over TLS, until l is
// closed; it returns when all of them have ended.
func Serve(l net.Listener, config *tls.Config) error {
	r := &Relay{exact: map[string][]*conn{}}
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		nc, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		wg.Go(func() {
			if c := r.welcome(nc, config); c != nil {
				wg.Go(c.serve) // without the deep stack that a handshake leaves behind
			}
		})
	}
}

// welcome does the handshake. It returns nil if that fails.
func (r *Relay) welcome(nc net.Conn, config *tls.Config) *conn {
	raw := &records{Conn: nc}
	t := tls.Server(raw, config)
	if t.Handshake() != nil {
		nc.Close()
		return nil
	}
	return &conn{nc: t, raw: raw, relay: r}
}

// serve relays what comes, to the end of the connection.
func (c *conn) serve() {
	c.read()
	c.relay.remove(c)
	c.nc.Close()
}

// add subscribes c to a filter.
func (r *Relay) add(filter string, qos byte, c *conn) {
	r.mu.Lock()
	c.qos = qos
	if p, ok := strings.CutSuffix(filter, "#"); ok {
		r.prefix = append(r.prefix, prefixed{p, c})
	} else {
		r.exact[filter] = append(r.exact[filter], c)
	}
	r.mu.Unlock()
	r.generation.Add(1)
}

// remove takes all subscriptions of c away.
func (r *Relay) remove(c *conn) {
	if c.filters == nil {
		return
	}
	r.mu.Lock()
	for _, f := range c.filters {
		if list := without(r.exact[f], c); len(list) > 0 {
			r.exact[f] = list
		} else {
			delete(r.exact, f)
		}
	}
	var rest []prefixed
	for _, p := range r.prefix {
		if p.to != c {
			rest = append(rest, p)
		}
	}
	r.prefix = rest
	r.mu.Unlock()
	r.generation.Add(1)
}

// without returns a new slice: the old one may be in use as a match result.
func without(list []*conn, c *conn) []*conn {
	var rest []*conn
	for _, o := range list {
		if o != c {
			rest = append(rest, o)
		}
	}
	return rest
}

// match returns who gets a topic's messages.
func (r *Relay) match(topic string) []*conn {
	r.mu.RLock()
	defer r.mu.RUnlock()
	to := r.exact[topic]
	to = to[:len(to):len(to)]
	for _, p := range r.prefix {
		if strings.HasPrefix(topic, p.prefix) {
			to = append(to, p.to)
		}
	}
	return to
}

// packetQoS returns the quality of service in a PUBLISH's flags.
func packetQoS(flags byte) byte { return flags >> 1 & 3 }

// version is the only one the relay speaks.
const version = mqtt.V311
