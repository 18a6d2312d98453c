package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

// A Session is where a person is signed in.
type Session struct {
	ID        string
	Person    string
	Purpose   string // ForConsole or ForCLI
	Created   time.Time
	Expires   time.Time
	Address   string // where it was signed in from
	UserAgent string
	Verified  bool      // with a second factor
	Used      time.Time // last; within a minute
	UsedFrom  string    // then

	provider string // the uid of the sign-in provider that it came from
	within   auth.OrgID
}

const sessionColumns = `id, person, purpose, created_at, expires_at, address, user_agent, verified, used_at, used_from, provider, within`

func (s *Session) scan(row scanner) error {
	var created, expires, used int64
	err := row.Scan(&s.ID, &s.Person, &s.Purpose, &created, &expires, &s.Address, &s.UserAgent, &s.Verified, &used, &s.UsedFrom, &s.provider, &s.within)
	s.Created, s.Expires = fromMicros(created), fromMicros(expires)
	if s.Used = s.Created; used != 0 {
		s.Used = fromMicros(used)
	}
	return err
}

// errNoSession says that a session is unknown, over, or its person disabled.
var errNoSession = errs.E(errs.Unauthenticated, "not signed in, or the session has ended; sign in again")

// insertSession makes a session and returns its id. Sessions that ran out go at
// the same time.
func (r *Registry) insertSession(ctx context.Context, tx *store.Tx, person, purpose string, token secret.String,
	address, userAgent string) (string, error) {
	now := r.now()
	if _, err := tx.ExecContext(ctx, `DELETE FROM person_session WHERE expires_at < $1`, micros(now)); err != nil {
		return "", fmt.Errorf("delete old sessions: %w", err)
	}
	id, err := newUID()
	if err != nil {
		return "", err
	}
	life := ConsoleLife
	if purpose == ForCLI {
		life = AccessLife
	}
	if err := r.tellSignedIn(ctx, tx, Session{ID: id, Person: person, Purpose: purpose, Created: now, Expires: now.Add(life), Address: clip(address), UserAgent: clip(userAgent)}); err != nil {
		return "", err
	}
	const q = `INSERT INTO person_session (id, person, purpose, token_hash, created_at, expires_at, address, user_agent)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`
	_, err = tx.ExecContext(ctx, q, id, person, purpose, findHash(r.ring, "session", token),
		micros(now), micros(now.Add(life)), clip(address), clip(userAgent))
	return id, wrap("insert session", err)
}

// tellSignedIn has it told, once tx is committed, that s began.
func (r *Registry) tellSignedIn(ctx context.Context, tx *store.Tx, s Session) error {
	if r.signedIn == nil {
		return nil
	}
	rows, err := tx.QueryContext(ctx, `SELECT `+sessionColumns+` FROM person_session WHERE person = $1 ORDER BY id DESC LIMIT $2`, s.Person, maxLimit)
	if err != nil {
		return fmt.Errorf("list sessions: %w", err)
	}
	var before []Session
	err = each(rows, func() error {
		var one Session
		if err := one.scan(rows); err != nil {
			return fmt.Errorf("read session: %w", err)
		}
		before = append(before, one)
		return nil
	})
	if err == nil {
		tx.OnCommit(func() { r.signedIn(s, before) })
	}
	return err
}

// clip bounds a text that a stranger sent and makes it fit to be shown.
func clip(s string) string {
	out := make([]rune, 0, 200)
	for _, c := range s {
		if len(out) == cap(out) {
			break
		}
		if c < ' ' || c == 0x7f || c == '\uFFFD' {
			c = '?'
		}
		out = append(out, c)
	}
	return string(out)
}

// Session returns who is signed in with token. It is read from the store every
// time, so that a session that was ended is over at once.
func (r *Registry) Session(ctx context.Context, token secret.String, address string) (Actor, error) {
	var s Session
	var p Person
	err := r.view(store.ForAll(ctx), func(tx *store.Tx) (err error) {
		s, p, err = r.readSession(ctx, tx, token)
		return err
	})
	if err != nil {
		if errors.Is(err, errNoSession) {
			r.NoteRefusal(NotedRefusal{Class: RefusedSession, Address: address})
		}
		return Actor{}, err
	}
	a := Actor{Principal: auth.Principal{Kind: auth.Person, ID: p.ID}, Admin: p.Admin, Address: address, Session: s.ID, Verified: s.Verified,
		Provider: s.provider, Within: s.within}
	if err := r.unlockedActor(ctx, a, ""); err != nil {
		if errs.CodeOf(err) == errs.Denied {
			r.NoteRefusal(NotedRefusal{Class: RefusedRule, Who: a.Principal.String(), Address: address})
		}
		return Actor{}, err
	}
	r.noteUse(ctx, s, address)
	return a, nil
}

// useEvery is how exactly the last use of a session is known.
const useEvery = time.Minute

