package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

// A BootstrapResult is what the first start created, with its secrets, which are
// nowhere else. With Already the secrets are empty: they cannot be shown again.
type BootstrapResult struct {
	Already       bool
	SignedIn      bool // somebody has signed in, ever
	Org           Org  // with Already only its id; it may have been deleted since
	Administrator Person
	ConsoleCode   secret.String // signs in to the console once, within CodeLife
	CLICode       secret.String // signs in from the command line once, within CodeLife

	// For the first lines a person tries.
	Device           Device
	DeviceToken      secret.String
	Application      Application
	ApplicationToken secret.String
}

// The names of what the first start creates.
const (
	firstOrg    = "My organisation"
	firstPerson = "Administrator"
	firstType   = "sensor"
	firstDevice = "sensor-1"
	firstApp    = "First application"
)

// errAlready ends a bootstrap that is not the first.
var errAlready = errors.New("the installation exists")

// Bootstrap creates what an installation begins with: an organisation, an
// administrator with one-time codes, a device and an API key. It does so once:
// all of it or, after a crash, nothing. Later calls return Already.
func (r *Registry) Bootstrap(ctx context.Context) (BootstrapResult, error) {
	var b BootstrapResult
	a := systemActor("bootstrap")
	err := r.change(store.ForAll(ctx), a, func(tx *store.Tx) (effect, error) {
		var did []effect
		var err error
		if b, did, err = r.bootstrap(ctx, tx); err != nil {
			return effect{}, err
		}
		for _, e := range did {
			if err := audit.Append(ctx, tx, e.event(a)); err != nil {
				return effect{}, fmt.Errorf("append audit record: %w", err)
			}
		}
		return effect{action: "installation.create", target: b.Administrator.ID}, nil
	})
	if errors.Is(err, errAlready) {
		return r.bootstrapped(ctx)
	}
	if err != nil {
		return BootstrapResult{}, err
	}
	return b, nil
}

func systemActor(name string) Actor {
	return Actor{Principal: auth.Principal{Kind: auth.System, ID: name}, Admin: true}
}

// bootstrapped describes the installation that there is, without its secrets.
func (r *Registry) bootstrapped(ctx context.Context) (BootstrapResult, error) {
	b := BootstrapResult{Already: true}
	err := r.view(store.ForAll(ctx), func(tx *store.Tx) error {
		var first sql.NullInt64
		err := tx.QueryRowContext(ctx, `SELECT first_sign_in_at, org FROM installation`).Scan(&first, &b.Org.ID)
		b.SignedIn = first.Valid
		return wrap("read installation", err)
	})
	return b, err
}

