package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/auth/jwt"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/store"
)

// An Issuer is an identity provider whose signed tokens let clients of an
// organisation in. A token stands for the device, gateway, application or user
// whose ID is in its claim: "type:id", the API key or the user name. It lets
// nobody in who does not exist here.
type Issuer struct {
	Org        auth.OrgID
	Name       string
	Issuer     string   // what tokens have in "iss"
	Audience   string   // what tokens have in "aud", maybe with others
	Claim      string   // the claim that says whose token it is; "sub" when empty
	Algorithms []string // with which tokens may be signed
	Keys       jwt.Keys
	Version    int // counts its changes
	Created    time.Time
	Changed    time.Time
	uid        string
}

// maxIssuers bounds the issuers of one organisation.
const maxIssuers = 16

const issuerColumns = `org, name, uid, version, issuer, audience, claim, algorithms, keys, created_at, changed_at`

func (i *Issuer) scan(row scanner) error {
	var created, changed int64
	var algorithms, keys string
	err := row.Scan(&i.Org, &i.Name, &i.uid, &i.Version, &i.Issuer, &i.Audience, &i.Claim, &algorithms, &keys, &created, &changed)
	if err != nil {
		return err
	}
	i.Created, i.Changed = fromMicros(created), fromMicros(changed)
	if err := json.Unmarshal([]byte(algorithms), &i.Algorithms); err != nil {
		return fmt.Errorf("decode algorithms: %w", err)
	}
	i.Keys, err = jwt.ParseKeys([]byte(keys))
	return wrap("decode keys", err)
}

func noIssuer(name string) error { return errs.E(errs.NotFound, "issuer %q not found", name) }

// check checks i and fills in what has a default.
func (i *Issuer) check() error {
	var bad mistakes
	bad.add(auth.CheckName("name", i.Name))
	if i.Claim == "" {
		i.Claim = "sub"
	}
	for _, f := range []struct {
		name, value string
		most        int
	}{{"issuer", i.Issuer, 500}, {"audience", i.Audience, 500}, {"claim", i.Claim, 100}} {
		if f.value == "" {
			bad.add(errs.E(errs.Invalid, "%s must not be empty", f.name))
		}
		bad.add(checkText(f.name, f.value, f.most))
	}
	var err error
	i.Algorithms, err = jwt.ParseAlgorithms(i.Algorithms)
	bad.add(err)
	if len(i.Keys.IDs()) == 0 {
		bad.add(errs.E(errs.Invalid, "keys must not be empty"))
	}
	return bad.err()
}

// detail describes i for the audit record.
func (i *Issuer) detail() map[string]any {
	return map[string]any{"issuer": i.Issuer, "audience": i.Audience, "claim": i.Claim,
		"algorithms": i.Algorithms, "keys": i.Keys.IDs(), "version": i.Version}
}

// encoded returns the columns of i that hold JSON.
func (i *Issuer) encoded() (algorithms, keys string, err error) {
	a, err := json.Marshal(i.Algorithms)
	if err != nil {
		return "", "", fmt.Errorf("encode algorithms: %w", err)
	}
	k, err := i.Keys.Document()
	return string(a), string(k), err
}

// CreateIssuer has an organisation accept the tokens of an issuer.
func (r *Registry) CreateIssuer(ctx context.Context, a Actor, i Issuer) (Issuer, error) {
	ctx, err := r.may(ctx, a, i.Org, permission.IssuerWrite)
	if err != nil {
		return Issuer{}, err
	}
	if err := i.check(); err != nil {
		return Issuer{}, err
	}
	i.Version, i.Created = 1, r.now()
	i.Changed = i.Created
	err = r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		return effect{org: i.Org, action: "issuer.create", target: i.Name, detail: i.detail()}, insertIssuer(ctx, tx, &i)
	})
	if err != nil {
		return Issuer{}, err
	}
	return i, nil
}

