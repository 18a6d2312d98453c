package auth

import (
	"net/netip"
	"strings"
	"time"
	"unique"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/quota"
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
// end in "/", Org begins with Client, and neither is the beginning of another
// Rewrite's, so that two topics of a client never stand for the same one.
// A device's "iot-2/" stands for "iot-2/type/T/id/D/".
type Rewrite struct{ Client, Org string }

// A Ref identifies a grant without its rights, so that they can be asked for
// again: after a change, or for a will that outlived its connection. It is
// comparable, and safe to store.
type Ref struct {
	Principal  Principal
	Client     string     // the client part of the session key
	UID        string     // tells the principal from a later one of the same name, which must not find its sessions; may be empty
	Credential string     // which credential was presented, for example "token:3" or "cert:1f"; never a secret
	Expires    time.Time  // when the credential ends; zero: never
	Address    netip.Addr // where it connected from; the zero Addr: not known
}

// A Spec is what a Grant is made of.
type Spec struct {
	Ref
	Rules    []Rule
	Rewrites []Rewrite
	// Guarded are the topics on which a message is looked at too before it is
	// accepted: what it may say does not follow from its topic alone.
	Guarded []topic.Filter
	// Registrable say what the client may do once what stands in the topic has been
	// registered, which it asks for by doing it.
	Registrable []Rule
	Retain      bool   // the client may set retained messages
	Shared      string // every subscription is shared in this group
	Separate    bool   // every connection has a session of its own that ends with it, and takes no other over
	// What is set for the organisation lies over the installation's limits, and
	// what is set for the client's device type lies under both.
	OrgLimits  quota.Limits
	TypeLimits quota.Limits
}

// A Grant is what one authenticated client may do. It is immutable.
type Grant struct {
	ref      Ref
	rewrites []Rewrite
	guarded  []topic.Filter
	register []Rule
	retain   bool
	shared   string
	separate bool
	rules    [Receive + 1]ruleSet
	// One copy for all who have the same.
	orgLimits, typeLimits unique.Handle[quota.Limits]
}

// NewGrant returns a Grant for s, which it takes over. Without a rule nothing is allowed.
func NewGrant(s Spec) *Grant {
	var lists [Receive + 1][]Rule
	for _, r := range s.Rules {
		lists[r.Action] = append(lists[r.Action], r)
	}
	g := &Grant{
		ref: s.Ref, rewrites: s.Rewrites, guarded: s.Guarded, register: s.Registrable, retain: s.Retain, shared: s.Shared, separate: s.Separate,
		orgLimits: unique.Make(s.OrgLimits), typeLimits: unique.Make(s.TypeLimits),
	}
	for a, list := range lists {
		g.rules[a] = newRuleSet(list)
	}
	return g
}

// Principal returns whose grant it is.
func (g *Grant) Principal() Principal { return g.ref.Principal }

// Ref returns the grant's identification.
func (g *Grant) Ref() Ref { return g.ref }

// Retain reports whether the client may set retained messages.
func (g *Grant) Retain() bool { return g.retain }

// Guarded reports whether what the client publishes on the organisation's topic n
// has to be looked at, although Allow allows it.
func (g *Grant) Guarded(n topic.Name) bool {
	for _, f := range g.guarded {
		if f.Match(n) {
			return true
		}
	}
	return false
}

// Registrar reports whether the client may register anything.
func (g *Grant) Registrar() bool { return len(g.register) > 0 }

// Registers reports whether what stands in the organisation's topic n may be
// registered when the client publishes on it.
func (g *Grant) Registers(n topic.Name) bool {
	for _, r := range g.register {
		if r.Action == Publish && r.Filter.Match(n) {
			return true
		}
	}
	return false
}

// RegistersFilter is Registers for when the client subscribes, unless it receives
// what f delivers already.
func (g *Grant) RegistersFilter(f topic.Filter) bool {
	for _, r := range g.register {
		if r.Action == Subscribe && r.Filter.Covers(f) {
			return !g.ReceivesAll(f)
		}
	}
	return false
}

// Shared returns the group in which every subscription of the client is shared,
// or "".
func (g *Grant) Shared() string { return g.shared }

// Separate reports whether every connection of the client has a session of its
// own, which ends with it, although they use the same client identifier.
func (g *Grant) Separate() bool { return g.separate }

// Limits returns what holds for the client where base holds for everybody.
func (g *Grant) Limits(base quota.Limits) quota.Limits {
	return g.typeLimits.Value().Under(g.orgLimits.Value().Over(base))
}

// OrgLimits returns what holds for the client's organisation where base holds
// for everybody.
func (g *Grant) OrgLimits(base quota.Limits) quota.Limits { return g.orgLimits.Value().Over(base) }

// Resolve returns the organisation's name for the topic name a client uses.
func (g *Grant) Resolve(n topic.Name) (topic.Name, error) {
	s := n.String()
	for _, w := range g.rewrites {
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
	for _, w := range g.rewrites {
		if rest, ok := strings.CutPrefix(s, w.Client); ok {
			return topic.ParseFilter(w.Org + rest)
		}
	}
	return f, nil
}

// Present returns the topic under which the client sees the organisation's topic n.
func (g *Grant) Present(n topic.Name) string { return g.present(n.String()) }

func (g *Grant) present(s string) string {
	for _, w := range g.rewrites {
		if rest, ok := strings.CutPrefix(s, w.Org); ok {
			return w.Client + rest
		}
	}
	return s
}

// Allow reports whether the principal may publish to, or receive from, the
// organisation's topic n. The last rule that matches decides; no rule means no.
func (g *Grant) Allow(a Action, n topic.Name) error {
	if g.rules[a].allows(n) {
		return nil
	}
	return errs.E(errs.Denied, "not allowed to %s on topic %q", a, topic.Clip(g.Present(n)))
}

// Receives is Allow for Receive, without a reason and without an allocation: it
// is asked for every delivery.
func (g *Grant) Receives(n topic.Name) bool { return g.rules[Receive].allows(n) }

// ReceivesAll reports whether Receives holds for every name that f matches, so
// that it need not be asked for what a subscription to f delivers. False means
// that it is not certain. The answer is for this grant and this filter only: a
// session may have subscriptions that an earlier grant allowed.
func (g *Grant) ReceivesAll(f topic.Filter) bool { return g.rules[Receive].allowsAll(f) }

// AllowFilter reports whether the principal may subscribe to the organisation's
// filter f: the last Subscribe rule that covers all of f decides. What a Deny
// rule takes out of f again is withheld at delivery.
func (g *Grant) AllowFilter(f topic.Filter) error {
	if g.rules[Subscribe].allowsFilter(f) {
		return nil
	}
	return errs.E(errs.Denied, "not allowed to subscribe to %q", topic.Clip(g.present(f.String())))
}

// A Decision is what a grant says about one topic, and the rule by which.
type Decision struct {
	Allowed bool
	Rule    Rule // the zero Rule: none matched, and so the answer is no
}

// Decide is Allow with the rule that decided, for who asks why.
func (g *Grant) Decide(a Action, n topic.Name) Decision {
	return g.rules[a].decision(g.rules[a].last(n))
}

// DecideFilter is AllowFilter with the rule that decided.
func (g *Grant) DecideFilter(f topic.Filter) Decision {
	s := &g.rules[Subscribe]
	return s.decision(s.lastCovering(f))
}