// noteUse notes that a session is used. If it cannot be noted, the request goes on:
// nothing depends on it.
func (r *Registry) noteUse(ctx context.Context, s Session, address string) {
	if r.now().Sub(s.Used) < useEvery && (s.UsedFrom == address || s.UsedFrom == "" && s.Address == address) {
		return
	}
	err := r.db.Update(store.ForAll(ctx), func(tx *store.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE person_session SET used_at = $2, used_from = $3 WHERE id = $1`, s.ID, micros(r.now()), clip(address))
		return err
	})
	if err != nil {
		r.log.WarnContext(ctx, "the use of a session is not noted", "err", err)
	}
}

// readSession returns the session of token and its person, if both are good.
func (r *Registry) readSession(ctx context.Context, tx *store.Tx, token secret.String) (Session, Person, error) {
	const q = `SELECT ` + sessionColumns + ` FROM person_session WHERE token_hash = $1`
	s, err := one[Session](tx.QueryRowContext(ctx, q, findHash(r.ring, "session", token)), errNoSession)
	if err != nil {
		return s, Person{}, err
	}
	p, err := r.sessionPerson(ctx, tx, s)
	return s, p, err
}

// sessionPerson returns the person of s, if s has not ended.
func (r *Registry) sessionPerson(ctx context.Context, tx *store.Tx, s Session) (Person, error) {
	p, err := readPerson(ctx, tx, s.Person)
	if errs.CodeOf(err) == errs.NotFound || err == nil && (p.Disabled || !r.now().Before(s.Expires)) {
		return Person{}, errNoSession
	}
	return p, err
}

// SignOut ends the session of token, and the connections made with it.
func (r *Registry) SignOut(ctx context.Context, token secret.String) error {
	return r.change(store.ForAll(ctx), Actor{}, func(tx *store.Tx) (effect, error) {
		s, p, err := r.readSession(ctx, tx, token)
		if err != nil {
			return effect{}, err
		}
		e := effect{by: auth.Principal{Kind: auth.Person, ID: p.ID}, action: "signout", target: s.ID}
		err = r.endSession(ctx, tx, s.Person, s.ID, &e)
		return e, err
	})
}

// Sessions lists where a is signed in.
func (r *Registry) Sessions(ctx context.Context, a Actor) ([]Session, error) {
	if a.Principal.Kind != auth.Person {
		return nil, errs.E(errs.Denied, "only a person has sessions")
	}
	const q = `SELECT ` + sessionColumns + ` FROM person_session WHERE person = $1 AND expires_at > $2 ORDER BY id`
	return list[Session](store.ForAll(ctx), r, q, a.Principal.ID, micros(r.now()))
}

// RevokeSession ends one of a's sessions, and the connections made with it.
func (r *Registry) RevokeSession(ctx context.Context, a Actor, id string) error {
	if a.Principal.Kind != auth.Person {
		return errs.E(errs.Denied, "only a person has sessions")
	}
	return r.change(store.ForAll(ctx), a, func(tx *store.Tx) (effect, error) {
		e := effect{action: "session.revoke", target: id}
		err := r.endSession(ctx, tx, a.Principal.ID, id, &e)
		return e, err
	})
}

// EndOtherSessions ends all of a's sessions but the one a works with, and the
// connections made with them.
func (r *Registry) EndOtherSessions(ctx context.Context, a Actor) error {
	if a.Principal.Kind != auth.Person {
		return errs.E(errs.Denied, "only a person has sessions")
	}
	return r.change(store.ForAll(ctx), a, func(tx *store.Tx) (effect, error) {
		e := effect{action: "session.revoke_others", target: a.Principal.ID}
		return e, r.endOthers(ctx, tx, a, &e)
	})
}

func (r *Registry) endOthers(ctx context.Context, tx *store.Tx, a Actor, e *effect) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM person_session WHERE person = $1 AND id <> $2`, a.Principal.ID, a.Session); err != nil {
		return fmt.Errorf("delete sessions: %w", err)
	}
	return affectPerson(ctx, tx, a.Principal.ID, e)
}

func (r *Registry) endSession(ctx context.Context, tx *store.Tx, person, id string, e *effect) error {
	res, err := tx.ExecContext(ctx, `DELETE FROM person_session WHERE person = $1 AND id = $2`, person, id)
	if err := found(res, err, errs.E(errs.NotFound, "session %q not found", id)); err != nil {
		return err
	}
	return affectPerson(ctx, tx, person, e)
}

// affectPerson adds a person to e in every organisation, because a person may
// be connected in each.
func affectPerson(ctx context.Context, tx *store.Tx, person string, e *effect) error {
	rows, err := tx.QueryContext(ctx, `SELECT id FROM org ORDER BY id LIMIT $1`, maxLimit+1)
	if err != nil {
		return fmt.Errorf("list organisations: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var org auth.OrgID
		if err := rows.Scan(&org); err != nil {
			return fmt.Errorf("read organisation: %w", err)
		}
		e.affected = append(e.affected, auth.Principal{Org: org, Kind: auth.Person, ID: person})
	}
	e.everyone = len(e.affected) > maxLimit
	return wrap("list organisations", rows.Err())
}
