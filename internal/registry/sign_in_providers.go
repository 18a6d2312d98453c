package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

const (
	maxProviders      = 5
	maxProviderRoles  = 50
	maxScopes         = 20
	maxMembershipDays = 90
	membershipDays    = 30
)

// A SignInProvider is an OpenID Connect provider through which people sign in to
// one organisation. What they may do there follows from their groups at the
// provider, and only in sessions that came from it: a provider can give nobody
// anything in another organisation, nor take over an account that there is.
type SignInProvider struct {
	Org          auth.OrgID
	Name         string
	Issuer       string   // its URL, https
	ClientID     string   // of us, there
	Scopes       []string // asked for, beside openid
	GroupsClaim  string   // the claim that lists somebody's groups
	Roles        []GroupRole
	SecondFactor []string // the methods (amr, RFC 8176) or contexts (acr) that it asserts and that count as a second factor here
	Days         int      // for how long after a sign-in a membership holds
	Disabled     bool
	Created      time.Time
	Changed      time.Time

	uid    string
	sealed []byte // the client's secret; empty: it has none
}

// A GroupRole says which role a group of a provider stands for. Of several the
// first that somebody is in counts.
type GroupRole struct {
	Group string `json:"group"`
	Role  string `json:"role"`
}

const providerColumns = `org, name, uid, issuer, client_id, sealed_secret, scopes, groups_claim, roles, second_factor, days, disabled, created_at, changed_at`

func (p *SignInProvider) scan(row scanner) error {
	var created, changed int64
	var scopes, roles, factors string
	err := row.Scan(&p.Org, &p.Name, &p.uid, &p.Issuer, &p.ClientID, &p.sealed, &scopes, &p.GroupsClaim, &roles, &factors, &p.Days, &p.Disabled, &created, &changed)
	if err != nil {
		return err
	}
	p.Created, p.Changed = fromMicros(created), fromMicros(changed)
	p.Scopes, p.SecondFactor = strings.Fields(scopes), strings.Fields(factors)
	return wrap("decode roles", json.Unmarshal([]byte(roles), &p.Roles))
}

// HasSecret reports whether we have a secret with the provider.
func (p *SignInProvider) HasSecret() bool { return len(p.sealed) > 0 }

func noProvider(name string) error {
	return errs.E(errs.NotFound, "sign-in provider %q not found", clip(name))
}

func (p *SignInProvider) purpose() string { return "registry/sign-in-provider/" + p.uid }

// check checks p and fills in what has a default.
func (p *SignInProvider) check() error {
	var bad mistakes
	bad.add(auth.CheckName("name", p.Name))
	u, err := url.Parse(p.Issuer)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || len(p.Issuer) > 500 {
		bad.add(errs.E(errs.Invalid, "issuer must be a URL that begins with https://, without a query, of at most 500 bytes"))
	}
	bad.add(checkText("client_id", p.ClientID, 500))
	if p.ClientID == "" {
		bad.add(errs.E(errs.Invalid, "client_id must not be empty"))
	}
	if p.GroupsClaim == "" {
		p.GroupsClaim = "groups"
	}
	bad.add(checkText("groups_claim", p.GroupsClaim, 200))
	for field, list := range map[string][]string{"scopes": p.Scopes, "second_factor": p.SecondFactor} {
		if len(list) > maxScopes {
			bad.add(errs.E(errs.Invalid, "%s must be at most %d, are %d", field, maxScopes, len(list)))
		}
		for _, s := range list {
			if s == "" || len(s) > 200 || strings.ContainsAny(s, " \"\\") || checkText(field, s, 200) != nil {
				bad.add(errs.E(errs.Invalid, "%s: %q is not one word", field, clip(s)))
			}
		}
	}
	if p.Days == 0 {
		p.Days = membershipDays
	}
	if p.Days < 1 || p.Days > maxMembershipDays {
		bad.add(errs.E(errs.Invalid, "days must be 1 to %d, is %d", maxMembershipDays, p.Days))
	}
	if len(p.Roles) == 0 || len(p.Roles) > maxProviderRoles {
		bad.add(errs.E(errs.Invalid, "roles must say for 1 to %d groups which role they stand for, not for %d", maxProviderRoles, len(p.Roles)))
	}
	for _, g := range p.Roles {
		if g.Group == "" {
			bad.add(errs.E(errs.Invalid, "roles: a group must not be empty"))
		}
		bad.add(checkText("roles: group", g.Group, 300))
	}
	return bad.err()
}

