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
func (r Rights) Covers(s Rights) bool { return Held{r}.Covers(s) }

// Held are the rights of somebody who has them from several sides, as a role of
// their own and teams: whatever one of them allows. The zero Held are none.
type Held []Rights

// Set returns what h allows, whatever it is limited to.
func (h Held) Set() Set {
	var s Set
	for _, r := range h {
		s |= r.Set
	}
	return s
}

// Reach returns with which devices h allows p: all, or those in groups.
func (h Held) Reach(p Permission) (limited bool, groups []string) {
	for _, r := range h {
		switch {
		case !r.Set.Has(p):
		case !r.Limited:
			return false, nil
		default:
			groups = append(groups, r.Groups...)
		}
	}
	slices.Sort(groups)
	return true, slices.Compact(groups)
}

// Covers reports whether whoever has h may give s to somebody: s allows nothing
// that h does not.
func (h Held) Covers(s Rights) bool {
	for p := range count {
		if !s.Set.Has(p) {
			continue
		}
		if !h.Set().Has(p) {
			return false
		}
		limited, groups := h.Reach(p)
		if limited && (!s.Limited || slices.ContainsFunc(s.Groups, func(g string) bool { return !slices.Contains(groups, g) })) {
			return false
		}
	}
	return true
}

// Within returns what both h and r allow.
func (h Held) Within(r Rights) Held {
	var m Held
	for _, part := range h {
		if x := Meet(r, part); x.Set != 0 {
			m = append(m, x)
		}
	}
	return m
}

// A Holder is who asks, and what it holds in the organisation concerned.
type Holder struct {
	System        bool // a part of KeepMQ itself
	Administrator bool // administers the installation
	Member        bool // belongs to the organisation: a member of it, or an API key
	Unverified    bool // has not proved a second factor where the organisation asks for one
	Rights        Held

	// How far the permission goes that was asked for last, as Reach says.
	Limited bool
	Groups  []string
}

// Reach returns with which devices h may do p, which it may do: all, or those in
// groups. What is not of one device it may do only without a limit.
func (h Holder) Reach(p Permission) (limited bool, groups []string) {
	if h.System || !h.Rights.Set().Has(p) {
		return false, nil
	}
	return h.Rights.Reach(p)
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
		h.Member && !h.Unverified && h.Rights.Set().Has(p),
		h.Administrator && oversight.Has(p):
		return Allowed
	case h.Member, h.Administrator:
		return Denied
	}
	return Hidden
}
