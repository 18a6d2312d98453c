// Package permission names what may be done in an organisation and decides who
// may do it.
//
// It is pure: values, no I/O. A decision follows from who asks, what it holds in
// the organisation concerned, and nothing else. Whatever is made by somebody, an
// API key or a role, can never do more than whoever made it.
package permission

import (
	"math/bits"
	"strings"

	"github.com/keepmq/keepmq/internal/errs"
)

// A Permission is one thing that may be done in an organisation.
type Permission uint8

// The permissions. Only their names are stored.
const (
	OrgRead          Permission = iota // see the organisation itself
	OrgWrite                           // rename it, choose how it works
	TypeRead                           // see device types
	TypeWrite                          // create and delete device types
	DeviceRead                         // see devices and gateways
	DeviceWrite                        // create, disable, attach and delete them
	DeviceCredential                   // give them tokens and certificates, and take them away
	ApplicationRead                    // see API keys
	ApplicationWrite                   // create, change and delete API keys
	UserRead                           // see plain MQTT users
	UserWrite                          // create, change and delete them
	RuleRead                           // see the topic rules for all MQTT users
	RuleWrite                          // change them
	IssuerRead                         // see the identity providers whose tokens are accepted
	IssuerWrite                        // change them
	LimitRead                          // see limits and what is used of them
	LimitWrite                         // lower the limits of device types
	GroupRead                          // see resource groups
	GroupWrite                         // change them and who is limited to them
	MemberRead                         // see who belongs to the organisation
	MemberWrite                        // invite, change and remove people
	RoleRead                           // see roles
	RoleWrite                          // change roles of the organisation's own
	AuditRead                          // read and export the audit record
	LockRead                           // see locks
	LockWrite                          // lock somebody out, and let in again
	NetworkRead                        // see network rules and connection policies
	NetworkWrite                       // change them
	AlertRead                          // see alerts and where they are sent
	AlertWrite                         // change them
	Explain                            // ask why something is allowed or refused
	SupportWrite                       // let the installation's operator look in
	EventPublish                       // publish events of devices
	EventReceive                       // receive them
	CommandPublish                     // publish commands to devices
	CommandReceive                     // receive them
	MonitorReceive                     // receive what the platform says about devices and applications
	CredentialRead                     // see how old tokens are, when they end and when they were used
	count
)

var names = [count]string{
	OrgRead: "org:read", OrgWrite: "org:write", TypeRead: "type:read", TypeWrite: "type:write",
	DeviceRead: "device:read", DeviceWrite: "device:write", DeviceCredential: "device:credential",
	ApplicationRead: "application:read", ApplicationWrite: "application:write",
	UserRead: "user:read", UserWrite: "user:write", RuleRead: "rule:read", RuleWrite: "rule:write",
	IssuerRead: "issuer:read", IssuerWrite: "issuer:write", LimitRead: "limit:read", LimitWrite: "limit:write",
	GroupRead: "group:read", GroupWrite: "group:write", MemberRead: "member:read", MemberWrite: "member:write",
	RoleRead: "role:read", RoleWrite: "role:write", AuditRead: "audit:read", LockRead: "lock:read", LockWrite: "lock:write",
	NetworkRead: "network:read", NetworkWrite: "network:write", AlertRead: "alert:read", AlertWrite: "alert:write",
	Explain: "explain", SupportWrite: "support:write",
	EventPublish: "event:publish", EventReceive: "event:receive", CommandPublish: "command:publish",
	CommandReceive: "command:receive", MonitorReceive: "monitor:receive",
	CredentialRead: "credential:read",
}

func (p Permission) String() string {
	if p < count {
		return names[p]
	}
	return "unknown"
}

// A Set is a set of permissions. The zero Set is empty.
type Set uint64

// Of returns the set of ps.
func Of(ps ...Permission) Set {
	var s Set
	for _, p := range ps {
		s |= 1 << p
	}
	return s
}

// All is every permission.
const All Set = 1<<count - 1

// Has reports whether p is in s.
func (s Set) Has(p Permission) bool { return p < count && s&(1<<p) != 0 }

// Covers reports whether all of t is in s.
func (s Set) Covers(t Set) bool { return t&^s == 0 }

// Without returns s without ps.
func (s Set) Without(ps ...Permission) Set { return s &^ Of(ps...) }

// Names returns the names of the permissions in s, in their fixed order.
func (s Set) Names() []string {
	all := make([]string, 0, bits.OnesCount64(uint64(s)))
	for p := range count {
		if s.Has(p) {
			all = append(all, names[p])
		}
	}
	return all
}

// String returns the names with spaces between them, as they are stored.
func (s Set) String() string { return strings.Join(s.Names(), " ") }

// Parse returns the set of the named permissions, or an error that names one
// that there is not.
func Parse(list []string) (Set, error) {
	var s Set
	for _, name := range list {
		p, ok := find(name)
		if !ok {
			return 0, errs.E(errs.Invalid, "there is no permission %q; there are: %s", clip(name), All.String())
		}
		s |= 1 << p
	}
	return s, nil
}

// Stored reads what String wrote. A name that is not known grants nothing.
func Stored(s string) Set {
	var set Set
	for name := range strings.FieldsSeq(s) {
		if p, ok := find(name); ok {
			set |= 1 << p
		}
	}
	return set
}

func find(name string) (Permission, bool) {
	for p := range count {
		if names[p] == name {
			return p, true
		}
	}
	return 0, false
}

func clip(s string) string { return s[:min(len(s), 60)] }
