package registry

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/ca"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/profile"
	"github.com/keepmq/keepmq/internal/refusal"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

var _ auth.Verifier = (*Registry)(nil)

// errRefused is the answer to every credential that is not good. It does not
// tell why: whoever guesses learns nothing.
var errRefused = errs.E(errs.Unauthenticated, "the client id, user name, password or certificate is not accepted")

// errGone is Renew's answer about who does not exist any more.
var errGone = errs.E(errs.NotFound, "this client does not exist any more")

// Why somebody well-formed is refused. These go to the log only.
var (
	errDisabled          = errors.New("it or its organisation is disabled")
	errEnded             = errors.New("the credential has ended")
	errCertificateBad    = errors.New("the certificate was revoked, or was not given to this device")
	errNotMember         = errors.New("the person may not act in this organisation")
	errNoRights          = errors.New("it has no rights, or whoever made it has none")
	errCredentialChanged = errors.New("the credential is no longer good")
)

// refusals are the reasons that are answers. Any other error is a check that
// could not be made.
var refusals = []error{errNobody, errWrong, errDisabled, errEnded, errCertificateBad, errNotMember, errNoRights,
	errCredentialChanged, errNotAnonymous, errOtherName, errNoSession, errRefused, errNoSCRAM, errToken}

// refuse turns the reason why p is not let in into the answer, logs it, and keeps
// it for p's organisation under the number that is in the answer. The number is
// that of p, whatever the reason.
func (r *Registry) refuse(ctx context.Context, p auth.Principal, reason error) error {
	return r.refuseFrom(ctx, p, "", reason)
}

// refuseFrom is refuse for somebody at an address.
func (r *Registry) refuseFrom(ctx context.Context, p auth.Principal, address string, reason error) error {
	r.NoteRefusal(NotedRefusal{Org: p.Org, Class: classOf(reason), Who: p.String(), Address: address})
	note := func() string {
		return r.Refusals.Note(refusal.Refusal{Org: string(p.Org), Principal: p.String(), Action: "connect", Reason: why(reason)})
	}
	for _, known := range refusals {
		if errors.Is(reason, known) {
			r.log.InfoContext(ctx, "client refused", "org", string(p.Org), "client", p.String(), "err", reason)
			return numbered(errRefused, note())
		}
	}
	if errs.CodeOf(reason) == errs.Denied {
		// It is who it says it is, and has no place in this organisation's profile.
		r.log.InfoContext(ctx, "client refused", "org", string(p.Org), "client", p.String(), "err", reason)
		return numbered(reason, note())
	}
	r.log.ErrorContext(ctx, "client refused: it could not be checked", "org", string(p.Org), "client", p.String(), "err", reason)
	note()
	return errs.Wrap(errs.Unavailable, reason, "credentials cannot be checked now; try again")
}

// refuseMalformed refuses what can be refused without asking who the client is; p
// is what it says of that. The answer is that of every other refusal.
func (r *Registry) refuseMalformed(ctx context.Context, c auth.Credentials, p auth.Principal, reason error) error {
	if errs.CodeOf(reason) == errs.Unavailable {
		return r.refuseFrom(ctx, p, addressText(c.Remote.Addr()), reason)
	}
	r.log.InfoContext(ctx, "client refused", "client", clip(c.ClientID), "err", reason)
	r.NoteRefusal(NotedRefusal{Org: p.Org, Class: RefusedMalformed, Who: c.ClientID, Address: addressText(c.Remote.Addr())})
	return numbered(errRefused, r.Refusals.Note(refusal.Refusal{
		Org: string(p.Org), Principal: p.String(), Client: clip(c.ClientID), Action: "connect", Reason: reason.Error()}))
}

// why says for the owner why somebody is refused.
func why(reason error) string {
	if errs.CodeOf(reason) == errs.Internal || errs.Message(reason) == "" {
		for _, known := range refusals {
			if errors.Is(reason, known) {
				return known.Error()
			}
		}
		return "it could not be checked; the server's log says why"
	}
	return errs.Message(reason)
}

// numbered puts the number of a refusal into its message.
func numbered(refused error, id string) error {
	if id == "" {
		return refused
	}
	return errs.E(errs.CodeOf(refused), "%s (refusal %s)", errs.Message(refused), id)
}

