package registry

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/profile"
	"github.com/keepmq/keepmq/internal/store"
)

// maxServices is how many service accounts an organisation may have.
const maxServices = 1000

// A Service is a service account: who stands behind the API keys of a program, in
// place of a person. It does not sign in itself, and stays when people leave.
type Service struct {
	Org         auth.OrgID
	ID          string
	Description string
	Role        string // what its API keys may do at most
	Limited     bool   // to the devices in Groups
	Groups      []string
	Disabled    bool
	Created     time.Time
}

const serviceColumns = `org, id, description, role, limited, disabled, created_at`

func (s *Service) scan(row scanner) error {
	var created int64
	err := row.Scan(&s.Org, &s.ID, &s.Description, &s.Role, &s.Limited, &s.Disabled, &created)
	s.Created = fromMicros(created)
	return err
}

func (s Service) principal() auth.Principal {
	return auth.Principal{Org: s.Org, Kind: auth.Service, ID: s.ID}
}

func (s Service) rights(ctx context.Context, tx *store.Tx) (permission.Rights, error) {
	set, err := roleSet(ctx, tx, s.Org, s.Role)
	return permission.Rights{Set: set, Limited: s.Limited, Groups: s.Groups}, err
}

// detail describes a service account for the audit record.
func (s Service) detail() map[string]any {
	return map[string]any{"role": s.Role, "limited": s.Limited, "groups": strings.Join(s.Groups, " "), "description": s.Description}
}

func noService(id string) error {
	return errs.E(errs.NotFound, "service account %q not found", clip(id))
}

func readService(ctx context.Context, tx *store.Tx, org auth.OrgID, id string) (Service, error) {
	const q = `SELECT ` + serviceColumns + ` FROM service_account WHERE org = $1 AND id = $2`
	s, err := one[Service](tx.QueryRowContext(ctx, q, org, id), noService(id))
	if err == nil && s.Limited {
		s.Groups, err = readGroupsOf(ctx, tx, s.principal())
	}
	return s, err
}

// serviceHolds returns what the API keys of a service account may do at most now.
func serviceHolds(ctx context.Context, tx *store.Tx, org auth.OrgID, id string) (membership, error) {
	s, err := readService(ctx, tx, org, id)
	switch {
	case err != nil && errs.CodeOf(err) == errs.NotFound, err == nil && s.Disabled:
		return membership{}, nil
	case err != nil:
		return membership{}, err
	}
	rights, err := s.rights(ctx, tx)
	return membership{holds: true, parts: []profile.Part{{Rights: rights, From: fmt.Sprintf("the role %q of the service account %q", s.Role, s.ID)}}}, err
}

// lasting refuses an API key where something is made that stays good without it:
// nobody who steals one leaves something behind.
func lasting(a Actor) error {
	if a.Principal.Kind == auth.Application {
		return errs.E(errs.Denied, "only a person gives a service account rights or API keys")
	}
	return nil
}

// Services lists the service accounts of an organisation.
func (r *Registry) Services(ctx context.Context, a Actor, org auth.OrgID) ([]Service, error) {
	ctx, err := r.may(ctx, a, org, permission.MemberRead)
	if err != nil {
		return nil, err
	}
	return list[Service](ctx, r, `SELECT `+serviceColumns+` FROM service_account WHERE org = $1 ORDER BY id LIMIT $2`, org, maxServices)
}

// Service returns one service account.
func (r *Registry) Service(ctx context.Context, a Actor, org auth.OrgID, id string) (Service, error) {
	ctx, err := r.may(ctx, a, org, permission.MemberRead)
	if err != nil {
		return Service{}, err
	}
	var s Service
	err = r.view(ctx, func(tx *store.Tx) (err error) {
		s, err = readService(ctx, tx, org, id)
		return err
	})
	return s, err
}

