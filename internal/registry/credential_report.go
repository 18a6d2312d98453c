package registry

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/store"
)

// A Used is when, and from where, something was last used; the zero Used: never.
type Used struct {
	At      time.Time
	Address string
}

// A Credential is what may be known of the tokens of a device, a gateway, an API
// key or an MQTT user.
type Credential struct {
	Holder   auth.Principal
	Name     string // of an API key, for people
	Disabled bool
	Version  int       // counts the tokens
	Made     time.Time // the present one
	Expires  time.Time // zero: never
	Last     Used      // with the present token

	Before      time.Time // when the token before ends; zero: there is none
	LastBefore  Used      // with the token before
	LastWithout Used      // with a certificate, or a token of somebody else's
}

// A CredentialFilter says which tokens a report is about. The zero filter is all.
type CredentialFilter struct {
	Kind      auth.Kind     // auth.Device: gateways, too; 0: every kind
	OlderThan time.Duration // the present token was made so long ago, or longer
	Unused    time.Duration // and was not used for so long
	Never     bool          // it was never used
	Ending    time.Duration // it ends within so long, or has ended
	Two       bool          // the token before is good, too
}

func (f CredentialFilter) check() error {
	var bad mistakes
	switch f.Kind {
	case 0, auth.Device, auth.Gateway, auth.Application, auth.User:
	default:
		bad.add(errs.E(errs.Invalid, `kind must be "device", "gateway", "application" or "user"`))
	}
	if f.OlderThan < 0 || f.Unused < 0 || f.Ending < 0 {
		bad.add(errs.E(errs.Invalid, "durations must not be negative"))
	}
	return bad.err()
}

// matches reports whether c, which was read at now, is one that f asks for.
func (f CredentialFilter) matches(c Credential, now time.Time) bool {
	used := c.Last.At
	if used.IsZero() {
		used = c.Made
	}
	return (f.Kind != auth.Gateway || c.Holder.Kind == auth.Gateway) &&
		(f.OlderThan == 0 || !c.Made.After(now.Add(-f.OlderThan))) &&
		(f.Unused == 0 || !used.After(now.Add(-f.Unused))) &&
		(!f.Never || c.Last.At.IsZero()) &&
		(f.Ending == 0 || !c.Expires.IsZero() && !c.Expires.After(now.Add(f.Ending))) &&
		(!f.Two || !c.Before.IsZero())
}

// A credentialSource is where tokens of a kind are stored. query takes the
// organisation, the two parts of the name to go on behind, and how many.
type credentialSource struct {
	kind  auth.Kind
	query string
}

const tokenColumns = `h.token_version, h.token_at, h.token_until, h.old_hash IS NOT NULL, h.old_until, h.disabled,
	COALESCE(n.used_at, 0), COALESCE(n.address, ''), COALESCE(b.used_at, 0), COALESCE(b.address, ''), COALESCE(w.used_at, 0), COALESCE(w.address, '')`

const tokenUses = ` LEFT JOIN credential_use n ON n.org = h.org AND n.uid = h.uid AND n.version = h.token_version
	LEFT JOIN credential_use b ON b.org = h.org AND b.uid = h.uid AND b.version = h.token_version - 1 AND b.version > 0
	LEFT JOIN credential_use w ON w.org = h.org AND w.uid = h.uid AND w.version = 0 `

var credentialSources = []credentialSource{
	{auth.Device, `SELECT h.type, h.id, h.class, '', ` + tokenColumns + ` FROM device h` + tokenUses +
		`WHERE h.org = $1 AND (h.type, h.id) > ($2, $3) ORDER BY h.type, h.id LIMIT $4`},
	{auth.Application, `SELECT h.key, '', '', h.name, ` + tokenColumns + ` FROM application h` + tokenUses +
		`WHERE h.org = $1 AND h.key > $2 AND $3 = '' ORDER BY h.key LIMIT $4`},
	{auth.User, `SELECT h.name, '', '', '', ` + tokenColumns + ` FROM mqtt_user h` + tokenUses +
		`WHERE h.org = $1 AND h.name > $2 AND $3 = '' ORDER BY h.name LIMIT $4`},
}

