package auth

import (
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/topic"
)

// An Action is something a principal may do with a topic.
type Action byte

// The actions. Receive is checked at delivery, for every single message, so
// that a subscription wider than the rights behind it shows nothing.
const (
	Publish Action = iota
	Subscribe
	Receive
)

func (a Action) String() string { return [...]string{"publish", "subscribe", "receive"}[a] }

// A Rule allows or denies an action on the topics that its filter matches.
type Rule struct {
	Action Action
	Filter topic.Filter
	Deny   bool
}

// A Rewrite maps the topics a client uses to those of its organisation: a topic
// that begins with Client stands for the one that begins with Org instead. Both
// end in "/". A device's "iot-2/" stands for "iot-2/type/T/id/D/".
type Rewrite struct{ Client, Org string }

// A Ref identifies a grant without its rights, so that they can be asked for
// again: after a change, or for a will that outlived its connection. It is
// comparable, and safe to store.
type Ref struct {
	Principal  Principal
	Client     string    // the client part of the session key
	Credential string    // which credential was presented, for example "token:3" or "cert:1f"; never a secret
	Expires    time.Time // when the credential ends; zero: never
}

// Limits bound what one client may use. Zero means the broker's own default.
type Limits struct {
	Payload       int // bytes of one application message
	Subscriptions int // per session
	Inflight      int // unacknowledged QoS 1 and 2 messages towards the client
	Queue         int // messages kept for a persistent session
}

// A Spec is what a Grant is made of.
type Spec struct {
	Ref
	Rules    []Rule
	Rewrites []Rewrite
	Retain   bool   // the client may set retained messages
	Shared   string // every subscription is shared in this group, and connections do not take one another over
	Limits   Limits
}

// A Grant is what one authenticated client may do. It is immutable.
type Grant struct {
	spec    Spec
	rules   [Receive + 1][]Rule
	receive bool // some deliveries are refused: Receive has to be asked
}

// NewGrant returns a Grant for s, which it takes over. Without a rule nothing is allowed.
func NewGrant(s Spec) *Grant {
	g := &Grant{spec: s}
	for _, r := range s.Rules {
		g.rules[r.Action] = append(g.rules[r.Action], r)
	}
	return g
}

// Principal returns whose grant it is.
func (g *Grant) Principal() Principal { return g.spec.Principal }

// Ref returns the grant's identification.
func (g *Grant) Ref() Ref { return g.spec.Ref }

// Retain reports whether the client may set retained messages.
func (g *Grant) Retain() bool { return g.spec.Retain }

// Shared returns the group in which every subscription of the client is shared,
// or "".
func (g *Grant) Shared() string { return g.spec.Shared }

// Limits returns the client's limits.
func (g *Grant) Limits() Limits { return g.spec.Limits }

// Resolve returns the organisation's name for the topic name a client uses.
func (g *Grant) Resolve(n topic.Name) (topic.Name, error) {
	s := n.String()
	for _, w := range g.spec.Rewrites {
		if rest, ok := strings.CutPrefix(s, w.Client); ok {
			return topic.ParseName(w.Org + rest)
		}
	}
	return n, nil
}

// ResolveFilter returns the organisation's filter for the one a client uses.
// A filter whose wildcard stands before the rewritten part is not rewritten,
// and so is not allowed by the rules for it.
func (g *Grant) ResolveFilter(f topic.Filter) (topic.Filter, error) {
	s := f.String()
	for _, w := range g.spec.Rewrites {
		if rest, ok := strings.CutPrefix(s, w.Client); ok {
			return topic.ParseFilter(w.Org + rest)
		}
	}
	return f, nil
}

// Present returns the topic under which the client sees the organisation's topic n.
func (g *Grant) Present(n topic.Name) string {
	s := n.String()
	for _, w := range g.spec.Rewrites {
		if rest, ok := strings.CutPrefix(s, w.Org); ok {
			return w.Client + rest
		}
	}
	return s
}

// Allow reports whether the principal may publish to, or receive from, the
// organisation's topic n. The last rule that matches decides; no rule means no.
func (g *Grant) Allow(a Action, n topic.Name) error {
	rules := g.rules[a]
	for i := len(rules) - 1; i >= 0; i-- {
		if rules[i].Filter.Match(n) {
			if rules[i].Deny {
				break
			}
			return nil
		}
	}
	return errs.E(errs.Denied, "not allowed to %s on topic %q", a, g.Present(n))
}

// AllowFilter reports whether the principal may subscribe to the organisation's
// filter f: the last Subscribe rule that covers all of f decides. What a Deny
// rule takes out of f again is withheld at delivery.
func (g *Grant) AllowFilter(f topic.Filter) error {
	rules := g.rules[Subscribe]
	for i := len(rules) - 1; i >= 0; i-- {
		if rules[i].Filter.Covers(f) {
			if rules[i].Deny {
				break
			}
			return nil
		}
	}
	return errs.E(errs.Denied, "not allowed to subscribe to %q", f)
}
