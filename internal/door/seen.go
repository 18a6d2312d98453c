package door

import (
	"hash/maphash"
	"net/netip"
)

// seen remembers which clients authenticated from which address, in a table of
// one size. Of two that fall on the same place it remembers the later one.
type seen struct {
	seed  maphash.Seed
	marks []uint32
}

// seenPlaces is the size of the table, which takes half a megabyte.
const seenPlaces = 1 << 17

type client struct {
	addr netip.Addr
	id   string
}

func newSeen() seen { return seen{seed: maphash.MakeSeed()} }

func (s *seen) place(addr netip.Addr, id string) (at int, mark uint32) {
	h := maphash.Comparable(s.seed, client{addr, id})
	return int(h % seenPlaces), uint32(h>>32) | 1
}

func (s *seen) add(addr netip.Addr, id string) {
	if s.marks == nil {
		s.marks = make([]uint32, seenPlaces)
	}
	at, mark := s.place(addr, id)
	s.marks[at] = mark
}

func (s *seen) has(addr netip.Addr, id string) bool {
	if s.marks == nil {
		return false
	}
	at, mark := s.place(addr, id)
	return s.marks[at] == mark
}

// remove reports whether the client was there.
func (s *seen) remove(addr netip.Addr, id string) bool {
	if !s.has(addr, id) {
		return false
	}
	at, _ := s.place(addr, id)
	s.marks[at] = 0
	return true
}
