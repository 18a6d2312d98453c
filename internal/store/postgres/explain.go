package postgres

import (
	"errors"
	"net"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keepmq/keepmq/internal/errs"
)

// state returns the SQLSTATE of an error of the database, or "".
func state(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// again reports whether a transaction may succeed when it is done once more:
// it met the change of another one.
func again(err error) bool {
	const serializationFailure, deadlock = "40001", "40P01"
	s := state(err)
	return s == serializationFailure || s == deadlock
}

// advice is by SQLSTATE, or by its class.
var advice = map[string]string{
	"53100": "the disk of the database is full; nothing was changed; free some space",
	"53300": "the database has no connection left; raise its max_connections",
	"53":    "the database has too little of something; look at its log",
	"57":    "the database was stopped or is starting; try again",
	"58":    "the disk of the database does not work; look at its log",
	"XX":    "the database is damaged; look at its log and restore a backup",
	"28":    "the database refuses the role or its password; check the database URL and pg_hba.conf",
	"3D":    "the database does not exist; create it first",
	"25006": "the database can only be read; a replica cannot be used",
	"40":    "the database is busy; try again",
	"55P03": "the database is busy; try again",
	"42501": "the role may not do that in the database; let the owner's URL bring the schema up to date",
	"42P01": "the schema of the database is not complete; let the owner's URL bring it up to date",
	"08":    unreachable,
}

const unreachable = "the database cannot be reached; check that it runs, its URL, and the network"

// explain says what the person who runs KeepMQ can do about an error that is not
// a matter of the statement. What has a code already is returned as it is.
func explain(err error) error {
	if err == nil || errs.CodeOf(err) != errs.Internal {
		return err
	}
	if s := state(err); s != "" {
		msg, ok := advice[s]
		if !ok {
			msg, ok = advice[s[:2]]
		}
		if !ok {
			return err
		}
		return errs.Wrap(errs.Unavailable, err, msg)
	}
	var connect *pgconn.ConnectError
	var network net.Error
	if errors.As(err, &connect) || errors.As(err, &network) {
		return errs.Wrap(errs.Unavailable, err, unreachable)
	}
	return err
}