func (p *SignInProvider) detail() map[string]any {
	roles := make([]string, 0, len(p.Roles))
	for _, g := range p.Roles {
		roles = append(roles, g.Group+" is "+g.Role)
	}
	return map[string]any{"issuer": p.Issuer, "client_id": p.ClientID, "groups_claim": p.GroupsClaim, "roles": strings.Join(roles, ", "),
		"second_factor": strings.Join(p.SecondFactor, " "), "days": p.Days, "disabled": p.Disabled, "secret": p.HasSecret()}
}

// mayGive checks that whoever has h has all the rights that p gives to anybody.
func (p *SignInProvider) mayGive(ctx context.Context, tx *store.Tx, h permission.Holder) error {
	for _, g := range p.Roles {
		rights, err := given(ctx, tx, p.Org, g.Role, false, nil)
		if err == nil {
			err = within(h, rights)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// same reports whether those that p let in would be let in by q with the same
// rights.
func (p *SignInProvider) same(q SignInProvider) bool {
	return p.Issuer == q.Issuer && p.ClientID == q.ClientID && p.GroupsClaim == q.GroupsClaim && p.Disabled == q.Disabled &&
		slices.Equal(p.Roles, q.Roles) && slices.Equal(p.SecondFactor, q.SecondFactor)
}

// PutSignInProvider makes a provider, or changes the one of that name. Without a
// secret the one there is stays. If it would let others in, or with other rights,
// sessions and memberships that came from it end: people sign in again.
func (r *Registry) PutSignInProvider(ctx context.Context, a Actor, p SignInProvider, key secret.String) (SignInProvider, error) {
	ctx, h, err := r.mayAs(ctx, a, p.Org, permission.IssuerWrite)
	if err == nil {
		err = unlimited(h)
	}
	if err != nil {
		return SignInProvider{}, err
	}
	if err := p.check(); err != nil {
		return SignInProvider{}, err
	}
	if len(key.Reveal()) > 1000 {
		return SignInProvider{}, errs.E(errs.Invalid, "secret must have at most 1000 bytes")
	}
	err = r.change(store.ForAll(ctx), a, func(tx *store.Tx) (effect, error) {
		e := effect{org: p.Org, action: "sign-in-provider.create", target: p.Name}
		if err := p.mayGive(ctx, tx, h); err != nil {
			return e, err
		}
		old, err := readProvider(ctx, tx, p.Org, p.Name)
		switch {
		case err == nil:
			e.action = "sign-in-provider.update"
			p.uid, p.sealed, p.Created = old.uid, old.sealed, old.Created
			if err := old.mayGive(ctx, tx, h); err != nil {
				return e, err
			}
		case errs.CodeOf(err) != errs.NotFound:
			return e, err
		default:
			if err := room(ctx, tx, p.Org, "sign_in_provider", maxProviders); err != nil {
				return e, err
			}
			if p.uid, err = newUID(); err != nil {
				return e, err
			}
			p.sealed, p.Created = []byte{}, r.now()
		}
		if key.Reveal() != "" {
			if p.sealed, err = r.ring.Seal(p.purpose(), []byte(key.Reveal())); err != nil {
				return e, err
			}
		}
		p.Changed = r.now()
		e.detail = p.detail()
		if old.uid != "" && !old.same(p) {
			if err := r.endProvided(ctx, tx, old, &e); err != nil {
				return e, err
			}
		}
		return e, insertProvider(ctx, tx, p)
	})
	if err != nil {
		return SignInProvider{}, err
	}
	return p, nil
}

func insertProvider(ctx context.Context, tx *store.Tx, p SignInProvider) error {
	roles, err := json.Marshal(p.Roles)
	if err != nil {
		return fmt.Errorf("encode roles: %w", err)
	}
	const q = `INSERT INTO sign_in_provider (` + providerColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
		ON CONFLICT (org, name) DO UPDATE SET issuer = excluded.issuer, client_id = excluded.client_id, sealed_secret = excluded.sealed_secret,
		scopes = excluded.scopes, groups_claim = excluded.groups_claim, roles = excluded.roles, second_factor = excluded.second_factor,
		days = excluded.days, disabled = excluded.disabled, changed_at = excluded.changed_at`
	_, err = tx.ExecContext(ctx, q, p.Org, p.Name, p.uid, p.Issuer, p.ClientID, p.sealed, strings.Join(p.Scopes, " "), p.GroupsClaim, string(roles),
		strings.Join(p.SecondFactor, " "), p.Days, p.Disabled, micros(p.Created), micros(p.Changed))
	return wrap("write sign-in provider", err)
}

// endProvided ends the sessions and memberships that came from p. What else was
// said of its members, as that they are limited or disabled, holds on when they
// come again.
func (r *Registry) endProvided(ctx context.Context, tx *store.Tx, p SignInProvider, e *effect) error {
	if err := affectHolders(ctx, tx, p.Org, e); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM person_session WHERE provider = $1`, p.uid); err != nil {
		return fmt.Errorf("end sessions: %w", err)
	}
	_, err := tx.ExecContext(ctx, `UPDATE member SET expires_at = $3 WHERE org = $1 AND provider = $2`, p.Org, p.uid, micros(r.now()))
	return wrap("end memberships", err)
}

func readProvider(ctx context.Context, tx *store.Tx, org auth.OrgID, name string) (SignInProvider, error) {
	const q = `SELECT ` + providerColumns + ` FROM sign_in_provider WHERE org = $1 AND name = $2`
	return one[SignInProvider](tx.QueryRowContext(ctx, q, org, name), noProvider(name))
}

// SignInProviders lists the providers of an organisation.
func (r *Registry) SignInProviders(ctx context.Context, a Actor, org auth.OrgID) ([]SignInProvider, error) {
	ctx, err := r.may(ctx, a, org, permission.IssuerRead)
	if err != nil {
		return nil, err
	}
	return list[SignInProvider](ctx, r, `SELECT `+providerColumns+` FROM sign_in_provider WHERE org = $1 ORDER BY name`, org)
}

// DeleteSignInProvider deletes a provider. Sessions and memberships that came from
// it end.
func (r *Registry) DeleteSignInProvider(ctx context.Context, a Actor, org auth.OrgID, name string) error {
	ctx, err := r.may(ctx, a, org, permission.IssuerWrite)
	if err != nil {
		return err
	}
	return r.change(store.ForAll(ctx), a, func(tx *store.Tx) (effect, error) {
		e := effect{org: org, action: "sign-in-provider.delete", target: name}
		p, err := readProvider(ctx, tx, org, name)
		if err != nil {
			return e, err
		}
		if err := r.endProvided(ctx, tx, p, &e); err != nil {
			return e, err
		}
		for _, q := range []string{
			`DELETE FROM resource_group_holder WHERE org = $1 AND kind = 5 AND holder IN (SELECT person FROM member WHERE org = $1 AND provider = $2)`,
			`DELETE FROM member WHERE org = $1 AND provider = $2`,
		} {
			if _, err := tx.ExecContext(ctx, q, org, p.uid); err != nil {
				return e, fmt.Errorf("delete members: %w", err)
			}
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM sign_in_provider WHERE uid = $1`, p.uid)
		return e, wrap("delete sign-in provider", err)
	})
}
