package profile

import (
	"slices"
	"strings"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
)

// The roles of users in a home organisation. The names are stored.
const (
	Actor    = "actor"    // watches and gives orders, has no devices
	Provider = "provider" // has devices, gives no orders
	Bridge   = "bridge"   // has devices of others, and may give orders
)

// HomeOptions are what a home organisation chooses.
type HomeOptions struct {
	Anonymous bool // whoever can reach the server may watch
	Prefix    bool // every topic begins with the organisation's id and "/"
	V0        bool // the topics of version 0 too
}

// reserved are the first levels of a home's topics. Version 0 gives a provider
// what begins with its name, so that nobody may have one of these.
var reserved = [...]string{"current", "desired", "device", "provider", "announce", "discover", "leave"}

// CheckHomeName checks that a user of a home organisation may have the name.
func CheckHomeName(name string) error {
	if slices.Contains(reserved[:], name) {
		return errs.E(errs.Invalid, "a user of a home cannot be called %q: its topics begin so", name)
	}
	return nil
}

// CheckRole checks the role of a user of a home organisation.
func CheckRole(role string) error {
	if role != Actor && role != Provider && role != Bridge {
		return errs.E(errs.Invalid, "role must be %q, %q or %q, is %q", Actor, Provider, Bridge, role)
	}
	return nil
}

// home gives spec the rights of id in a home organisation. What is published on
// guarded topics is looked at too: that a device is the provider's own, no topic
// tells. See HomeTopic.
func home(spec *auth.Spec, id Identity) error {
	p := id.Ref.Principal
	b := builder{}
	if id.Home.Prefix {
		b.prefix = string(p.Org) + "/"
	}
	var err error
	switch p.Kind {
	case auth.User:
		err = b.resident(id.Role, p.ID, id.Home.V0)
		spec.Retain = true
		b.guard("device/+", "provider/+")
		if id.Home.V0 {
			b.guard("announce/#", "leave")
		}
	case auth.Anonymous:
		if !id.Home.Anonymous || id.Home.Prefix {
			return errs.E(errs.Denied, "this organisation lets in nobody without a name")
		}
		spec.Separate = true
		b.watch("current/#", "device/#", "provider/#")
	case auth.Application, auth.Person, auth.System:
		b.prefix = ""
		b.rules = id.everything()
		spec.Retain = true
		for _, in := range []string{"", string(p.Org) + "/"} {
			b.guard(in+"device/+", in+"provider/+")
		}
	default:
		err = errs.E(errs.Denied, "a %v cannot connect to a home organisation", p.Kind)
	}
	if err == nil {
		err = b.err
	}
	spec.Rules, spec.Guarded = b.rules, b.guarded
	return err
}

// resident lets a user do what its role is for.
func (b *builder) resident(role, name string, v0 bool) error {
	if err := CheckRole(role); err != nil {
		return errs.E(errs.Denied, "%s", errs.Message(err))
	}
	if !Harmless(name) || CheckHomeName(name) != nil {
		return errs.E(errs.Denied, "a user of a home cannot have this name")
	}
	if role != Provider {
		b.actor(v0)
	}
	if role != Actor {
		b.provider(name, v0)
	}
	if role == Provider {
		own := []string{"desired/" + name + "/#"}
		if v0 {
			own = append(own, name+"/#", "discover")
		}
		b.watch(own...)
	}
	return nil
}

// actor lets an actor watch the home and give orders.
func (b *builder) actor(v0 bool) {
	b.allow("#", auth.Subscribe)
	for _, f := range []string{"current/#", "desired/#", "device/#", "provider/#"} {
		b.allow(f, auth.Receive)
	}
	if v0 {
		// Orders are where the devices are. A filter cannot say "at the end", and a
		// device's topic has some levels.
		b.allow("#", auth.Receive)
		for levels := 2; levels <= 6; levels++ {
			b.allow(strings.Repeat("+/", levels)+"set", auth.Publish)
		}
		for _, f := range []string{"current/#", "device/#", "provider/#", "announce/#", "leave/#"} {
			b.deny(f, auth.Publish)
		}
		b.allow("discover", auth.Publish)
	}
	b.allow("desired/#", auth.Publish)
}

// provider lets a provider say what its devices are and do.
func (b *builder) provider(name string, v0 bool) {
	b.allow("current/"+name+"/#", auth.Publish)
	b.allow("device/+", auth.Publish)
	b.allow("provider/+", auth.Publish)
	if v0 {
		b.allow(name+"/#", auth.Publish)
		b.allow("announce/"+name+"/#", auth.Publish)
		b.allow("leave", auth.Publish)
	}
}

// watch lets a client receive what filters match. It may subscribe to more than
// that with a wildcard among the first two levels, of which it sees what it may
// receive, but not to what is another's.
func (b *builder) watch(filters ...string) {
	b.allow("#", auth.Subscribe)
	for _, f := range []string{"+/+/#", "current/#", "device/#", "provider/#", "announce/#"} {
		b.deny(f, auth.Subscribe)
	}
	for _, f := range filters {
		b.allow(f, auth.Subscribe, auth.Receive)
	}
}