// PutService makes a service account without API keys, or changes what those of
// one may do, at once. Nobody gives or takes rights that they do not have.
func (r *Registry) PutService(ctx context.Context, a Actor, s Service) (Service, error) {
	ctx, h, err := r.mayAs(ctx, a, s.Org, permission.MemberWrite)
	if err == nil {
		err = lasting(a)
	}
	if err != nil {
		return Service{}, err
	}
	s.Groups = tidy(s.Groups)
	var bad mistakes
	bad.add(auth.CheckName("service account", s.ID))
	bad.add(checkText("description", s.Description, 200))
	if err := bad.err(); err != nil {
		return Service{}, err
	}
	err = r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: s.Org, action: "service.create", target: s.ID, detail: s.detail()}
		if _, err := readOrg(ctx, tx, s.Org); err != nil {
			return e, err
		}
		rights, err := given(ctx, tx, s.Org, s.Role, s.Limited, s.Groups)
		if err == nil {
			err = within(h, rights)
		}
		if err != nil {
			return e, err
		}
		s.Disabled, s.Created = false, r.now()
		old, err := readService(ctx, tx, s.Org, s.ID)
		switch {
		case err == nil:
			if err := mayService(ctx, tx, h, old); err != nil {
				return e, err
			}
			e.action, s.Disabled, s.Created = "service.update", old.Disabled, old.Created
			e.detail["before"] = old.detail()
		case errs.CodeOf(err) != errs.NotFound:
			return e, err
		default:
			if err := room(ctx, tx, s.Org, "service_account", maxServices); err != nil {
				return e, err
			}
		}
		const q = `INSERT INTO service_account (org, id, description, role, limited, created_at) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (org, id) DO UPDATE SET description = excluded.description, role = excluded.role, limited = excluded.limited`
		if _, err := tx.ExecContext(ctx, q, s.Org, s.ID, s.Description, s.Role, s.Limited, micros(s.Created)); err != nil {
			return e, fmt.Errorf("write service account: %w", err)
		}
		if err := replaceGroupsOf(ctx, tx, s.principal(), s.Groups); err != nil {
			return e, err
		}
		return e, affectHolders(ctx, tx, s.Org, &e)
	})
	if err != nil {
		return Service{}, err
	}
	return s, nil
}

// mayService checks that whoever has h has all that s has.
func mayService(ctx context.Context, tx *store.Tx, h permission.Holder, s Service) error {
	rights, err := s.rights(ctx, tx)
	if err != nil {
		return err
	}
	return within(h, rights)
}

// SetServiceDisabled locks all API keys of a service account out, which is always
// possible to who may change members, or lets them in again.
func (r *Registry) SetServiceDisabled(ctx context.Context, a Actor, org auth.OrgID, id string, disabled bool) error {
	ctx, h, err := r.mayAs(ctx, a, org, permission.MemberWrite)
	if err != nil {
		return err
	}
	return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: org, action: able("service", disabled), target: id}
		s, err := readService(ctx, tx, org, id)
		if err == nil && !disabled {
			err = mayService(ctx, tx, h, s)
		}
		if err != nil {
			return e, err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE service_account SET disabled = $3 WHERE org = $1 AND id = $2`, org, id, disabled); err != nil {
			return e, fmt.Errorf("update service account: %w", err)
		}
		return e, affectHolders(ctx, tx, org, &e)
	})
}

// DeleteService deletes a service account that has no API keys.
func (r *Registry) DeleteService(ctx context.Context, a Actor, org auth.OrgID, id string) error {
	ctx, err := r.may(ctx, a, org, permission.MemberWrite)
	if err != nil {
		return err
	}
	return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: org, action: "service.delete", target: id}
		s, err := readService(ctx, tx, org, id)
		if err != nil {
			return e, err
		}
		if err := behindNone(ctx, tx, s.principal()); err != nil {
			if errs.CodeOf(err) == errs.Conflict {
				err = errs.E(errs.Conflict, "service account %q has API keys; delete these first, or disable it", clip(id))
			}
			return e, err
		}
		if err := replaceGroupsOf(ctx, tx, s.principal(), nil); err != nil {
			return e, err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM service_account WHERE org = $1 AND id = $2`, org, id)
		return e, wrap("delete service account", err)
	})
}

// ofService completes a new API key of a service account, whose rights it has
// unless told otherwise.
func (p *Application) ofService(ctx context.Context, tx *store.Tx) error {
	s, err := readService(ctx, tx, p.Org, p.Maker.ID)
	if err != nil {
		return err
	}
	if p.Role == "" {
		if p.Limited || len(p.Groups) > 0 {
			return errs.E(errs.Invalid, "groups take a role; without one, the API key has the rights of its service account")
		}
		p.Role, p.Limited, p.Groups = s.Role, s.Limited, s.Groups
	}
	return nil
}
