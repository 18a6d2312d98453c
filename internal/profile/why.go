package profile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/topic"
)

// Why says where a rule of id's grant comes from, for a person who asks why
// something is allowed or refused.
func Why(profile string, id Identity, r auth.Rule) string {
	p := id.Ref.Principal
	switch {
	case p.Kind == auth.User && profile == Plain:
		return whyPlain(id, r)
	case p.Kind == auth.User:
		return fmt.Sprintf("the role %q of the user", id.Role)
	case p.Kind == auth.Anonymous:
		return "what clients without a name may do in this organisation"
	case p.Kind == auth.Device:
		return "what every device may do, with its own topics only"
	case p.Kind == auth.Gateway:
		return whyGateway(id, r.Filter)
	}
	return "the rights " + whyRights(r) + " of " + whose(id, r)
}

// whose says from which side somebody has the rights behind a rule.
func whose(id Identity, r auth.Rule) string {
	typ, dev, one := DeviceIn(r.Filter.String())
	for _, x := range id.Parts {
		var b builder
		if r.Filter.String() == "#" {
			b.rules = Identity{Ref: id.Ref, Parts: []Part{x}}.everything()
		} else if x.Rights.Limited && one && !slices.Contains(x.Devices, typ+":"+dev) || onePart(&b, x) != nil {
			continue
		}
		if x.From != "" && slices.ContainsFunc(b.rules, func(o auth.Rule) bool { return o.Action == r.Action && o.Filter.String() == r.Filter.String() }) {
			return x.From
		}
	}
	return "its role"
}

// whyPlain finds the rule that a rule of a plain user's grant was made of.
func whyPlain(id Identity, r auth.Rule) string {
	client := id.Ref.Client
	from := func(rules []auth.Rule) int {
		for i := len(rules) - 1; i >= 0; i-- {
			f, ok := fill(rules[i].Filter, id.Ref.Principal.ID, client)
			if ok && f.String() == r.Filter.String() && rules[i].Action == r.Action && rules[i].Deny == r.Deny {
				return i
			}
		}
		return -1
	}
	if i := from(id.Rules); i >= 0 {
		return fmt.Sprintf("rule %d of the user: %s", i+1, written(id.Rules[i]))
	}
	if i := from(id.Patterns); i >= 0 {
		return fmt.Sprintf("rule %d for every user of the organisation: %s", i+1, written(id.Patterns[i]))
	}
	return "a rule"
}

// written writes a rule as people write it.
func written(r auth.Rule) string {
	verdict := "allow "
	if r.Deny {
		verdict = "deny "
	}
	return verdict + r.Action.String() + " " + r.Filter.String()
}

func whyGateway(id Identity, f topic.Filter) string {
	typ, dev, ok := DeviceIn(f.String())
	switch {
	case !ok:
		return "what every gateway may do"
	case typ+":"+dev == id.Ref.Principal.ID:
		return "what a gateway may do for itself"
	}
	return fmt.Sprintf("what a gateway may do for the device %s:%s attached to it", typ, dev)
}

// whyRights names the permissions behind a rule of an application or a person.
func whyRights(r auth.Rule) string {
	verb := "receive"
	if r.Action == auth.Publish {
		verb = "publish"
	}
	s := r.Filter.String()
	switch {
	case strings.Contains(s, "/cmd/"):
		return "command:" + verb
	case strings.HasSuffix(s, "/mon"):
		return "monitor:receive"
	case s == "#":
		return "event:" + verb + " and command:" + verb
	}
	return "event:" + verb
}
