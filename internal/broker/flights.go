package broker

// flights are the QoS 1 and 2 messages that a client has been sent and has not
// acknowledged, by packet identifier. Identifiers are given one after the other,
// so a table of twice as many places as there are messages finds each in its own
// place, or next to it.
type flights struct {
	places []flight // a power of two of them
	n      int
}

type flight struct {
	id uint16 // 0: none
	outgoing
}

// leastPlaces is what a table begins with.
const leastPlaces = 8

func (f *flights) len() int { return f.n }

// find returns where id is, or where it would be.
func (f *flights) find(id uint16) int {
	mask := len(f.places) - 1
	at := int(id) & mask
	for f.places[at].id != id && f.places[at].id != 0 {
		at = (at + 1) & mask
	}
	return at
}

func (f *flights) get(id uint16) (outgoing, bool) {
	if f.n == 0 || id == 0 {
		return outgoing{}, false
	}
	p := &f.places[f.find(id)]
	return p.outgoing, p.id != 0
}

// put adds a message, or replaces the one of that identifier, which is not 0.
func (f *flights) put(id uint16, m outgoing) {
	if 2*f.n >= len(f.places) {
		f.resize(max(leastPlaces, 2*len(f.places)))
	}
	p := &f.places[f.find(id)]
	if p.id == 0 {
		f.n++
	}
	*p = flight{id, m}
}

// remove removes a message, if it is there. What stood behind it because its place
// was taken moves up.
func (f *flights) remove(id uint16) {
	if f.n == 0 || id == 0 {
		return
	}
	free := f.find(id)
	if f.places[free].id == 0 {
		return
	}
	f.n--
	mask := len(f.places) - 1
	for at := (free + 1) & mask; f.places[at].id != 0; at = (at + 1) & mask {
		home := int(f.places[at].id) & mask
		if (at-home)&mask >= (at-free)&mask {
			f.places[free] = f.places[at]
			free = at
		}
	}
	f.places[free] = flight{}
	if f.n == 0 && len(f.places) > 16*leastPlaces {
		f.places = nil // whoever was slow once need not stay large
	}
}

func (f *flights) resize(n int) {
	old := f.places
	f.places = make([]flight, n)
	for i := range old {
		if old[i].id != 0 {
			f.places[f.find(old[i].id)] = old[i]
		}
	}
}