func (r *Registry) bootstrap(ctx context.Context, tx *store.Tx) (b BootstrapResult, did []effect, err error) {
	var there int
	switch err := tx.QueryRowContext(ctx, `SELECT 1 FROM installation`).Scan(&there); {
	case err == nil:
		return b, nil, errAlready
	case !errors.Is(err, sql.ErrNoRows):
		return b, nil, fmt.Errorf("read installation: %w", err)
	}
	b.Org = r.completeOrg(Org{Name: firstOrg})
	if err := r.insertOrg(ctx, tx, b.Org); err != nil {
		return b, nil, err
	}
	if b.Administrator, err = r.insertAdministrator(ctx, tx); err != nil {
		return b, nil, err
	}
	owner := Member{Org: b.Org.ID, Person: b.Administrator.ID, Role: permission.Owner, Created: r.now()}
	if err := insertMember(ctx, tx, owner); err != nil {
		return b, nil, err
	}
	t := DeviceType{Org: b.Org.ID, ID: firstType, Class: ClassDevice, Description: "Created at the first start", Created: r.now()}
	if err := insertType(ctx, tx, t); err != nil {
		return b, nil, err
	}
	b.Device = Device{Org: b.Org.ID, Type: t.ID, ID: firstDevice}
	b.Application = Application{Org: b.Org.ID, Key: newKey(b.Org.ID), Name: firstApp, Created: r.now(),
		Role: permission.Application, Maker: auth.Principal{Kind: auth.System}}
	forDevice, err := r.newFresh(b.Device.Principal())
	if err != nil {
		return b, nil, err
	}
	forApplication, err := r.newFresh(b.Application.Principal())
	if err != nil {
		return b, nil, err
	}
	b.DeviceToken, b.ApplicationToken = forDevice.token, forApplication.token
	b.Device, err = r.insertDevice(ctx, tx, b.Device, forDevice)
	if err != nil {
		return b, nil, err
	}
	if err := r.insertApplication(ctx, tx, b.Application, forApplication); err != nil {
		return b, nil, err
	}
	if err := r.firstCodes(ctx, tx, b.Administrator.ID, &b); err != nil {
		return b, nil, err
	}
	const q = `INSERT INTO installation (id, created_at, person, org, device_type, device, application)
		VALUES (1, $1, $2, $3, $4, $5, $6)`
	_, err = tx.ExecContext(ctx, q, micros(r.now()), b.Administrator.ID, b.Org.ID, t.ID, b.Device.ID, b.Application.Key)
	return b, []effect{
		{org: b.Org.ID, action: "org.create", target: string(b.Org.ID)},
		{action: "person.create", target: b.Administrator.ID},
		{org: b.Org.ID, action: "type.create", target: t.ID},
		{org: b.Org.ID, action: "device.create", target: b.Device.Principal().ID},
		{org: b.Org.ID, action: "application.create", target: b.Application.Key},
		{action: "signin.code", target: b.Administrator.ID},
	}, wrap("insert installation", err)
}

func (r *Registry) insertAdministrator(ctx context.Context, tx *store.Tx) (Person, error) {
	id, err := newUID()
	if err != nil {
		return Person{}, err
	}
	p := Person{ID: id, Name: firstPerson, Admin: true, Created: r.now()}
	const q = `INSERT INTO person (id, name, admin, created_at) VALUES ($1, $2, $3, $4)`
	_, err = tx.ExecContext(ctx, q, p.ID, p.Name, p.Admin, micros(p.Created))
	return p, wrap("insert person", err)
}

func (r *Registry) firstCodes(ctx context.Context, tx *store.Tx, person string, b *BootstrapResult) (err error) {
	if b.ConsoleCode, err = r.insertCode(ctx, tx, person, ForConsole); err != nil {
		return err
	}
	b.CLICode, err = r.insertCode(ctx, tx, person, ForCLI)
	return err
}

// Reissue makes new one-time codes for the first administrator, for when nobody
// saw or used those of Bootstrap; the old ones are void. As soon as somebody has
// signed in it is refused. Everything else stays as it is.
func (r *Registry) Reissue(ctx context.Context) (BootstrapResult, error) {
	var b BootstrapResult
	err := r.change(store.ForAll(ctx), systemActor("bootstrap"), func(tx *store.Tx) (effect, error) {
		b = BootstrapResult{Already: true}
		var first sql.NullInt64
		const q = `SELECT first_sign_in_at, person, org FROM installation`
		err := tx.QueryRowContext(ctx, q).Scan(&first, &b.Administrator.ID, &b.Org.ID)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return effect{}, errs.E(errs.NotFound, "there is no installation yet; start the server once")
		case err != nil:
			return effect{}, fmt.Errorf("read installation: %w", err)
		case first.Valid:
			return effect{}, errs.E(errs.Conflict, "somebody has signed in already; ask an administrator for a sign-in code")
		}
		if b.Administrator, err = readPerson(ctx, tx, b.Administrator.ID); err != nil {
			return effect{}, err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM sign_in_code WHERE person = $1`, b.Administrator.ID); err != nil {
			return effect{}, fmt.Errorf("delete sign-in codes: %w", err)
		}
		err = r.firstCodes(ctx, tx, b.Administrator.ID, &b)
		return effect{org: b.Org.ID, action: "installation.reissue", target: b.Administrator.ID}, err
	})
	if err != nil {
		return BootstrapResult{}, err
	}
	return b, nil
}
