package registry

import (
	"context"
	"errors"
	"strings"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/profile"
	"github.com/keepmq/keepmq/internal/refusal"
	"github.com/keepmq/keepmq/internal/store"
	"github.com/keepmq/keepmq/internal/topic"
)

// A Question asks whether somebody may do something with a topic.
type Question struct {
	Org    auth.OrgID
	Who    auth.Principal // Org is not looked at
	Client string         // its client identifier; empty: one that it may have
	Action auth.Action
	Topic  string // as the client names it; to subscribe: a filter
}

// An Explanation answers a Question.
type Explanation struct {
	Allowed bool
	Topic   string // of the organisation, for the one that the client names
	Rule    string // that decided; empty: none does
	Source  string // where the rule comes from
	Reason  string // in words
}

// Explain says whether somebody may publish on, subscribe to or receive a topic,
// and by which rule, as it is now. It changes nothing and lets nobody in.
func (r *Registry) Explain(ctx context.Context, a Actor, q Question) (Explanation, error) {
	ctx, h, err := r.mayAs(ctx, a, q.Org, permission.Explain)
	if err == nil {
		err = unlimited(h)
	}
	if err != nil {
		return Explanation{}, err
	}
	q.Who.Org = q.Org
	acc, err := r.someone(ctx, q.Who)
	if err != nil {
		return Explanation{}, err
	}
	return r.explain(ctx, acc, q)
}

// someone returns the account of a principal, with no proof asked for.
func (r *Registry) someone(ctx context.Context, p auth.Principal) (*account, error) {
	missing := errs.E(errs.NotFound, "%s %q not found", p.Kind, clip(p.ID))
	if p.Kind == auth.Person {
		var acc *account
		err := r.view(forOrg(ctx, p.Org), func(tx *store.Tx) error {
			o, err := readOrg(ctx, tx, p.Org)
			if err != nil {
				return err
			}
			held, err := r.membership(ctx, tx, p.Org, p.ID)
			if err != nil {
				return err
			}
			if !held.holds {
				return missing
			}
			acc = &account{principal: p, profile: o.Profile, disabled: o.Disabled, home: o.Home, parts: held.parts}
			return reachDevices(ctx, tx, p.Org, acc.parts)
		})
		return acc, err
	}
	acc, err := r.account(ctx, p, func(*account) bool { return true })
	if errors.Is(err, errNobody) {
		return nil, missing
	}
	return acc, fault(err)
}

// usualClient returns a client identifier that somebody may connect with.
func (a *account) usualClient() string {
	p := a.principal
	switch {
	case p.Kind == auth.Device:
		return "d:" + string(p.Org) + ":" + p.ID
	case p.Kind == auth.Gateway:
		return "g:" + string(p.Org) + ":" + p.ID
	case p.Kind == auth.User && len(a.clients) > 0:
		return a.clients[0]
	case p.Kind == auth.User:
		return p.ID
	}
	return "a:" + string(p.Org) + ":any"
}

func (r *Registry) explain(ctx context.Context, acc *account, q Question) (Explanation, error) {
	client := q.Client
	if client == "" {
		client = acc.usualClient()
	}
	ref := auth.Ref{Principal: acc.principal, Client: client}
	// From where, and with what, it would connect is not asked.
	locked := acc.lockable(ref)
	locked.anywhere = true
	err := r.unlocked(ctx, locked)
	var g *auth.Grant
	if err == nil {
		g, err = r.rightsOf(ctx, acc, ref)
	}
	if err != nil {
		if code := errs.CodeOf(err); code != errs.Internal && code != errs.Denied {
			return Explanation{}, err
		}
		return Explanation{Reason: "it is not let in: " + why(err)}, nil
	}
	e, d, err := decide(g, q)
	if err != nil {
		return e, err
	}
	id := acc.identity(ref)
	switch e.Allowed = d.Allowed; {
	case d.Rule.Filter.String() == "":
		e.Reason = "no rule matches, and so the answer is no"
	default:
		e.Rule = describe([]Rule{{Action: d.Rule.Action.String(), Filter: d.Rule.Filter.String(), Deny: d.Rule.Deny}})[0]
		e.Source = profile.Why(acc.profile, id, d.Rule)
		e.Reason = map[bool]string{true: "allowed by ", false: "refused by "}[d.Allowed] + e.Source
	}
	if n, err := topic.ParseName(e.Topic); err == nil && q.Action == auth.Publish && d.Allowed && g.Guarded(n) {
		e.Reason += "; what a message says is looked at, too, so that nobody takes another's device"
	}
	return e, nil
}