// Verify implements auth.Verifier.
func (r *Registry) Verify(ctx context.Context, c auth.Credentials) (*auth.Grant, error) {
	cl, err := r.readClaim(ctx, c)
	if err != nil {
		return nil, r.refuseMalformed(ctx, c, cl.principal, err)
	}
	g, err := r.verify(ctx, cl)
	if err != nil {
		return nil, r.refuseFrom(ctx, cl.principal, addressText(cl.address), err)
	}
	return g, nil
}

// addressText is empty for an address that is not known.
func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().String()
}

func (r *Registry) verify(ctx context.Context, cl claim) (*auth.Grant, error) {
	switch cl.principal.Kind {
	case auth.Person:
		return r.verifyPerson(ctx, cl)
	case auth.Anonymous:
		return r.anonymous(ctx, auth.Ref{Principal: cl.principal, Client: cl.client, Address: cl.address})
	}
	if cl.principal.Kind == auth.User {
		return r.verifyUser(ctx, cl)
	}
	return r.verifyToken(ctx, cl)
}

// verifyToken lets in who has the token, the certificate or both.
func (r *Registry) verifyToken(ctx context.Context, cl claim) (*auth.Grant, error) {
	return r.admit(ctx, cl, proof{
		accept: func(a *account) (accepted, bool) { return r.byToken(a, cl.token) },
	})
}

// A proof is what a client presents beside a certificate: a token, or what an
// authentication method makes of one.
type proof struct {
	accept func(*account) (accepted, bool) // what it is, if it is good for the account
}

// admit lets in who is as claimed: by the proof, the certificate or both.
func (r *Registry) admit(ctx context.Context, cl claim, p proof) (*auth.Grant, error) {
	if cl.cert != nil {
		// First, so that a device learns nothing about other names.
		if owner, err := ca.PrincipalOf(cl.cert); err != nil || owner != cl.principal {
			return nil, errOtherName
		}
	}
	var with accepted
	a, err := r.account(ctx, cl.principal, func(a *account) (ok bool) {
		if !cl.hasToken {
			return true
		}
		with, ok = p.accept(a)
		return ok
	})
	if err != nil {
		return nil, err
	}
	ref := auth.Ref{Principal: cl.principal, Client: cl.client, Expires: with.expires, Address: cl.address}
	var proofs []string
	if cl.hasToken {
		proofs = append(proofs, with.credential)
	}
	if cl.cert != nil {
		if err := r.checkCertificate(ctx, cl.principal, serialOf(cl.cert)); err != nil {
			return nil, err
		}
		if end := cl.cert.NotAfter; ref.Expires.IsZero() || end.Before(ref.Expires) {
			ref.Expires = end
		}
		proofs = append(proofs, "cert:"+serialOf(cl.cert)+":"+hex.EncodeToString(cl.cert.AuthorityKeyId))
	}
	ref.Credential = strings.Join(proofs, ",")
	g, err := r.grant(ctx, a, ref)
	if err == nil {
		r.uses.note(a, with.version, r.now(), addressText(cl.address))
	}
	return g, err
}

// grant returns the grant of a, unless a is disabled or locked, ref has expired, or
// the connection is not as a's organisation wants it.
func (r *Registry) grant(ctx context.Context, a *account, ref auth.Ref) (*auth.Grant, error) {
	if a.disabled {
		return nil, errDisabled
	}
	if err := r.unlocked(ctx, a.lockable(ref)); err != nil {
		return nil, err
	}
	if err := r.passes(ctx, ref); err != nil {
		return nil, err
	}
	return r.rightsOf(ctx, a, ref)
}

// rightsOf returns what a may do, from wherever and with whatever it connects.
func (r *Registry) rightsOf(ctx context.Context, a *account, ref auth.Ref) (*auth.Grant, error) {
	if a.disabled {
		return nil, errDisabled
	}
	if !a.until.IsZero() && (ref.Expires.IsZero() || a.until.Before(ref.Expires)) {
		ref.Expires = a.until
	}
	if k := a.principal.Kind; (k == auth.Application || k == auth.Person) && rightsIn(a.parts).Set() == 0 {
		return nil, errNoRights
	}
	if !ref.Expires.IsZero() && !r.clock().Before(ref.Expires) {
		return nil, errEnded
	}
	ref.UID = a.uid
	id := a.identity(ref)
	var err error
	if id.Attached, err = r.unlockedOf(ctx, a.principal.Org, a.attached); err != nil {
		return nil, err
	}
	if id.OrgLimits, id.TypeLimits, err = r.limitsOf(ctx, a.principal); err != nil {
		return nil, err
	}
	g, err := profile.Grant(a.profile, id)
	if err != nil {
		return nil, errs.Wrap(errs.Denied, err, errs.Message(err))
	}
	return g, nil
}

