package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/auth/jwt"
	"github.com/keepmq/keepmq/internal/auth/sasl"
	"github.com/keepmq/keepmq/internal/store"
)

// Why a token is refused, beside what jwt says. These go to the log only.
var (
	errToken    = errors.New("the token is not accepted")
	errNoIssuer = errors.New("its issuer is not registered here")
	errSubject  = errors.New("it is somebody else's")
)

// bearer reads the only message of OAUTHBEARER. RFC 7628 lets a server explain
// a refusal in another round; MQTT has reason codes for what a client may know.
func (e *exchange) bearer(ctx context.Context, data []byte) ([]byte, *auth.Grant, error) {
	b, err := sasl.ParseBearer(data)
	if err != nil {
		return nil, nil, e.malformed(ctx, err)
	}
	cl, err := e.claim(ctx, "", b.Authzid)
	if err != nil {
		return nil, nil, e.malformed(ctx, err)
	}
	credential, expires, reason := e.r.checkBearer(ctx, cl.principal, b.Token)
	// Whatever is wrong with the token, the account is looked for.
	g, err := e.r.admit(ctx, cl, proof{
		accept: func(*account) (accepted, bool) {
			return accepted{credential: credential, expires: expires}, reason == nil
		},
	})
	if reason != nil {
		err = reason
	}
	if err != nil {
		return nil, nil, e.r.refuseFrom(ctx, cl.principal, addressText(e.credentials.Remote.Addr()), err)
	}
	return nil, g, nil
}

// checkBearer checks that a token is good and p's. It returns how to call what
// it was checked against in a Ref, and when it ends.
func (r *Registry) checkBearer(ctx context.Context, p auth.Principal, token string) (credential string, expires time.Time, err error) {
	rules, credential, err := r.tokenRules(ctx, p.Org, jwt.Issuer(token))
	if err != nil {
		return "", time.Time{}, err
	}
	t, err := rules.Check(token, r.clock()) // also without an issuer: the cost is the same
	switch {
	case credential == "":
		err = errNoIssuer
	case err == nil && t.Subject != p.ID:
		err = errSubject
	}
	if err != nil {
		return "", time.Time{}, fmt.Errorf("%w: %w", errToken, err)
	}
	return credential, t.Expires, nil
}

// tokenRules returns the rules for the tokens of an issuer, and how to call them
// in a Ref: nothing if there is no such issuer.
func (r *Registry) tokenRules(ctx context.Context, org auth.OrgID, issuer string) (jwt.Rules, string, error) {
	var uid string
	var version int
	err := r.db.View(forOrg(ctx, org), func(tx *store.Tx) error {
		const q = `SELECT uid, version FROM issuer WHERE org = $1 AND issuer = $2`
		return tx.QueryRowContext(ctx, q, org, issuer).Scan(&uid, &version)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return jwt.Rules{}, "", nil
	case err != nil:
		return jwt.Rules{}, "", fmt.Errorf("read issuer: %w", err)
	}
	credential := "issuer:" + uid + ":" + strconv.Itoa(version)
	if rules, ok := r.rules.get(credential); ok {
		return rules, credential, nil
	}
	i, err := r.readRules(ctx, org, uid, version)
	if err != nil {
		return jwt.Rules{}, "", err
	}
	rules := jwt.Rules{Keys: i.Keys, Algorithms: i.Algorithms, Issuer: i.Issuer, Audience: i.Audience, Subject: i.Claim}
	r.rules.put(credential, rules)
	return rules, credential, nil
}

func (r *Registry) readRules(ctx context.Context, org auth.OrgID, uid string, version int) (i Issuer, err error) {
	err = r.db.View(forOrg(ctx, org), func(tx *store.Tx) error {
		const q = `SELECT ` + issuerColumns + ` FROM issuer WHERE org = $1 AND uid = $2 AND version = $3`
		i, err = one[Issuer](tx.QueryRowContext(ctx, q, org, uid, version), fmt.Errorf("%w: %w", errToken, errCredentialChanged))
		return err
	})
	return i, err
}

// checkIssuer checks that what a token was checked against is still there.
func (r *Registry) checkIssuer(ctx context.Context, org auth.OrgID, credential string) error {
	uid, version, _ := strings.Cut(credential, ":")
	n, err := strconv.Atoi(version)
	if err != nil {
		return errCredentialChanged
	}
	const q = `SELECT COUNT(*) FROM issuer WHERE org = $1 AND uid = $2 AND version = $3`
	var found int
	err = r.db.View(forOrg(ctx, org), func(tx *store.Tx) error {
		return tx.QueryRowContext(ctx, q, org, uid, n).Scan(&found)
	})
	switch {
	case err != nil:
		return fmt.Errorf("read issuer: %w", err)
	case found != 1:
		return errCredentialChanged
	}
	return nil
}

// ruleCacheSize is how many issuers' keys are kept in memory, ready for use.
const ruleCacheSize = 1000

// ruleCache remembers the rules of issuers by what they are called in a Ref.
// Such a name never means anything else, so that nothing has to be forgotten.
type ruleCache struct {
	mu    sync.Mutex // guards rules
	rules map[string]jwt.Rules
}

func (c *ruleCache) get(credential string) (jwt.Rules, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rules, ok := c.rules[credential]
	return rules, ok
}

func (c *ruleCache) put(credential string, rules jwt.Rules) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rules == nil {
		c.rules = map[string]jwt.Rules{}
	}
	if len(c.rules) >= ruleCacheSize {
		for victim := range c.rules { // any one
			delete(c.rules, victim)
			break
		}
	}
	c.rules[credential] = rules
}