// credentialsPerPage is how many tokens are looked at for one page.
const credentialsPerPage = 5000

// Credentials reports on the tokens of an organisation: of devices, then of API
// keys, then of MQTT users. A page may be short, or empty, and not the last: most of
// those looked at may not be what the filter asks for.
func (r *Registry) Credentials(ctx context.Context, a Actor, org auth.OrgID, f CredentialFilter, p Page) ([]Credential, string, error) {
	ctx, h, err := r.mayAs(ctx, a, org, permission.CredentialRead)
	if err == nil {
		err = unlimited(h)
	}
	if err == nil {
		err = f.check()
	}
	if err != nil {
		return nil, "", err
	}
	size, err := p.size()
	if err != nil {
		return nil, "", err
	}
	key, err := p.after("credential", 3)
	if err != nil {
		return nil, "", err
	}
	source := 0
	if key[0] != "" {
		if source, err = strconv.Atoi(key[0]); err != nil || source < 0 || source >= len(credentialSources) {
			return nil, "", errs.E(errs.Invalid, "after is not a position in this list; start again without it")
		}
	}
	if err := r.StoreUses(ctx); err != nil {
		return nil, "", fault(err)
	}
	s := credentialScan{org: org, filter: f, size: size, now: r.now()}
	err = r.view(ctx, func(tx *store.Tx) error {
		s.found, s.next, s.left = []Credential{}, "", credentialsPerPage
		if _, err := readOrg(ctx, tx, org); err != nil {
			return err
		}
		x, y := key[1], key[2]
		for i := source; i < len(credentialSources); i++ {
			if full, err := s.scan(ctx, tx, i, x, y); err != nil || full {
				return err
			}
			x, y = "", ""
		}
		return nil
	})
	return s.found, s.next, err
}

// A credentialScan looks for one page of tokens.
type credentialScan struct {
	org    auth.OrgID
	filter CredentialFilter
	size   int
	now    time.Time
	left   int // to be looked at
	found  []Credential
	next   string
}

// errFull ends a look at rows.
var errFull = errors.New("the page is full")

// scan looks at one source behind (x, y), and reports whether the page is full.
func (s *credentialScan) scan(ctx context.Context, tx *store.Tx, i int, x, y string) (full bool, err error) {
	from := credentialSources[i]
	if k := s.filter.Kind; k != 0 && k != from.kind && (k != auth.Gateway || from.kind != auth.Device) {
		return false, nil
	}
	rows, err := tx.QueryContext(ctx, from.query, s.org, x, y, s.left+1)
	if err != nil {
		return false, fmt.Errorf("list tokens: %w", err)
	}
	err = each(rows, func() error {
		if s.left == 0 || len(s.found) == s.size {
			s.next = cursor("credential", strconv.Itoa(i), x, y)
			return errFull
		}
		c, nx, ny, err := s.read(from.kind, rows)
		if err != nil {
			return fmt.Errorf("read token: %w", err)
		}
		s.left--
		x, y = nx, ny
		if s.filter.matches(c, s.now) {
			s.found = append(s.found, c)
		}
		return nil
	})
	if errors.Is(err, errFull) {
		return true, nil
	}
	return false, err
}

func (s *credentialScan) read(kind auth.Kind, row scanner) (c Credential, x, y string, err error) {
	var class string
	var made, until, oldUntil, last, before, without int64
	var two bool
	err = row.Scan(&x, &y, &class, &c.Name, &c.Version, &made, &until, &two, &oldUntil, &c.Disabled,
		&last, &c.Last.Address, &before, &c.LastBefore.Address, &without, &c.LastWithout.Address)
	c.Holder = auth.Principal{Org: s.org, Kind: kind, ID: x}
	if kind == auth.Device {
		c.Holder.Kind, c.Holder.ID = kindOf(class), x+":"+y
	}
	c.Made, c.Expires = fromMicros(made), orZero(until)
	c.Last.At, c.LastBefore.At, c.LastWithout.At = orZero(last), orZero(before), orZero(without)
	if c.Before = orZero(oldUntil); !two || !s.now.Before(c.Before) {
		c.Before, c.LastBefore = time.Time{}, Used{}
	}
	return c, x, y, err
}