// checkCertificate checks that device p was given the certificate, and that it
// was not revoked since. That it is ours and in time, TLS has verified.
func (r *Registry) checkCertificate(ctx context.Context, p auth.Principal, serial string) error {
	typ, id := p.TypeAndID()
	const q = `SELECT COUNT(*) FROM device_certificate
		WHERE serial = $1 AND org = $2 AND type = $3 AND device = $4 AND not_after > $5`
	var n int
	err := r.db.View(forOrg(ctx, p.Org), func(tx *store.Tx) error {
		return tx.QueryRowContext(ctx, q, serial, p.Org, typ, id, micros(r.now())).Scan(&n)
	})
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	number, ok := new(big.Int).SetString(serial, 16)
	if n != 1 || !ok {
		return errCertificateBad
	}
	revoked, err := r.issuer.Revoked(ctx, number)
	if err != nil {
		return fmt.Errorf("ask for revocation: %w", err)
	}
	if revoked {
		return errCertificateBad
	}
	return nil
}

// verifyPerson lets a person in with an access token, who may do what the role in
// the organisation allows.
func (r *Registry) verifyPerson(ctx context.Context, cl claim) (*auth.Grant, error) {
	var s Session
	return r.personGrant(ctx, auth.Ref{Principal: cl.principal, Client: cl.client, Address: cl.address}, func(tx *store.Tx) (_ Session, p Person, err error) {
		s, p, err = r.readSession(ctx, tx, cl.token)
		return s, p, err
	})
}

// personGrant returns the grant of the person whose session find finds, in the
// organisation and for the client of ref.
func (r *Registry) personGrant(ctx context.Context, ref auth.Ref,
	find func(*store.Tx) (Session, Person, error)) (*auth.Grant, error) {
	var a *account
	var expires time.Time
	var session string
	org := ref.Principal.Org
	err := r.db.View(forOrg(ctx, org), func(tx *store.Tx) error {
		s, p, err := find(tx)
		if err != nil {
			return err
		}
		o, err := readOrg(ctx, tx, org)
		if err != nil {
			return nobody(err)
		}
		held, err := r.membership(ctx, tx, org, p.ID)
		if err != nil {
			return err
		}
		held = (Actor{Provider: s.provider, Within: s.within}).comesFrom(org, held)
		if !held.holds {
			return errNotMember
		}
		if held.factor && !s.Verified {
			return errUnverified
		}
		a = &account{principal: auth.Principal{Org: org, Kind: auth.Person, ID: p.ID}, profile: o.Profile, disabled: o.Disabled, home: o.Home,
			parts: held.parts, until: held.until}
		expires, session = s.Expires, s.ID
		return reachDevices(ctx, tx, org, a.parts)
	})
	if err != nil {
		return nil, err
	}
	return r.grant(ctx, a, auth.Ref{Principal: a.principal, Client: ref.Client, Credential: "session:" + session, Expires: expires,
		Address: ref.Address})
}

// Renew implements auth.Verifier.
func (r *Registry) Renew(ctx context.Context, ref auth.Ref) (*auth.Grant, error) {
	g, err := r.renew(ctx, ref)
	switch {
	case err == nil:
		return g, nil
	case errors.Is(err, errNobody):
		return nil, errGone
	case ref == auth.Ref{Principal: ref.Principal} && (errors.Is(err, errCredentialChanged) || errors.Is(err, errNoSession)):
		return nil, errRefused // it was asked only whether it exists
	}
	return nil, r.refuse(ctx, ref.Principal, err)
}

