package alert

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
)

// A FactKind is what a Fact says.
type FactKind uint8

// The kinds of facts.
const (
	Connected         FactKind = iota // a client has connected
	TakenOver                         // a client has ended another connection of its own session
	ConnectRefused                    // a credential was refused
	PermissionRefused                 // a client or a person may not do something
	RuleRefused                       // a lock, a network rule or a policy said no
)

// A Fact is something that has happened.
type Fact struct {
	Kind    FactKind
	Org     auth.OrgID
	Who     string // as far as it is known, or said
	Client  string // the client identifier
	Address string
}

// A threshold is how many of the same facts within a time are unusual.
type threshold struct {
	rule    string
	count   int
	within  time.Duration
	subject func(Fact) string
	summary string // with the count and the time
}

func byWho(f Fact) string     { return f.Who }
func byClient(f Fact) string  { return f.Who + " as " + f.Client }
func byAddress(f Fact) string { return "address:" + f.Address }

var thresholds = map[FactKind]threshold{
	Connected:         {"connect.frequency", 60, time.Minute, byWho, "It connected %d times within %v."},
	TakenOver:         {"client.takeover", 6, 2 * time.Minute, byClient, "Two clients with the same name end each other's connection: %d times within %v."},
	ConnectRefused:    {"connect.refused", 20, 5 * time.Minute, byAddress, "Its credentials were refused %d times within %v."},
	PermissionRefused: {"permission.refused", 20, time.Minute, byWho, "It was refused what it may not do %d times within %v."},
	RuleRefused:       {"policy.violation", 1, time.Minute, byWho, "A lock, a network rule or a connection policy refused it (%d within %v)."},
}

// maxSubjects bounds what a Detector remembers. When it is full, what comes new
// pushes out anything.
const maxSubjects = 50_000

type subjectKey struct {
	org     auth.OrgID
	kind    FactKind
	subject string
}

// A burst is the same facts since first.
type burst struct {
	first time.Time
	count int
}

// A Detector finds what is unusual in a stream of facts. It does no I/O, has no
// clock, and is used by one goroutine at a time.
type Detector struct {
	bursts map[subjectKey]burst
	habits map[auth.Principal]habit
}

// NewDetector returns a Detector that has seen nothing.
func NewDetector() *Detector {
	return &Detector{bursts: map[subjectKey]burst{}, habits: map[auth.Principal]habit{}}
}

// Observe takes in what happened at now, and returns an alert if that is unusual.
func (d *Detector) Observe(f Fact, now time.Time) (Alert, bool) {
	t := thresholds[f.Kind]
	k := subjectKey{f.Org, f.Kind, clip(t.subject(f))}
	b, known := d.bursts[k]
	if !known {
		room(d.bursts)
	}
	if now.Sub(b.first) > t.within {
		b = burst{first: now}
	}
	b.count++
	d.bursts[k] = b
	if b.count != t.count {
		return Alert{}, false // not yet, or said already
	}
	return Alert{Org: f.Org, Rule: t.rule, Subject: k.subject, Summary: fmt.Sprintf(t.summary, b.count, t.within)}, true
}

// room makes room for one more entry.
func room[K comparable, V any](m map[K]V) {
	for k := range m {
		if len(m) < maxSubjects {
			return
		}
		delete(m, k)
	}
}

// A habit is how many messages a minute a device sends: an exponentially weighted
// mean, and mean deviation from it.
type habit struct {
	mean, deviation float32
	samples         uint32
}

const (
	weight     = 0.05 // of the latest minute: some twenty minutes count
	learning   = 30   // minutes until a habit is one
	leastSurge = 120  // messages a minute that are never unusual
	farAway    = 8    // deviations
)

// Traffic takes in how many messages who has sent in the last minute, and returns
// an alert if that is far above its own habit.
func (d *Detector) Traffic(who auth.Principal, messages int64) (Alert, bool) {
	h, known := d.habits[who]
	if !known {
		room(d.habits)
	}
	x, mean, deviation := float64(messages), float64(h.mean), float64(h.deviation)
	unusual := h.samples >= learning && x > leastSurge && x > 5*mean && x > mean+farAway*deviation
	if h.samples == 0 {
		mean, deviation = x, x/2
	} else {
		deviation += weight * (math.Abs(x-mean) - deviation)
		mean += weight * (x - mean)
	}
	d.habits[who] = habit{float32(mean), float32(deviation), h.samples + 1}
	if !unusual {
		return Alert{}, false
	}
	return Alert{Org: who.Org, Rule: "traffic.surge", Subject: who.Kind.String() + ":" + who.ID,
		Summary: fmt.Sprintf("It sent %d messages within a minute; its habit is %.0f.", messages, float64(h.mean))}, true
}

// A SignIn is where a person signed in.
type SignIn struct {
	Person    string
	Address   string
	UserAgent string
}

// network returns the network of an address, as far as people keep it: /24 of
// IPv4, /48 of IPv6; what cannot be read is its own.
func network(address string) string {
	a, err := netip.ParseAddr(address)
	if ap, e := netip.ParseAddrPort(address); err != nil && e == nil {
		a, err = ap.Addr(), nil
	}
	if err != nil {
		return address
	}
	a = a.Unmap().WithZone("")
	bits := 48
	if a.Is4() {
		bits = 24
	}
	return netip.PrefixFrom(a, bits).Masked().String()
}

// NewPlace returns the alerts for a sign-in from a network, or with a device,
// that none of those before had. The first of all is no news.
func NewPlace(s SignIn, before []SignIn) []Alert {
	if len(before) == 0 {
		return nil
	}
	newNetwork, newDevice := true, true
	for _, b := range before {
		newNetwork = newNetwork && network(b.Address) != network(s.Address)
		newDevice = newDevice && b.UserAgent != s.UserAgent
	}
	var all []Alert
	if newNetwork {
		all = append(all, Alert{Rule: "signin.network", Subject: "person:" + s.Person, Summary: "They signed in from a network where they are signed in nowhere else: " + network(s.Address) + "."})
	}
	if newDevice {
		all = append(all, Alert{Rule: "signin.device", Subject: "person:" + s.Person, Summary: "They signed in with a program or device that is not signed in anywhere else: " + s.UserAgent})
	}
	return all
}
