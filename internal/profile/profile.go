// Package profile says which topics the clients of an organisation use: it
// turns an authenticated identity into a Grant.
//
// It promises that a Grant follows from the identity alone. What the client says
// about itself adds nothing to it, and no topic or filter it can choose makes it
// reach what belongs to another device. It is pure, and does not decide who a
// client is.
package profile

import (
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/topic"
)

// The profiles an organisation may have. The names are stored.
const (
	IoT2  = "iot-2" // devices, gateways and applications with the topics of the Watson IoT Platform
	Plain = "plain" // users with rules of their own and topics of their choice
	Home  = "home"  // users with a role, and the topics of Hemtjänst
)

// An Identity is an authenticated client, and what its rights follow from.
type Identity struct {
	Ref      auth.Ref
	Attached []string    // of a gateway in an iot-2 organisation: "type:id" of every device attached to it
	Register bool        // of a gateway: it may register devices
	Patterns []auth.Rule // of every user in a plain organisation, with templates
	Rules    []auth.Rule // of this user, with templates
	Clients  []string    // of this user: the client identifiers that %c may stand for
	Role     string      // of a user in a home organisation
	Home     HomeOptions // of a home organisation

	Parts []Part // the rights of an application or a person; any of them allows

	OrgLimits, TypeLimits quota.Limits // what is set for the organisation and the device type
}

// Grant returns what the client may do in its organisation, which has the given
// profile. An identity that has no place in it is refused.
func Grant(profile string, id Identity) (*auth.Grant, error) {
	spec := auth.Spec{Ref: id.Ref, OrgLimits: id.OrgLimits, TypeLimits: id.TypeLimits}
	var err error
	switch profile {
	case IoT2:
		err = iot2(&spec, id)
	case Plain:
		err = plain(&spec, id)
	case Home:
		err = home(&spec, id)
	default:
		err = errs.E(errs.Denied, "the organisation has an unknown profile")
	}
	if err != nil {
		return nil, err
	}
	return auth.NewGrant(spec), nil
}

// A Part is what somebody may do from one side.
type Part struct {
	Rights  permission.Rights
	Devices []string // "type:id" of every device that they are limited to
	From    string   // where they come from, for who asks why
}

// parts returns what id may do that acts for its organisation. KeepMQ's own parts
// may do everything.
func (id Identity) parts() []Part {
	if id.Ref.Principal.Kind == auth.System {
		return []Part{{Rights: permission.Rights{Set: permission.All}}}
	}
	return id.Parts
}

// everything is Everything for who acts for a plain or home organisation, as far
// as its rights go. There are no devices there to which they could be limited.
func (id Identity) everything() []auth.Rule {
	var b builder
	var set permission.Set
	for _, x := range id.parts() {
		if !x.Rights.Limited {
			set |= x.Rights.Set
		}
	}
	if set.Covers(permission.Of(permission.EventPublish, permission.CommandPublish)) {
		b.allow("#", auth.Publish)
	}
	if set.Covers(permission.Of(permission.EventReceive, permission.CommandReceive)) {
		b.allow("#", auth.Subscribe, auth.Receive)
	}
	return b.rules
}

// A builder collects rules.
type builder struct {
	prefix  string // of every filter
	rules   []auth.Rule
	guarded []topic.Filter
	err     error // the first one
}

func (b *builder) parse(filter string) (topic.Filter, bool) {
	f, err := topic.ParseFilter(b.prefix + filter)
	if err != nil && b.err == nil {
		b.err = err
	}
	return f, err == nil
}

// allow lets the client do the actions on the topics that filter matches.
func (b *builder) allow(filter string, actions ...auth.Action) { b.add(filter, false, actions) }

// deny takes out again what an earlier rule allows.
func (b *builder) deny(filter string, actions ...auth.Action) { b.add(filter, true, actions) }

func (b *builder) add(filter string, deny bool, actions []auth.Action) {
	f, ok := b.parse(filter)
	if !ok {
		return
	}
	for _, a := range actions {
		b.rules = append(b.rules, auth.Rule{Action: a, Filter: f, Deny: deny})
	}
}

// guard has the messages on topics that filters match looked at.
func (b *builder) guard(filters ...string) {
	for _, s := range filters {
		if f, ok := b.parse(s); ok {
			b.guarded = append(b.guarded, f)
		}
	}
}
