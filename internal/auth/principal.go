// Package auth decides who a client is and what it may do.
//
// It is pure: values, no I/O. A Verifier turns credentials into a Grant; the
// broker then asks nobody else. A Grant is immutable, so that a new policy is a
// new Grant, and a check is a function call without a lock.
package auth

import (
	"strings"

	"github.com/keepmq/keepmq/internal/errs"
)

// An OrgID names an organisation: six lower-case letters or digits. It is a
// field of everything that belongs to an organisation, never part of a topic.
type OrgID string

// ParseOrgID checks s and returns it as an OrgID.
func ParseOrgID(s string) (OrgID, error) {
	if len(s) != 6 {
		return "", errs.E(errs.Invalid, "organisation id must have 6 characters, has %d", len(s))
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return "", errs.E(errs.Invalid, "organisation id must consist of a-z and 0-9")
		}
	}
	return OrgID(s), nil
}

// A Kind is the kind of a principal.
type Kind byte

// The kinds of principals. The values are stored: never renumber them.
const (
	AnyKind     Kind = iota // in a change: every principal of the organisation
	Device                  // a device; its ID is "type:id"
	Gateway                 // a gateway; its ID is "type:id"
	Application             // an API key; its ID is the key
	User                    // a plain MQTT user; its ID is the user name
	Person                  // a person; its ID is the person's id
	System                  // a part of KeepMQ itself; its ID says which
	Anonymous               // a client without a name, where an organisation lets it in; it has no ID
	Service                 // a service account, behind API keys; its ID is its name
)

var kindNames = [...]string{"any", "device", "gateway", "application", "user", "person", "system", "anonymous", "service"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// A Principal is an authenticated identity. It is comparable.
type Principal struct {
	Org  OrgID
	Kind Kind
	ID   string
}

// String returns the principal as "kind:org:id", for logs and the audit record.
func (p Principal) String() string {
	return p.Kind.String() + ":" + string(p.Org) + ":" + p.ID
}

// Covers reports whether a change of p concerns q: they are the same, or p
// stands for q's whole organisation.
func (p Principal) Covers(q Principal) bool {
	return p == q || p.Kind == AnyKind && p.Org == q.Org
}

// TypeAndID splits the ID of a device or gateway into its type and its id.
func (p Principal) TypeAndID() (typ, id string) {
	typ, id, _ = strings.Cut(p.ID, ":")
	return typ, id
}

// CheckName checks a device type, a device id or an application id: 1 to 36
// letters, digits, dots, underscores and hyphens. field names it in the error.
func CheckName(field, s string) error {
	if s == "" || len(s) > 36 {
		return errs.E(errs.Invalid, "%s must have 1 to 36 characters, has %d", field, len(s))
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return errs.E(errs.Invalid, "%s may contain letters, digits, dot, underscore and hyphen only", field)
		}
	}
	return nil
}