// decide asks a grant.
func decide(g *auth.Grant, q Question) (e Explanation, d auth.Decision, err error) {
	if q.Action == auth.Subscribe {
		f, err := topic.ParseFilter(q.Topic)
		if err == nil {
			f, err = g.ResolveFilter(f)
		}
		if err != nil {
			return e, d, errs.E(errs.Invalid, "topic: %s", errs.Message(err))
		}
		return Explanation{Topic: f.String()}, g.DecideFilter(f), nil
	}
	n, err := topic.ParseName(q.Topic)
	// What is received may be named as the organisation does.
	if err == nil && (q.Action == auth.Publish || g.Present(n) == n.String()) {
		n, err = g.Resolve(n)
	}
	if err != nil {
		return e, d, errs.E(errs.Invalid, "topic: %s", errs.Message(err))
	}
	return Explanation{Topic: n.String()}, g.Decide(q.Action, n), nil
}

// A Reader is somebody who may receive a topic.
type Reader struct {
	Who    auth.Principal
	Client string // with this client identifier
	Source string // where the rule comes from
}

// readersPerPage is how many are looked at for one page of readers.
const readersPerPage = 1000

// Readers lists who may receive the organisation's topic: first API keys, then
// people, MQTT users, and the device and its gateway if one stands in the topic. A
// page may be short, or empty, and not the last: most of those looked at may not.
func (r *Registry) Readers(ctx context.Context, a Actor, org auth.OrgID, name string, p Page) ([]Reader, string, error) {
	ctx, h, err := r.mayAs(ctx, a, org, permission.Explain)
	if err == nil {
		err = unlimited(h)
	}
	if err != nil {
		return nil, "", err
	}
	if _, err := topic.ParseName(name); err != nil {
		return nil, "", errs.E(errs.Invalid, "topic: %s", errs.Message(err))
	}
	key, err := p.after("readers", 2)
	if err != nil {
		return nil, "", err
	}
	all, err := r.candidates(ctx, org, name, key[0], key[1])
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(all) > readersPerPage {
		all = all[:readersPerPage]
		last := all[len(all)-1]
		next = cursor("readers", string('0'+byte(last.Kind)), last.ID)
	}
	readers := []Reader{}
	for _, who := range all {
		acc, err := r.someone(ctx, who)
		if errs.CodeOf(err) == errs.NotFound && err != nil {
			continue // gone, or not a member at present
		}
		if err != nil {
			return nil, "", err
		}
		found, err := r.reads(ctx, acc, name)
		if err != nil {
			return nil, "", err
		}
		if found != nil {
			readers = append(readers, *found)
		}
	}
	return readers, next, nil
}

// reads returns acc as a reader of the organisation's topic, if it is one with any
// client identifier of its own.
func (r *Registry) reads(ctx context.Context, acc *account, name string) (*Reader, error) {
	clients := []string{acc.usualClient()}
	if acc.principal.Kind == auth.User && len(acc.clients) > 1 {
		clients = acc.clients
	}
	for _, client := range clients {
		e, err := r.explain(ctx, acc, Question{Org: acc.principal.Org, Who: acc.principal, Client: client, Action: auth.Receive, Topic: name})
		if err != nil {
			return nil, err
		}
		if e.Allowed {
			return &Reader{Who: acc.principal, Client: client, Source: e.Source}, nil
		}
	}
	return nil, nil
}

