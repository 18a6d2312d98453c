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
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

// An Application is an API key: with its token an application connects, and
// calls the API for its own organisation.
type Application struct {
	Org      auth.OrgID
	Key      string // "a-{org}-{10 characters}", generated
	Name     string // for people
	Disabled bool
	Created  time.Time

	Role        string    // what it may do at most; permission.Application when empty
	Permissions []string  // no more than these of it; none: all that the role allows
	Limited     bool      // with the devices in Groups only
	Groups      []string  // resource groups
	Expires     time.Time // of a new one: when its token ends; zero: never
	// Maker is who stands behind it: it never may do more than that person or API
	// key. A part of KeepMQ itself stands behind the first ones.
	Maker auth.Principal
}

// Principal returns who the application is when it connects.
func (p Application) Principal() auth.Principal {
	return auth.Principal{Org: p.Org, Kind: auth.Application, ID: p.Key}
}

const applicationColumns = `org, key, name, disabled, created_at, role, permissions, limited, maker_kind, maker`

func (p *Application) scan(row scanner) error {
	var created, makerKind int64
	var permissions string
	err := row.Scan(&p.Org, &p.Key, &p.Name, &p.Disabled, &created, &p.Role, &permissions, &p.Limited, &makerKind, &p.Maker.ID)
	p.Created, p.Permissions = fromMicros(created), strings.Fields(permissions)
	p.Maker.Kind = auth.Kind(makerKind)
	if p.Maker.Kind != auth.Person {
		p.Maker.Org = p.Org
	}
	return err
}

// newKey returns a new API key of org. It is a name, not a secret.
func newKey(org auth.OrgID) string { return "a-" + string(org) + "-" + random(lowLetters, 10) }

// orgOfKey returns the organisation that an API key names.
func orgOfKey(key string) (auth.OrgID, bool) {
	rest, ok := strings.CutPrefix(key, "a-")
	if !ok {
		return "", false
	}
	org, tail, ok := strings.Cut(rest, "-")
	if !ok || len(tail) != 10 {
		return "", false
	}
	for _, c := range []byte(tail) {
		if strings.IndexByte(lowLetters, c) < 0 {
			return "", false
		}
	}
	id, err := auth.ParseOrgID(org)
	return id, err == nil
}

func noApplication(key string) error {
	return errs.E(errs.NotFound, "API key %q not found", key)
}

// CreateApplication creates an API key and returns its token, which is never
// shown again. It cannot have more rights than a has, nor ever will. If p.Maker is a
// service account, that stands behind it, and else a.
func (r *Registry) CreateApplication(ctx context.Context, a Actor, p Application) (Application, secret.String, error) {
	ctx, h, err := r.mayAs(ctx, a, p.Org, permission.ApplicationWrite)
	if err != nil {
		return Application{}, secret.String{}, err
	}
	if p.Maker.Kind == auth.Service {
		if err := lasting(a); err != nil {
			return Application{}, secret.String{}, err
		}
	}
	if err := p.complete(a); err != nil {
		return Application{}, secret.String{}, err
	}
	if err := checkEnd(p.Expires, r.now()); err != nil {
		return Application{}, secret.String{}, err
	}
	p.Key = newKey(p.Org)
	p.Disabled, p.Created = false, r.now()
	f, err := r.newFresh(p.Principal())
	if err != nil {
		return Application{}, secret.String{}, err
	}
	err = r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: p.Org, action: "application.create", target: p.Key}
		if p.Maker.Kind == auth.Service {
			if err := p.ofService(ctx, tx); err != nil {
				return e, err
			}
		}
		e.detail = p.detail()
		if !p.Expires.IsZero() {
			e.detail["expires"] = ending(p.Expires)
		}
		if err := r.mayMake(ctx, tx, h, p); err != nil {
			return e, err
		}
		return e, r.insertApplication(ctx, tx, p, f)
	})
	if err != nil {
		return Application{}, secret.String{}, err
	}
	return p, f.token, nil
}

// complete checks a new API key of a, and fills in what the caller left out.
func (p *Application) complete(a Actor) error {
	p.Groups = tidy(p.Groups)
	if p.Maker.Kind == auth.Service {
		p.Maker.Org = p.Org
	} else {
		p.Maker = auth.Principal{Org: a.Principal.Org, Kind: a.Principal.Kind, ID: a.Principal.ID}
		if p.Role == "" {
			p.Role = permission.Application
		}
	}
	var bad mistakes
	bad.add(checkText("name", p.Name, 100))
	scope, err := permission.Parse(p.Permissions)
	bad.add(err)
	p.Permissions = scope.Names()
	return bad.err()
}