func insertIssuer(ctx context.Context, tx *store.Tx, i *Issuer) error {
	if _, err := readOrg(ctx, tx, i.Org); err != nil {
		return err
	}
	var n int
	if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM issuer WHERE org = $1`, i.Org).Scan(&n); err != nil {
		return fmt.Errorf("count issuers: %w", err)
	}
	if n >= maxIssuers {
		return errs.E(errs.Exhausted, "an organisation may have at most %d issuers", maxIssuers)
	}
	algorithms, keys, err := i.encoded()
	if err != nil {
		return err
	}
	if i.uid, err = newUID(); err != nil {
		return err
	}
	const q = `INSERT INTO issuer (` + issuerColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`
	_, err = tx.ExecContext(ctx, q, i.Org, i.Name, i.uid, i.Version, i.Issuer, i.Audience, i.Claim, algorithms, keys,
		micros(i.Created), micros(i.Changed))
	if store.IsUnique(err) {
		return errs.E(errs.Conflict, "issuer %q exists, or another one has the same iss", i.Name)
	}
	return wrap("insert issuer", err)
}

// Issuers lists the issuers of an organisation by name.
func (r *Registry) Issuers(ctx context.Context, a Actor, org auth.OrgID, p Page) ([]Issuer, string, error) {
	ctx, err := r.may(ctx, a, org, permission.IssuerRead)
	if err != nil {
		return nil, "", err
	}
	size, err := p.size()
	if err != nil {
		return nil, "", err
	}
	key, err := p.after("issuer", 1)
	if err != nil {
		return nil, "", err
	}
	const q = `SELECT ` + issuerColumns + ` FROM issuer WHERE org = $1 AND name > $2 ORDER BY name LIMIT $3`
	all, err := list[Issuer](ctx, r, q, org, key[0], size+1)
	if err != nil {
		return nil, "", err
	}
	all, next := cut(all, size, func(i Issuer) string { return cursor("issuer", i.Name) })
	return all, next, nil
}

// Issuer returns one issuer.
func (r *Registry) Issuer(ctx context.Context, a Actor, org auth.OrgID, name string) (Issuer, error) {
	ctx, err := r.may(ctx, a, org, permission.IssuerRead)
	if err != nil {
		return Issuer{}, err
	}
	var i Issuer
	err = r.view(ctx, func(tx *store.Tx) (err error) {
		if _, err := readOrg(ctx, tx, org); err != nil {
			return err
		}
		i, err = readIssuer(ctx, tx, org, name)
		return err
	})
	return i, err
}

func readIssuer(ctx context.Context, tx *store.Tx, org auth.OrgID, name string) (Issuer, error) {
	const q = `SELECT ` + issuerColumns + ` FROM issuer WHERE org = $1 AND name = $2`
	return one[Issuer](tx.QueryRowContext(ctx, q, org, name), noIssuer(name))
}

// UpdateIssuer changes an issuer; what is empty in to stays as it is. Whoever
// was let in by a token of it has to authenticate again: what the token was
// checked against is not there any more.
func (r *Registry) UpdateIssuer(ctx context.Context, a Actor, to Issuer) (Issuer, error) {
	ctx, err := r.may(ctx, a, to.Org, permission.IssuerWrite)
	if err != nil {
		return Issuer{}, err
	}
	var i Issuer
	err = r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		if _, err := readOrg(ctx, tx, to.Org); err != nil {
			return effect{}, err
		}
		var err error
		if i, err = readIssuer(ctx, tx, to.Org, to.Name); err != nil {
			return effect{}, err
		}
		i.take(to)
		if err := i.check(); err != nil {
			return effect{}, err
		}
		i.Version++
		i.Changed = r.now()
		e := effect{org: i.Org, action: "issuer.update", target: i.Name, detail: i.detail(), affected: []auth.Principal{{Org: i.Org}}}
		algorithms, keys, err := i.encoded()
		if err != nil {
			return e, err
		}
		const q = `UPDATE issuer SET version = $3, issuer = $4, audience = $5, claim = $6, algorithms = $7, keys = $8, changed_at = $9
			WHERE org = $1 AND name = $2`
		res, err := tx.ExecContext(ctx, q, i.Org, i.Name, i.Version, i.Issuer, i.Audience, i.Claim, algorithms, keys, micros(i.Changed))
		if store.IsUnique(err) {
			return e, errs.E(errs.Conflict, "another issuer has the same iss")
		}
		return e, found(res, err, noIssuer(i.Name))
	})
	if err != nil {
		return Issuer{}, err
	}
	return i, nil
}

// take takes over what is not empty in to.
func (i *Issuer) take(to Issuer) {
	set := func(v *string, to string) {
		if to != "" {
			*v = to
		}
	}
	set(&i.Issuer, to.Issuer)
	set(&i.Audience, to.Audience)
	set(&i.Claim, to.Claim)
	if len(to.Algorithms) > 0 {
		i.Algorithms = to.Algorithms
	}
	if len(to.Keys.IDs()) > 0 {
		i.Keys = to.Keys
	}
}

// DeleteIssuer has an organisation accept no token of an issuer any more.
// Connections that were made with one end.
func (r *Registry) DeleteIssuer(ctx context.Context, a Actor, org auth.OrgID, name string) error {
	ctx, err := r.may(ctx, a, org, permission.IssuerWrite)
	if err != nil {
		return err
	}
	return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: org, action: "issuer.delete", target: name, affected: []auth.Principal{{Org: org}}}
		if _, err := readOrg(ctx, tx, org); err != nil {
			return e, err
		}
		res, err := tx.ExecContext(ctx, `DELETE FROM issuer WHERE org = $1 AND name = $2`, org, name)
		return e, found(res, err, noIssuer(name))
	})
}