// candidates returns who may receive a topic at all, behind the position (kind, id).
func (r *Registry) candidates(ctx context.Context, org auth.OrgID, name, kind, id string) ([]auth.Principal, error) {
	var all []auth.Principal
	err := r.view(forOrg(ctx, org), func(tx *store.Tx) error {
		all = nil
		if _, err := readOrg(ctx, tx, org); err != nil {
			return err
		}
		for _, of := range []struct {
			kind  auth.Kind
			query string
		}{
			{auth.Application, `SELECT key FROM application WHERE org = $1 AND key > $2 ORDER BY key LIMIT $3`},
			{auth.User, `SELECT name FROM mqtt_user WHERE org = $1 AND name > $2 ORDER BY name LIMIT $3`},
			{auth.Person, `SELECT person FROM member WHERE org = $1 AND person > $2 ORDER BY person LIMIT $3`},
		} {
			place := string('0' + byte(of.kind))
			if place < kind || len(all) > readersPerPage {
				continue
			}
			after := ""
			if place == kind {
				after = id
			}
			rows, err := tx.QueryContext(ctx, of.query, org, after, readersPerPage+1)
			if err != nil {
				return wrap("list readers", err)
			}
			err = each(rows, func() error {
				p := auth.Principal{Org: org, Kind: of.kind}
				err := rows.Scan(&p.ID)
				all = append(all, p)
				return wrap("read reader", err)
			})
			if err != nil {
				return err
			}
		}
		if kind != "" {
			return nil
		}
		devices, err := devicesIn(ctx, tx, org, name)
		all = append(devices, all...)
		return err
	})
	return all, err
}

// devicesIn returns the device that stands in a topic, and its gateway.
func devicesIn(ctx context.Context, tx *store.Tx, org auth.OrgID, name string) ([]auth.Principal, error) {
	typ, id, ok := profile.DeviceIn(name)
	if !ok {
		return nil, nil
	}
	d, err := readDevice(ctx, tx, org, typ, id)
	if err != nil {
		if errs.CodeOf(err) == errs.NotFound {
			err = nil
		}
		return nil, err
	}
	return d.affected(), nil
}

// Refused returns why something was refused, from the number in the refusal.
func (r *Registry) Refused(ctx context.Context, a Actor, org auth.OrgID, id string) (refusal.Refusal, error) {
	if _, err := r.may(ctx, a, org, permission.Explain); err != nil {
		return refusal.Refusal{}, err
	}
	found, ok := r.Refusals.Find(string(org), strings.TrimSpace(id))
	if !ok {
		return found, errs.E(errs.NotFound, "refusal %q not found; they are remembered for a while, and not over a restart", clip(id))
	}
	return found, nil
}

// RefusedLately lists what was refused in an organisation, the latest first.
func (r *Registry) RefusedLately(ctx context.Context, a Actor, org auth.OrgID) ([]refusal.Refusal, error) {
	if _, err := r.may(ctx, a, org, permission.Explain); err != nil {
		return nil, err
	}
	return r.Refusals.List(string(org)), nil
}

// ParseWho reads a principal as "kind:id", as in "device:type:id" or "user:ann".
func ParseWho(s string) (auth.Principal, error) {
	kind, id, ok := strings.Cut(s, ":")
	for _, k := range []auth.Kind{auth.Device, auth.Gateway, auth.Application, auth.User, auth.Person, auth.Service} {
		if ok && k.String() == kind && id != "" {
			return auth.Principal{Kind: k, ID: id}, nil
		}
	}
	return auth.Principal{}, errs.E(errs.Invalid, `who must be "device:TYPE:ID", "gateway:TYPE:ID", "application:KEY", "user:NAME", "person:ID" or "service:NAME"`)
}