// detail describes what an API key may do for the audit record.
func (p Application) detail() map[string]any {
	return map[string]any{"name": p.Name, "role": p.Role, "permissions": strings.Join(p.Permissions, " "),
		"limited": p.Limited, "groups": strings.Join(p.Groups, " "), "maker": p.Maker.String()}
}

// mayMake checks that whoever has h may stand behind p as it is now.
func (r *Registry) mayMake(ctx context.Context, tx *store.Tx, h permission.Holder, p Application) error {
	rights, err := given(ctx, tx, p.Org, p.Role, p.Limited, p.Groups)
	if err != nil {
		return err
	}
	if len(p.Permissions) > 0 {
		scope, err := permission.Parse(p.Permissions)
		if err != nil {
			return err
		}
		if more := scope &^ rights.Set; more != 0 {
			return errs.E(errs.Invalid, "permissions: role %q does not have %s", p.Role, more)
		}
		rights.Set &= scope
	}
	if err := within(h, rights); err != nil {
		return err
	}
	behind := 0
	for m := p.Maker; m.Kind == auth.Application; behind++ {
		if behind == maxMakers {
			return errs.E(errs.Denied, "there are %d API keys behind this one already; have a person make it", maxMakers)
		}
		maker, err := readApplication(ctx, tx, p.Org, m.ID)
		if err != nil {
			return err
		}
		if maker.Key == p.Key {
			return errs.E(errs.Denied, "an API key cannot stand behind itself")
		}
		m = maker.Maker
	}
	return nil
}

func (r *Registry) insertApplication(ctx context.Context, tx *store.Tx, p Application, f fresh) error {
	if _, err := readOrg(ctx, tx, p.Org); err != nil {
		return err
	}
	uid, err := newUID()
	if err != nil {
		return err
	}
	const q = `INSERT INTO application (org, key, uid, name, token_hash, token_version, created_at, token_at, scram, role, permissions, limited, maker_kind, maker, token_until)
		VALUES ($1, $2, $3, $4, $5, 1, $6, $6, $7, $8, $9, $10, $11, $12, $13)`
	_, err = tx.ExecContext(ctx, q, p.Org, p.Key, uid, p.Name, hashToken(r.ring, p.Principal(), f.token), micros(p.Created), f.scram,
		p.Role, strings.Join(p.Permissions, " "), p.Limited, int64(p.Maker.Kind), p.Maker.ID, expiry(p.Expires))
	if err != nil {
		return fmt.Errorf("insert application: %w", err)
	}
	return replaceGroupsOf(ctx, tx, p.Principal(), p.Groups)
}

// Applications lists the API keys of an organisation by key.
func (r *Registry) Applications(ctx context.Context, a Actor, org auth.OrgID, p Page) ([]Application, string, error) {
	ctx, err := r.may(ctx, a, org, permission.ApplicationRead)
	if err != nil {
		return nil, "", err
	}
	size, err := p.size()
	if err != nil {
		return nil, "", err
	}
	key, err := p.after("application", 1)
	if err != nil {
		return nil, "", err
	}
	const q = `SELECT ` + applicationColumns + ` FROM application WHERE org = $1 AND key > $2 ORDER BY key LIMIT $3`
	all, err := list[Application](ctx, r, q, org, key[0], size+1)
	if err != nil {
		return nil, "", err
	}
	all, next := cut(all, size, func(p Application) string { return cursor("application", p.Key) })
	return all, next, nil
}

// Application returns one API key.
func (r *Registry) Application(ctx context.Context, a Actor, org auth.OrgID, key string) (Application, error) {
	ctx, err := r.may(ctx, a, org, permission.ApplicationRead)
	if err != nil {
		return Application{}, err
	}
	var p Application
	err = r.view(ctx, func(tx *store.Tx) (err error) {
		if _, err := readOrg(ctx, tx, org); err != nil {
			return err
		}
		p, err = readApplication(ctx, tx, org, key)
		return err
	})
	return p, err
}

