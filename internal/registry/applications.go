package registry

import (
	"context"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
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
}

// Principal returns who the application is when it connects.
func (p Application) Principal() auth.Principal {
	return auth.Principal{Org: p.Org, Kind: auth.Application, ID: p.Key}
}

const applicationColumns = `org, key, name, disabled, created_at`

func (p *Application) scan(row scanner) error {
	var created int64
	err := row.Scan(&p.Org, &p.Key, &p.Name, &p.Disabled, &created)
	p.Created = fromMicros(created)
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
// shown again.
func (r *Registry) CreateApplication(ctx context.Context, a Actor, p Application) (Application, secret.String, error) {
	if err := a.mayManage(p.Org); err != nil {
		return Application{}, secret.String{}, err
	}
	if err := checkText("name", p.Name, 100); err != nil {
		return Application{}, secret.String{}, err
	}
	p.Key = newKey(p.Org)
	p.Disabled, p.Created = false, r.now()
	f, err := r.newFresh(p.Principal())
	if err != nil {
		return Application{}, secret.String{}, err
	}
	err = r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		return effect{org: p.Org, action: "application.create", target: p.Key, detail: map[string]any{"name": p.Name}},
			r.insertApplication(ctx, tx, p, f)
	})
	if err != nil {
		return Application{}, secret.String{}, err
	}
	return p, f.token, nil
}

func (r *Registry) insertApplication(ctx context.Context, tx *store.Tx, p Application, f fresh) error {
	if _, err := readOrg(ctx, tx, p.Org); err != nil {
		return err
	}
	uid, err := newUID()
	if err != nil {
		return err
	}
	const q = `INSERT INTO application (org, key, uid, name, token_hash, token_version, created_at, scram)
		VALUES ($1, $2, $3, $4, $5, 1, $6, $7)`
	_, err = tx.ExecContext(ctx, q, p.Org, p.Key, uid, p.Name, hashToken(r.ring, p.Principal(), f.token), micros(p.Created), f.scram)
	return wrap("insert application", err)
}

// Applications lists the API keys of an organisation by key.
func (r *Registry) Applications(ctx context.Context, a Actor, org auth.OrgID, p Page) ([]Application, string, error) {
	if err := r.readable(ctx, a, org); err != nil {
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
	if err := a.mayManage(org); err != nil {
		return Application{}, err
	}
	var p Application
	err := r.view(ctx, func(tx *store.Tx) (err error) {
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
	return one[Application](tx.QueryRowContext(ctx, q, org, key), noApplication(key))
}

// changeApplication makes one change to one API key: query with args behind org
// and key.
func (r *Registry) changeApplication(ctx context.Context, a Actor, org auth.OrgID, key, action, query string, args ...any) error {
	if err := a.mayManage(org); err != nil {
		return err
	}
	return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: org, action: action, target: key,
			affected: []auth.Principal{{Org: org, Kind: auth.Application, ID: key}}}
		if _, err := readOrg(ctx, tx, org); err != nil {
			return e, err
		}
		res, err := tx.ExecContext(ctx, query, append([]any{org, key}, args...)...)
		return e, found(res, err, noApplication(key))
	})
}

// SetApplicationDisabled locks an API key out or lets it in again.
func (r *Registry) SetApplicationDisabled(ctx context.Context, a Actor, org auth.OrgID, key string, disabled bool) error {
	const q = `UPDATE application SET disabled = $3 WHERE org = $1 AND key = $2`
	return r.changeApplication(ctx, a, org, key, able("application", disabled), q, disabled)
}

// RotateApplicationToken gives an API key a new token. The old one is refused
// from now on, and connections made with it end.
func (r *Registry) RotateApplicationToken(ctx context.Context, a Actor, org auth.OrgID, key string) (secret.String, error) {
	owner := auth.Principal{Org: org, Kind: auth.Application, ID: key}
	f, err := r.newFresh(owner)
	if err != nil {
		return secret.String{}, err
	}
	if err := r.changeApplication(ctx, a, org, key, "application.rotate", rotateApplication,
		hashToken(r.ring, owner, f.token), f.scram); err != nil {
		return secret.String{}, err
	}
	return f.token, nil
}

const rotateApplication = `UPDATE application SET token_hash = $3, scram = $4, token_version = token_version + 1
	WHERE org = $1 AND key = $2`

// DeleteApplication deletes an API key.
func (r *Registry) DeleteApplication(ctx context.Context, a Actor, org auth.OrgID, key string) error {
	return r.changeApplication(ctx, a, org, key, "application.delete", `DELETE FROM application WHERE org = $1 AND key = $2`)
}
