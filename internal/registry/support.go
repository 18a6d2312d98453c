package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/profile"
	"github.com/keepmq/keepmq/internal/store"
)

// How long the installation's operator may look into an organisation.
const (
	MinSupport = 15 * time.Minute
	MaxSupport = 72 * time.Hour
	maxSupport = 100 // that are asked for or open, in one organisation
)

// A Support is that an administrator of the installation looks into an
// organisation: asked for with a reason and an end, and open when somebody of the
// organisation has granted it. It shows and changes nothing; what devices say it
// shows only if the grant says so.
type Support struct {
	Org      auth.OrgID
	ID       string
	Person   string // who looks in
	Name     string // theirs
	Reason   string
	Messages bool // what devices say, too
	Asked    time.Time
	Granted  time.Time // zero: not yet
	Grantor  string    // as kind:org:id
	Ended    time.Time // zero: not before its time
	Expires  time.Time
}

const supportColumns = `s.org, s.id, s.person, p.name, s.reason, s.messages, s.asked_at, s.granted_at, s.grantor, s.ended_at, s.expires_at`

func (s *Support) scan(row scanner) error {
	var asked, granted, ended, expires int64
	err := row.Scan(&s.Org, &s.ID, &s.Person, &s.Name, &s.Reason, &s.Messages, &asked, &granted, &s.Grantor, &ended, &expires)
	s.Asked, s.Expires = fromMicros(asked), fromMicros(expires)
	if granted != 0 {
		s.Granted = fromMicros(granted)
	}
	if ended != 0 {
		s.Ended = fromMicros(ended)
	}
	return err
}

// State says how far it is: "asked", "open" or "over".
func (s Support) State(now time.Time) string {
	switch {
	case !s.Ended.IsZero(), !now.Before(s.Expires):
		return "over"
	case s.Granted.IsZero():
		return "asked"
	}
	return "open"
}

func noSupport(id string) error {
	return errs.E(errs.NotFound, "support access %q not found", clip(id))
}

// AskSupport asks an organisation to let a, an administrator of the installation,
// look in for a while from now on.
func (r *Registry) AskSupport(ctx context.Context, a Actor, org auth.OrgID, reason string, life time.Duration, messages bool) (Support, error) {
	if err := a.mayAdminister(); err != nil {
		return Support{}, err
	}
	if a.Principal.Kind != auth.Person {
		return Support{}, errs.E(errs.Denied, "only a person looks in")
	}
	var bad mistakes
	if strings.TrimSpace(reason) == "" {
		bad.add(errs.E(errs.Invalid, "reason must say why, for the organisation"))
	}
	bad.add(checkText("reason", reason, maxReason))
	if life < MinSupport || life > MaxSupport {
		bad.add(errs.E(errs.Invalid, "ttl must be between %v and %v, is %v", MinSupport, MaxSupport, life))
	}
	if err := bad.err(); err != nil {
		return Support{}, err
	}
	s := Support{Org: org, Person: a.Principal.ID, Reason: reason, Messages: messages, Asked: r.now(), Expires: r.now().Add(life)}
	var err error
	if s.ID, err = newUID(); err != nil {
		return Support{}, err
	}
	err = r.change(forOrg(ctx, org), a, func(tx *store.Tx) (effect, error) {
		e := effect{org: org, action: "support.ask", target: s.ID, detail: map[string]any{"person": s.Person, "reason": reason,
			"messages": messages, "expires": s.Expires.Format(time.RFC3339)}}
		if _, err := readOrg(ctx, tx, org); err != nil {
			return e, err
		}
		p, err := readPerson(ctx, tx, s.Person)
		if err != nil {
			return e, err
		}
		s.Name = p.Name
		var n int
		const count = `SELECT COUNT(*) FROM support_access WHERE org = $1 AND ended_at = 0 AND expires_at > $2`
		if err := tx.QueryRowContext(ctx, count, org, micros(r.now())).Scan(&n); err != nil {
			return e, fmt.Errorf("count support: %w", err)
		}
		if n >= maxSupport {
			return e, errs.E(errs.Exhausted, "%d are asked for or open already; end some first", n)
		}
		const q = `INSERT INTO support_access (org, id, person, reason, messages, asked_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`
		_, err = tx.ExecContext(ctx, q, org, s.ID, s.Person, reason, messages, micros(s.Asked), micros(s.Expires))
		return e, wrap("insert support", err)
	})
	if err != nil {
		return Support{}, err
	}
	return s, nil
}

// Supports lists who has asked to look into an organisation and who has, the latest
// first. An administrator of the installation sees their own.
func (r *Registry) Supports(ctx context.Context, a Actor, org auth.OrgID) ([]Support, error) {
	person := ""
	ctx, err := r.may(ctx, a, org, permission.MemberRead)
	switch {
	case err == nil:
	case a.Admin && a.Principal.Kind == auth.Person && errs.CodeOf(err) == errs.Denied:
		person = a.Principal.ID
	default:
		return nil, err
	}
	const q = `SELECT ` + supportColumns + ` FROM support_access s JOIN person p ON p.id = s.person
		WHERE s.org = $1 AND ($2 = '' OR s.person = $2) ORDER BY s.id DESC LIMIT $3`
	return list[Support](ctx, r, q, org, person, maxSupport)
}