func readApplication(ctx context.Context, tx *store.Tx, org auth.OrgID, key string) (Application, error) {
	const q = `SELECT ` + applicationColumns + ` FROM application WHERE org = $1 AND key = $2`
	p, err := one[Application](tx.QueryRowContext(ctx, q, org, key), noApplication(key))
	if err == nil && p.Limited {
		p.Groups, err = readGroupsOf(ctx, tx, p.Principal())
	}
	return p, err
}

// changeApplication makes one change to one API key, which do is given as it was.
// Unless the change only takes from it, a must have all the rights that it has:
// whoever gets its token has them, too.
func (r *Registry) changeApplication(ctx context.Context, a Actor, org auth.OrgID, key, action string, takes bool,
	do func(*store.Tx, Application, permission.Holder, *effect) error) error {
	ctx, h, err := r.mayAs(ctx, a, org, permission.ApplicationWrite)
	if err != nil {
		return err
	}
	return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: org, action: action, target: key}
		p, err := readApplication(ctx, tx, org, key)
		if err != nil {
			return e, err
		}
		if !takes {
			rights, err := p.own(ctx, tx)
			if err == nil {
				err = within(h, rights)
			}
			if err != nil {
				return e, err
			}
		}
		// Others may have been made with it.
		if err := affectHolders(ctx, tx, org, &e); err != nil {
			return e, err
		}
		return e, do(tx, p, h, &e)
	})
}

// SetApplicationRights gives an API key what to says: role, permissions, and
// resource groups. Its connections go on with these, and a stands behind it now,
// unless it is one of a service account.
func (r *Registry) SetApplicationRights(ctx context.Context, a Actor, to Application) error {
	if err := to.complete(a); err != nil {
		return err
	}
	return r.changeApplication(ctx, a, to.Org, to.Key, "application.rights", false,
		func(tx *store.Tx, p Application, h permission.Holder, e *effect) error {
			to.Name = p.Name
			if p.Maker.Kind == auth.Service {
				to.Maker = p.Maker
			}
			e.detail = to.detail()
			e.detail["before"] = p.detail()
			if err := r.mayMake(ctx, tx, h, to); err != nil {
				return err
			}
			const q = `UPDATE application SET role = $3, permissions = $4, limited = $5, maker_kind = $6, maker = $7 WHERE org = $1 AND key = $2`
			_, err := tx.ExecContext(ctx, q, to.Org, to.Key, to.Role, strings.Join(to.Permissions, " "), to.Limited,
				int64(to.Maker.Kind), to.Maker.ID)
			if err != nil {
				return fmt.Errorf("update rights: %w", err)
			}
			return replaceGroupsOf(ctx, tx, to.Principal(), to.Groups)
		})
}

// SetApplicationDisabled locks an API key out, and those that were made with it,
// or lets it in again.
func (r *Registry) SetApplicationDisabled(ctx context.Context, a Actor, org auth.OrgID, key string, disabled bool) error {
	return r.changeApplication(ctx, a, org, key, able("application", disabled), disabled,
		func(tx *store.Tx, _ Application, _ permission.Holder, _ *effect) error {
			_, err := tx.ExecContext(ctx, `UPDATE application SET disabled = $3 WHERE org = $1 AND key = $2`, org, key, disabled)
			return wrap("update application", err)
		})
}

// DeleteApplication deletes an API key with which no other was made.
func (r *Registry) DeleteApplication(ctx context.Context, a Actor, org auth.OrgID, key string) error {
	return r.changeApplication(ctx, a, org, key, "application.delete", true,
		func(tx *store.Tx, p Application, _ permission.Holder, _ *effect) error {
			if err := behindNone(ctx, tx, p.Principal()); err != nil {
				return err
			}
			if err := replaceGroupsOf(ctx, tx, p.Principal(), nil); err != nil {
				return err
			}
			if err := dropUses(ctx, tx, p.Principal()); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, `DELETE FROM application WHERE org = $1 AND key = $2`, org, key)
			return wrap("delete application", err)
		})
}

// behindNone checks that no API key stands on the rights of maker.
func behindNone(ctx context.Context, tx *store.Tx, maker auth.Principal) error {
	const q = `SELECT key FROM application WHERE org = $1 AND maker_kind = $2 AND maker = $3 LIMIT 1`
	var key string
	switch err := tx.QueryRowContext(ctx, q, maker.Org, int64(maker.Kind), maker.ID).Scan(&key); {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("look for API keys: %w", err)
	}
	return errs.E(errs.Conflict, "it stands behind API key %q, which could do nothing then; set the rights of that yourself first, or delete it", key)
}