// exists returns errNobody if there is no organisation of that name, and a
// refusal if there is: nobody is let in as a whole organisation.
func (r *Registry) exists(ctx context.Context, org auth.OrgID) error {
	return r.db.View(forOrg(ctx, org), func(tx *store.Tx) error {
		if _, err := readOrg(ctx, tx, org); err != nil {
			return nobody(err)
		}
		return errCredentialChanged
	})
}

func (r *Registry) renew(ctx context.Context, ref auth.Ref) (*auth.Grant, error) {
	switch ref.Principal.Kind {
	case auth.Person:
		return r.renewPerson(ctx, ref)
	case auth.AnyKind:
		return nil, r.exists(ctx, ref.Principal.Org)
	case auth.System:
		return nil, errCredentialChanged // it has none
	case auth.Anonymous:
		return r.anonymous(ctx, ref)
	}
	a, err := r.account(ctx, ref.Principal, func(*account) bool { return true })
	if err != nil {
		return nil, err
	}
	if ref.UID != a.uid {
		return nil, errCredentialChanged
	}
	if !ref.Expires.IsZero() && !r.clock().Before(ref.Expires) {
		return nil, errEnded
	}
	for proof := range strings.SplitSeq(ref.Credential, ",") {
		kind, serial, _ := strings.Cut(proof, ":")
		switch kind {
		case "token":
			t, ok := a.named(proof)
			if !ok {
				return nil, errCredentialChanged
			}
			// When the token ends may have changed; what else there is, has not.
			if proof == ref.Credential || !t.expires.IsZero() && (ref.Expires.IsZero() || t.expires.Before(ref.Expires)) {
				ref.Expires = t.expires
			}
		case "cert":
			serial, _, _ = strings.Cut(serial, ":")
			if err := r.checkCertificate(ctx, ref.Principal, serial); err != nil {
				return nil, err
			}
		case "issuer":
			if err := r.checkIssuer(ctx, ref.Principal.Org, serial); err != nil {
				return nil, err
			}
		default:
			return nil, errCredentialChanged
		}
	}
	return r.grant(ctx, a, ref)
}

// nobody says so where something was not found.
func nobody(err error) error {
	if err != nil && errs.CodeOf(err) == errs.NotFound {
		return errNobody
	}
	return err
}

func (r *Registry) renewPerson(ctx context.Context, ref auth.Ref) (*auth.Grant, error) {
	id, _ := strings.CutPrefix(ref.Credential, "session:")
	return r.personGrant(ctx, ref, func(tx *store.Tx) (Session, Person, error) {
		if _, err := readPerson(ctx, tx, ref.Principal.ID); err != nil {
			return Session{}, Person{}, nobody(err)
		}
		if _, err := readOrg(ctx, tx, ref.Principal.Org); err != nil {
			return Session{}, Person{}, nobody(err)
		}
		const q = `SELECT ` + sessionColumns + ` FROM person_session WHERE id = $1 AND person = $2`
		s, err := one[Session](tx.QueryRowContext(ctx, q, id, ref.Principal.ID), errNoSession)
		if err != nil {
			return s, Person{}, err
		}
		p, err := r.sessionPerson(ctx, tx, s)
		return s, p, err
	})
}

// ApplicationActor returns the actor that an API key and its token stand for,
// for a face that gets them with every request.
func (r *Registry) ApplicationActor(ctx context.Context, key string, token secret.String, address string) (Actor, error) {
	p := auth.Principal{Kind: auth.Application, ID: key}
	p.Org, _ = orgOfKey(key) // of a malformed key there is no account
	var with accepted
	a, err := r.account(ctx, p, func(a *account) (ok bool) {
		with, ok = r.byToken(a, token)
		return ok
	})
	switch {
	case err != nil:
	case !with.expires.IsZero() && !r.clock().Before(with.expires):
		err = errEnded
	case a.disabled:
		err = errDisabled
	case rightsIn(a.parts).Set() == 0:
		err = errNoRights
	}
	if err != nil {
		return Actor{}, r.refuseFrom(ctx, p, address, err)
	}
	by := Actor{Principal: p, Address: address}
	if err := r.unlockedActor(ctx, by, p.Org); err != nil {
		return Actor{}, r.refuseFrom(ctx, p, address, err)
	}
	r.uses.note(a, with.version, r.now(), hostOf(address))
	return by, nil
}