// OpenSupport lists who may look into an organisation now, for everybody in it to
// see.
func (r *Registry) OpenSupport(ctx context.Context, a Actor, org auth.OrgID) ([]Support, error) {
	ctx, err := r.may(ctx, a, org, permission.OrgRead)
	if err != nil {
		return nil, err
	}
	const q = `SELECT ` + supportColumns + ` FROM support_access s JOIN person p ON p.id = s.person
		WHERE s.org = $1 AND s.granted_at > 0 AND s.ended_at = 0 AND s.expires_at > $2 ORDER BY s.id LIMIT $3`
	return list[Support](ctx, r, q, org, micros(r.now()), maxSupport)
}

// GrantSupport lets who has asked look in, until the time they asked for. messages
// says whether what devices say may be seen; it may be less than was asked for, and
// never more.
func (r *Registry) GrantSupport(ctx context.Context, a Actor, org auth.OrgID, id string, messages bool) (Support, error) {
	ctx, err := r.may(ctx, a, org, permission.SupportWrite)
	if err != nil {
		return Support{}, err
	}
	var s Support
	err = r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: org, action: "support.grant", target: id}
		if s, err = readSupport(ctx, tx, org, id); err != nil {
			return e, err
		}
		switch {
		case s.State(r.now()) == "over":
			return e, errs.E(errs.Conflict, "support access %q is over; it has to be asked for again", id)
		case a.Principal.Kind == auth.Person && a.Principal.ID == s.Person:
			return e, errs.E(errs.Denied, "nobody grants it to themselves")
		case messages && !s.Messages:
			return e, errs.E(errs.Invalid, "messages were not asked for")
		}
		s.Granted, s.Grantor, s.Messages = r.now(), a.Principal.String(), messages
		e.affected = []auth.Principal{{Org: org, Kind: auth.Person, ID: s.Person}}
		e.detail = map[string]any{"person": s.Person, "reason": s.Reason, "messages": messages, "expires": s.Expires.Format(time.RFC3339)}
		const q = `UPDATE support_access SET granted_at = $3, grantor = $4, messages = $5 WHERE org = $1 AND id = $2`
		_, err := tx.ExecContext(ctx, q, org, id, micros(s.Granted), s.Grantor, messages)
		return e, wrap("update support", err)
	})
	if err != nil {
		return Support{}, err
	}
	return s, nil
}

// EndSupport ends it before its time, or refuses what was asked for. Whoever looks
// in may end it, too.
func (r *Registry) EndSupport(ctx context.Context, a Actor, org auth.OrgID, id string) error {
	ctx, err := r.may(ctx, a, org, permission.SupportWrite)
	own := err != nil && a.Admin && errs.CodeOf(err) == errs.Denied
	if err != nil && !own {
		return err
	}
	return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: org, action: "support.end", target: id}
		s, err := readSupport(ctx, tx, org, id)
		if err == nil && own && s.Person != a.Principal.ID {
			err = noSupport(id)
		}
		if err == nil && s.State(r.now()) == "over" {
			err = errs.E(errs.Conflict, "support access %q is over", id)
		}
		if err != nil {
			return e, err
		}
		e.affected = []auth.Principal{{Org: org, Kind: auth.Person, ID: s.Person}}
		e.detail = map[string]any{"person": s.Person}
		_, err = tx.ExecContext(ctx, `UPDATE support_access SET ended_at = $3 WHERE org = $1 AND id = $2`, org, id, micros(r.now()))
		return e, wrap("update support", err)
	})
}

func readSupport(ctx context.Context, tx *store.Tx, org auth.OrgID, id string) (Support, error) {
	const q = `SELECT ` + supportColumns + ` FROM support_access s JOIN person p ON p.id = s.person WHERE s.org = $1 AND s.id = $2`
	return one[Support](tx.QueryRowContext(ctx, q, org, id), noSupport(id))
}

// supported returns what a person who is no member holds in org by its leave.
func (r *Registry) supported(ctx context.Context, tx *store.Tx, org auth.OrgID, person string) (membership, error) {
	const q = `SELECT s.expires_at, s.messages FROM support_access s JOIN person p ON p.id = s.person
		WHERE s.org = $1 AND s.person = $2 AND s.granted_at > 0 AND s.ended_at = 0 AND s.expires_at > $3 AND p.admin AND NOT p.disabled
		ORDER BY s.messages DESC, s.expires_at DESC LIMIT 1`
	var expires int64
	var messages bool
	switch err := tx.QueryRowContext(ctx, q, org, person, micros(r.now())).Scan(&expires, &messages); {
	case errors.Is(err, sql.ErrNoRows):
		return membership{}, nil
	case err != nil:
		return membership{}, fmt.Errorf("look for support: %w", err)
	}
	name := permission.Support
	if messages {
		name = permission.SupportData
	}
	role, _ := permission.Builtin(name)
	m := membership{holds: true, parts: []profile.Part{{Rights: permission.Rights{Set: role.Set}}}, until: fromMicros(expires)}
	err := tx.QueryRowContext(ctx, `SELECT second_factor FROM org WHERE id = $1`, org).Scan(&m.factor)
	return m, wrap("read organisation", err)
}
