package profile

import (
	"slices"
	"strings"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/topic"
)

// Everything returns the rules of a user for whom no others were made: all
// topics but those that begin with "$".
func Everything() []auth.Rule {
	var b builder
	b.allow("#", auth.Publish, auth.Subscribe, auth.Receive)
	return b.rules
}

// plain gives spec the rights of id in a plain organisation: those of the rules
// of a user, everything to who acts for the organisation itself.
func plain(spec *auth.Spec, id Identity) error {
	spec.Retain = true
	switch p := id.Ref.Principal; p.Kind {
	case auth.User:
		var err error
		spec.Rules, err = expand(id, p.ID)
		return err
	case auth.Application, auth.Person, auth.System:
		spec.Rules = id.everything()
		return nil
	default:
		return errs.E(errs.Denied, "a %v cannot connect to a plain organisation", p.Kind)
	}
}

// expand puts the user's name and the client identifier in place of %u and %c.
// The rules of the organisation come first, so that the user's own decide.
//
// Both are chosen by people who may wish to reach more than is meant for them.
// One that would become more than a part of a level cannot be put in, nor can a
// client identifier that does not belong to the user: then a rule that allows is
// left out. Leaving out one that denies would allow more, so then nothing is
// granted.
func expand(id Identity, user string) ([]auth.Rule, error) {
	client := id.Ref.Client
	if !slices.Contains(id.Clients, client) {
		client = ""
	}
	rules := slices.Concat(id.Patterns, id.Rules)
	all := make([]auth.Rule, 0, len(rules))
	for _, r := range rules {
		f, ok := fill(r.Filter, user, client)
		switch {
		case ok:
			all = append(all, auth.Rule{Action: r.Action, Filter: f, Deny: r.Deny})
		case r.Deny:
			return nil, errs.E(errs.Denied, "the rules of this user cannot be applied to this user name and client id: use a client id of the user, without + # / %% and $")
		}
	}
	return all, nil
}

// fill returns f with its templates filled in, and whether that is safe.
func fill(f topic.Filter, user, client string) (topic.Filter, bool) {
	s := f.String()
	if !strings.Contains(s, "%u") && !strings.Contains(s, "%c") {
		return f, true
	}
	if strings.Contains(s, "%u") && !Harmless(user) || strings.Contains(s, "%c") && !Harmless(client) {
		return topic.Filter{}, false
	}
	// In one pass, so that nothing that was put in is read as a template.
	f, err := topic.ParseFilter(strings.NewReplacer("%u", user, "%c", client).Replace(s))
	return f, err == nil
}

// Harmless reports whether s can be a part of a level and no more. A "$" could
// become the first character of a topic, of which wildcards keep clear.
func Harmless(s string) bool { return s != "" && !strings.ContainsAny(s, "+#/%$\x00") }
