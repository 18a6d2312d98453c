package permission

import "slices"

// Rights are what somebody may do in one organisation, and with which devices.
// The zero Rights are none.
type Rights struct {
	Set Set
	// Limited says that the rights over devices, and over what they send and are
	// sent, are for the devices in Groups only.
	Limited bool
	Groups  []string // resource groups, sorted
}

// Meet returns what both a and b allow.
func Meet(a, b Rights) Rights {
	m := Rights{Set: a.Set & b.Set, Limited: a.Limited || b.Limited}
	switch {
	case a.Limited && b.Limited:
		for _, g := range a.Groups {
			if slices.Contains(b.Groups, g) {
				m.Groups = append(m.Groups, g)
			}
		}
	case a.Limited:
		m.Groups = slices.Clone(a.Groups)
	case b.Limited:
		m.Groups = slices.Clone(b.Groups)
	}
	return m
}

// Covers reports whether whoever has r may give s to somebody: s allows nothing
// that r does not.
func (r Rights) Covers(s Rights) bool {
	if !r.Set.Covers(s.Set) {
		return false
	}
	if !r.Limited {
		return true
	}
	return s.Limited && !slices.ContainsFunc(s.Groups, func(g string) bool { return !slices.Contains(r.Groups, g) })
}

// A Holder is who asks, and what it holds in the organisation concerned.
type Holder struct {
	System        bool // a part of KeepMQ itself
	Administrator bool // administers the installation
	Member        bool // belongs to the organisation: a member of it, or an API key
	Unverified    bool // has not proved a second factor where the organisation asks for one
	Rights        Rights
}

// An Answer is a decision. The zero Answer refuses and tells least.
type Answer uint8

// The answers.
const (
	Hidden  Answer = iota // no, and the organisation is as if it were not there
	Denied                // no, and the holder may know that it is the permission that lacks
	Allowed               // yes
)

func (a Answer) String() string { return [...]string{"hidden", "denied", "allowed"}[a] }

// oversight is what an administrator of the installation may see of every
// organisation. To look into one it takes a member's role, or its leave.
const oversight = Set(1<<OrgRead | 1<<LimitRead)

// Decide says whether h may do p in the organisation concerned.
func Decide(h Holder, p Permission) Answer {
	switch {
	case p >= count:
		return Hidden
	case h.System,
		h.Member && !h.Unverified && h.Rights.Set.Has(p),
		h.Administrator && oversight.Has(p):
		return Allowed
	case h.Member, h.Administrator:
		return Denied
	}
	return Hidden
}
